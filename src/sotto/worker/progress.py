"""How far a job is, told now and then.

Invariant: the job never waits for an update to be sent, and at most one is under way.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from sotto.worker.channel import Channel
from sotto.worker.work import HowFar

PROGRESS_EVERY_S = 3.0


class Progress:
    """The updates of one job over its channel."""

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._due = -math.inf
        self._under_way: asyncio.Task[None] | None = None

    def tell(self, far: HowFar) -> None:
        """Send this update, or drop it if the last one is too fresh or still under way."""
        now = self._clock()
        if now < self._due or (self._under_way is not None and not self._under_way.done()):
            return
        self._due = now + PROGRESS_EVERY_S
        total_s = far.audio_s_total
        update = {
            "stage": far.stage,
            "audio_s_done": round(far.audio_s_done, 2),
            "audio_s_total": None if total_s is None else round(total_s, 2),
            "segments": far.segments,
        }
        self._under_way = asyncio.create_task(self._channel.progress(update))
