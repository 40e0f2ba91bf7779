"""A device that is not there: how well is it kept busy, and what is it asked for?

Invariant: windows are asked for by Sotto's own pipeline, so that they are what a worker's engine
would get, options and all.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ours import job, request
from sotto.engine.base import Ask, Decoded
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.settings import Settings
from sotto.workshop import Workshop


@dataclass
class Device(FakeEngine):
    """A fake engine that remembers when it worked: start and end of each call."""

    worked: list[tuple[float, float]] = field(default_factory=list)

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        """See Engine.decode."""
        start = time.perf_counter()
        results = FakeEngine.decode(self, asks)
        self.worked.append((start, time.perf_counter()))
        return results

    def busy_share(self) -> float:
        """The part of the time from the first call's start to the last one's end that it worked."""
        spent = sum(end - start for start, end in self.worked)
        return spent / (self.worked[-1][1] - self.worked[0][0])


class FirstInFirstOut(Batcher):
    """A batcher that knows no jobs: what came first goes first, as in a plain queue."""

    def submit(self, _job: Hashable, ask: Ask) -> Future[Decoded]:
        """See Batcher.submit."""
        return super().submit("everyone", ask)


class _Listener(Batcher):
    """A batcher that keeps what it is asked."""

    def __init__(self, mels: int) -> None:
        super().__init__(FakeEngine(mels=mels))
        self.asks: list[Ask] = []

    def submit(self, job: Hashable, ask: Ask) -> Future[Decoded]:
        """See Batcher.submit."""
        self.asks.append(ask)
        return super().submit(job, ask)


async def asks(path: str | Path, options: Mapping[str, Any], mels: int = 80) -> list[Ask]:
    """What a job asks the engine for, window by window, features computed."""
    workshop = Workshop(Settings(audio_roots=("/",), engine="fake"))
    listener = _Listener(mels)
    try:
        await job(workshop, request(path, options), listener)
    finally:
        listener.close()
        workshop.close()
    return listener.asks
