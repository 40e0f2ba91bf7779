"""A job's segments into its stream, as they become final.

Invariant: the job waits for its stream only when it has no more segments; they go out in order,
and all of them before the job's answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sotto.transcript.record import segment_record
from sotto.transcript.segments import Segment
from sotto.worker.channel import Channel

MOST_SEGMENTS = 100
"""In one item: with their words they stay below the 1 MB that the platform takes in one piece."""


class Feed:
    """Entered for one job. An item is `{"segments": [...]}`: what has become final since the last.

    While an item is under way, segments gather for the next one: a stream that is slower than the
    engine gets larger items, and the job is as fast as without it.
    """

    def __init__(self, channel: Channel, *, with_words: bool) -> None:
        self._channel = channel
        self._with_words = with_words
        self._waiting: list[Any] = []
        self._sender: asyncio.Task[None] | None = None

    def add(self, segment: Segment) -> None:
        """Send `segment` as soon as the stream is free."""
        record = segment_record(segment, with_words=self._with_words)
        self._waiting.append(msgspec.to_builtins(record))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._sender is None:
            return
        if kind is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        else:
            await self._sender

    async def _send(self) -> None:
        while self._waiting:
            item, self._waiting = self._waiting[:MOST_SEGMENTS], self._waiting[MOST_SEGMENTS:]
            await self._channel.stream({"segments": item})
