"""Times and counts what flows through a job's stages, and can stop the flow.

Invariant: a stopped meter lets no further item through any of its stages, so that a cancelled job
lets go of its thread within one block of audio.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Meter:
    """Seconds by stage of one job.

    Laps follow each other. Stages are chained iterators, so the time that a stage takes includes
    the stages before it, which `stages` takes off again.
    """

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._clock = self._begun
        self._laps: dict[str, float] = {}
        self._inclusive: dict[str, float] = {}
        self._stopped = False

    def lap(self, stage: str) -> None:
        """Book the time since the last lap, or since the start, to `stage`."""
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._clock
        self._clock = now

    def watch(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass `items` on and time how long they take to come; watch inner stages first."""
        self._inclusive[stage] = 0.0  # here, since the outermost generator begins first
        return self._timed(stage, iter(items))

    def _timed(self, stage: str, source: Iterator[Item]) -> Iterator[Item]:
        while not self._stopped:
            before = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self._inclusive[stage] += time.perf_counter() - before
            yield item

    def stop(self) -> None:
        """End every stage at its next item."""
        self._stopped = True

    def laps(self) -> dict[str, float]:
        """Seconds by lap."""
        return dict(self._laps)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, each without the stages before it."""
        result: dict[str, float] = {}
        inner = 0.0
        for stage, inclusive in self._inclusive.items():
            result[stage] = inclusive - inner
            inner = inclusive
        return result

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begun
