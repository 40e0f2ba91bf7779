"""Times and counts what flows through a job's stages, and can stop the flow.

Invariant: a stopped meter lets no further item through any of its stages, so that a cancelled job
lets go of its thread within one block of audio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Meter:
    """Seconds by stage of one job.

    Laps follow each other. Stages are chained iterators, in one thread or several: the time that a
    stage waits for another that is watched too is not its own.
    """

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._clock = self._begun
        self._laps: dict[str, float] = {}
        self._stages: dict[str, float] = {}
        self._running = _Running()
        self._stopped = False

    def lap(self, stage: str) -> None:
        """Book the time since the last lap, or since the start, to `stage`."""
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._clock
        self._clock = now

    def watch(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass `items` on and time how long they take to come."""
        self._stages[stage] = 0.0  # here, since the outermost generator begins first
        return self._timed(stage, iter(items))

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
                self._stages[stage] += took - self._running.inner_s
                self._running.inner_s = outer + took
            yield item

    def stop(self) -> None:
        """End every stage at its next item."""
        self._stopped = True

    def laps(self) -> dict[str, float]:
        """Seconds by lap."""
        return dict(self._laps)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, each without the stages that it called."""
        return dict(self._stages)

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begun


class _Running(threading.local):
    """The seconds that stages took inside the one that runs in this thread."""

    inner_s = 0.0
