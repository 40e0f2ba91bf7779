"""How fast a worker is: the model of a device that its jobs share.

Invariant: jobs share a device equally, and it loses no time while it has any; how fast it works
depends on the windows in flight alone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sotto.endpoint.simulate.refusal import SimulationError

WINDOW_S = 30.0
"""What Whisper hears at once; longer audio is cut into windows of at most so much."""
MOST_WINDOWS = 4096
ALONE = ((1, 1.0),)
"""The speeds of a device that gains nothing by batches."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a worker can do.

    `rtfx`: seconds of audio a second, in full batches. `job_s`: what each job costs besides, in
    seconds of a device at full speed. `batching`: points of windows in flight and the share of full
    speed with so many, by windows; the last share is 1. `cold_start_s`: from the decision to start
    a worker until it asks for a job. `concurrency`: jobs that it takes at once.
    """

    rtfx: float
    job_s: float
    batching: Sequence[tuple[int, float]]
    cold_start_s: float
    concurrency: int

    def work_s(self, audio_s: float) -> float:
        """What a job costs, in seconds of a device at full speed."""
        return self.job_s + audio_s / self.rtfx

    def speeds(self) -> tuple[float, ...]:
        """The share of full speed for 0, 1, 2… windows in flight, up to where it stays 1."""
        speeds = [0.0, *(self.batching[0][1] for _ in range(self.batching[0][0]))]
        for (low, slow), (high, fast) in zip(self.batching, self.batching[1:], strict=False):
            step = (fast - slow) / (high - low)
            speeds += [slow + step * (windows - low) for windows in range(low + 1, high + 1)]
        return tuple(speeds)


def batching(text: str) -> tuple[tuple[int, float], ...]:
    """Points as people write them: `1=0.45,16=1`. Raises SimulationError."""
    points = []
    for part in text.split(","):
        windows, _, share = part.partition("=")
        try:
            points.append((int(windows), float(share)))
        except ValueError:
            raise SimulationError(
                f"--batching: {part.strip()!r} is not WINDOWS=SHARE, such as 1=0.45,16=1"
            ) from None
    return checked(points)


def checked(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """The points, if they rise to 1 as windows grow in number. Raises SimulationError."""
    points = sorted(points)
    windows = [count for count, _ in points]
    shares = [share for _, share in points]
    shown = ",".join(f"{count}={share:g}" for count, share in points)
    if len(set(windows)) < len(windows) or not 1 <= windows[0] <= windows[-1] <= MOST_WINDOWS:
        raise SimulationError(
            f"--batching: {shown}: name each number of windows once, from 1 to {MOST_WINDOWS}"
        )
    if not (shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1):
        raise SimulationError(
            f"--batching: {shown}: shares are above 0, rise with the windows, and end with 1"
        )
    return tuple(points)


@dataclass(slots=True)
class Device:
    """The device of one worker. Times are the caller's, in seconds, and never go back."""

    service: Service
    speeds: tuple[float, ...]
    _jobs: list[tuple[float, int, int]] = field(default_factory=list)
    _windows: int = 0
    _given_s: float = 0.0
    _at_s: float = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: int, audio_s: float, now_s: float) -> None:
        """Begin a job."""
        self._advance(now_s)
        windows = min(max(1, math.ceil(audio_s / WINDOW_S)), len(self.speeds) - 1)
        self._windows += windows
        heapq.heappush(self._jobs, (self._given_s + self.service.work_s(audio_s), job, windows))

    def next_s(self) -> float:
        """When the first of its jobs ends, if none is added before; it must have one."""
        return self._at_s + max(0.0, self._jobs[0][0] - self._given_s) / self._rate()

    def end(self, now_s: float) -> int:
        """End the job whose time has come."""
        self._advance(now_s)
        _, job, windows = heapq.heappop(self._jobs)
        self._windows -= windows
        return job

    def _advance(self, now_s: float) -> None:
        """Give to each job its share of the time since the last change.

        All get the same, so one sum stands for all: a job has ended once the sum has grown by its
        work.
        """
        if self._jobs:
            self._given_s += (now_s - self._at_s) * self._rate()
        else:
            self._given_s = 0.0
        self._at_s = now_s

    def _rate(self) -> float:
        """What each job gets in a second, in seconds of the device at full speed."""
        return self.speeds[min(self._windows, len(self.speeds) - 1)] / len(self._jobs)
