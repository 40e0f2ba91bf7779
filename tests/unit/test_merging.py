"""Streams of segments, one for each channel, as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from tests.one_job import finish

from sotto.errors import EngineError
from sotto.merging import merged
from sotto.transcript.segments import Segment


def segment(channel: int, start_s: float) -> Segment:
    return Segment(1, 0, start_s, start_s + 1, "", (), 0.0, 0.0, 1.0, 0.0, "en", channel, None)


async def said(channel: int, *starts_s: float) -> AsyncGenerator[Segment, None]:
    for start_s in starts_s:
        await asyncio.sleep(0)
        yield segment(channel, start_s)


async def collected(*streams: AsyncGenerator[Segment, None]) -> list[tuple[float, int | None]]:
    async with aclosing(merged(streams)) as segments:
        return [(one.start_s, one.channel) async for one in segments]


def test_segments_come_in_the_order_of_their_starts_and_then_of_their_channels() -> None:
    both = finish(collected(said(0, 1, 4, 6), said(1, 1, 2, 6, 7), said(2)))
    assert both == [(1, 0), (1, 1), (2, 1), (4, 0), (6, 0), (6, 1), (7, 1)]


def test_no_stream_gives_nothing() -> None:
    assert finish(collected(said(0))) == []


@pytest.mark.parametrize("bad", [0, 1])
def test_a_channel_that_fails_at_once_waits_for_none_that_is_silent(bad: int) -> None:
    closed: list[str] = []

    async def silent() -> AsyncGenerator[Segment, None]:
        try:
            await asyncio.Event().wait()
            yield segment(0, 0)
        finally:
            closed.append("silent")

    async def broken() -> AsyncGenerator[Segment, None]:
        raise EngineError("bad window")
        yield segment(0, 0)

    async def both() -> None:
        streams = [silent(), silent()]
        streams[bad] = broken()
        with pytest.raises(EngineError, match="bad window"):
            await collected(*streams)
        assert closed == ["silent"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(both())


def test_who_stops_waiting_for_the_first_segments_leaves_no_task() -> None:
    async def silent() -> AsyncGenerator[Segment, None]:
        await asyncio.Event().wait()
        yield segment(0, 0)

    async def stopped() -> None:
        job = asyncio.create_task(collected(silent(), silent()))
        await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(stopped())
