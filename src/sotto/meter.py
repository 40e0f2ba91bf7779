"""Times what flows through a job's stages, and can stop the flow.

Invariant: a stopped meter lets no further item through any of its stages, so that a cancelled job
lets go of its thread within one block of audio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Laps:
    """Seconds of stages that follow each other, from when it is made on."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._clock = self._begun
        self._seconds: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """Book the time since the last lap, or since the start, to `stage`."""
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._clock
        self._clock = now

    def seconds(self) -> dict[str, float]:
        """Seconds by stage."""
        return dict(self._seconds)

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begun


class Meter:
    """Seconds of chained iterators, in one thread or several.

    The time that a stage waits for another that is watched too is not its own.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._running = _Running()
        self._stopped = False

    def watch(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass `items` on and time how long they take to come."""
        self._seconds[stage] = 0.0  # here, since the outermost generator begins first
        return self._timed(stage, iter(items))

    def stop(self) -> None:
        """End every stage at its next item."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """For a stage that waits for something by itself."""
        return self._stopped

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, each without the stages that it called."""
        return dict(self._seconds)

    def _timed(self, stage: str, source: Iterator[Item]) -> Iterator[Item]:
        while not self._stopped:
            outer, self._running.inner_s = self._running.inner_s, 0.0
            before = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                took = time.perf_counter() - before
                self._seconds[stage] += took - self._running.inner_s
                self._running.inner_s = outer + took
            yield item


class _Running(threading.local):
    """The seconds that stages took inside the one that runs in this thread."""

    inner_s = 0.0
