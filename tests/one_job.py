"""A job's windows without its audio: made, asked for and given back in order.

Invariant: a job that hangs fails its test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from typing import TypeVar

import numpy as np
from tests.gate import HANG_S, features

from sotto.asking import Asker
from sotto.audio.pcm import Span
from sotto.audio.windows import Window
from sotto.engine.base import Decoded
from sotto.engine.batcher import Batcher
from sotto.ordering import Featured, in_order
from sotto.request import Request, parse
from sotto.transcript.parts import Part

T = TypeVar("T")


def request(**options: object) -> Request:
    return parse({"audio_base64": "UklGRg==", "language": "en", **options})


def windows(count: int, frames: int = 200) -> Iterator[Featured]:
    """Windows of a file that is spoken without a pause."""
    for index in range(count):
        samples = frames * 160
        piece = Span(index * samples, (index + 1) * samples)
        pcm = np.zeros(samples, np.float32)
        yield Window(index, (piece,), (piece,), pcm), features(index, frames)


def ordered(
    items: Iterator[Featured | None],
    batcher: Batcher,
    threads: Executor,
    *,
    stop: Callable[[], None] = lambda: None,
    ahead: int = 8,
    **options: object,
) -> AsyncGenerator[list[Part], None]:
    """The windows `items` of a job with these options, decoded in order."""
    asker = Asker(request(**options), batcher, threads, object())
    return in_order(items, asker, threads, lambda: ahead, stop)


def finish(job: Coroutine[object, object, T]) -> T:
    """Run `job` in an event loop of its own; one that hangs fails."""

    async def bounded() -> T:
        async with asyncio.timeout(HANG_S):
            return await job

    return asyncio.run(bounded())


def numbers(results: Sequence[tuple[int, Decoded]]) -> list[int]:
    return [index for index, _ in results]


async def collected(decoded: AsyncGenerator[list[Part], None]) -> list[list[Part]]:
    async with aclosing(decoded):
        return [parts async for parts in decoded]


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in threads
        await asyncio.sleep(0.002)
