"""Batchers, and jobs that go through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
from tests.one_job import finish, ordered

from sotto.engine.base import Decoded
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.ordering import Featured


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def start() -> Iterator[Callable[..., Batcher]]:
    """Makes batchers that are closed after the test."""
    started: list[Batcher] = []

    def make(engine: FakeEngine, **options: int) -> Batcher:
        started.append(Batcher(engine, **options))
        return started[-1]

    yield make
    for batcher in started:
        batcher.close()


@pytest.fixture
def decode(threads, start):
    """Runs windows through an engine; gives what came out, and the error that ended it."""

    def run(
        items: Iterable[Featured], engine: FakeEngine, ahead: int = 8, **options: object
    ) -> tuple[list[tuple[int, Decoded]], BaseException | None]:
        results: list[tuple[int, Decoded]] = []

        async def consume() -> None:
            async with aclosing(
                ordered(iter(items), start(engine), threads, ahead=ahead, **options)
            ) as decoded:
                async for (part,) in decoded:
                    results.append((part.window.index, part.decoded))
            assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            finish(consume())
        except Exception as error:
            return results, error
        return results, None

    return run
