"""The way of a job's segments into its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sotto.transcript.segments import Segment
from sotto.transcript.words import Word
from sotto.worker.feed import MOST_SEGMENTS, Feed


class Stream:
    """A channel that keeps each item, and lets it pass when `passing` is set."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.passing = asyncio.Event()
        self.busy = asyncio.Event()
        self.sent = asyncio.Event()

    async def progress(self, update: Mapping[str, Any]) -> None:
        raise AssertionError(f"a stream tells of no progress: {update}")

    async def stream(self, item: Any) -> None:
        self.busy.set()
        await self.passing.wait()
        self.items.append(item)
        self.sent.set()


def segment(number: int) -> Segment:
    return Segment(
        id=number,
        seek=0,
        start_s=float(number),
        end_s=number + 0.5,
        text=f" word {number}",
        tokens=(number,),
        words=(Word(f" word {number}", float(number), number + 0.5, 0.9),),
        temperature=0.0,
        avg_logprob=-0.2,
        no_speech_prob=0.01,
        compression_ratio=1.2,
        language="en",
        channel=None,
    )


def numbers(stream: Stream) -> list[list[int]]:
    return [[one["id"] for one in item["segments"]] for item in stream.items]


def test_segments_that_come_while_an_item_is_under_way_go_together_in_the_next() -> None:
    async def fed() -> Stream:
        stream = Stream()
        async with Feed(stream, with_words=False) as feed:
            feed.add(segment(1))
            await stream.busy.wait()
            for number in range(2, 5):
                feed.add(segment(number))
            stream.passing.set()
        return stream

    assert numbers(asyncio.run(fed())) == [[1], [2, 3, 4]]


def test_a_long_queue_goes_out_in_items_of_bounded_size_before_the_block_ends() -> None:
    count = 2 * MOST_SEGMENTS + 50

    async def fed() -> Stream:
        stream = Stream()
        stream.passing.set()
        async with Feed(stream, with_words=False) as feed:
            for number in range(count):
                feed.add(segment(number))
        return stream

    found = numbers(asyncio.run(fed()))
    assert [len(item) for item in found] == [MOST_SEGMENTS, MOST_SEGMENTS, 50]
    assert [number for item in found for number in item] == list(range(count))


def test_a_segment_that_comes_when_all_have_gone_out_goes_out_too() -> None:
    async def fed() -> Stream:
        stream = Stream()
        stream.passing.set()
        async with Feed(stream, with_words=False) as feed:
            feed.add(segment(1))
            await stream.sent.wait()
            feed.add(segment(2))
        return stream

    assert numbers(asyncio.run(fed())) == [[1], [2]]


@pytest.mark.parametrize("with_words", [True, False])
def test_words_are_in_the_stream_when_they_are_in_the_answer(with_words: bool) -> None:
    async def fed() -> Stream:
        stream = Stream()
        stream.passing.set()
        async with Feed(stream, with_words=with_words) as feed:
            feed.add(segment(1))
        return stream

    (item,) = asyncio.run(fed()).items
    assert ("words" in item["segments"][0]) is with_words


def test_a_job_that_fails_does_not_wait_for_its_stream() -> None:
    stream = Stream()

    async def fails() -> None:
        async with Feed(stream, with_words=False) as feed:
            feed.add(segment(1))
            await stream.busy.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fails())
    assert stream.items == []


def test_a_job_that_is_stopped_while_it_waits_for_its_stream_stops() -> None:
    async def fed() -> Stream:
        stream = Stream()

        async def job() -> None:
            async with Feed(stream, with_words=False) as feed:
                feed.add(segment(1))

        running = asyncio.create_task(job())
        await stream.busy.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return stream

    assert asyncio.run(fed()).items == []


def test_a_job_without_segments_has_nothing_to_wait_for() -> None:
    async def fed() -> Stream:
        stream = Stream()
        async with Feed(stream, with_words=False):
            pass
        return stream

    assert asyncio.run(fed()).items == []
