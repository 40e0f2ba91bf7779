"""What an endpoint needs, from what waits and who works: the policy, and nothing but the policy.

Invariant: pure. `plan` never keeps fewer workers than the minimum, never asks for more than the
maximum (one that is still stopping counts), and stops none that has a job. The local gateway acts
on it with real workers, and the simulation with imagined ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sotto.endpoint.config import Endpoint


class Phase(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    """It has not asked for a job yet."""
    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as the scaler sees it; `since_s`: when it came into its phase."""

    worker_id: str
    phase: Phase
    since_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """The jobs of an endpoint: how many wait, for how long the oldest does, how many run."""

    waiting: int
    oldest_wait_s: float
    in_progress: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers to start, and which to stop."""

    start: int
    stop: tuple[str, ...]


def plan(endpoint: Endpoint, load: Load, workers: Sequence[Worker], now_s: float) -> Plan:
    """What to do now. `now_s` is on the clock of the workers' `since_s`."""
    limits = endpoint.workers
    present = [worker for worker in workers if worker.phase is not Phase.STOPPING]
    if endpoint.scaling.kind == "request_count":
        wanted = keep = math.ceil((load.waiting + load.in_progress) / endpoint.scaling.value)
    else:
        wanted = len(present) + _one_more(endpoint.scaling.value, load, present)
        keep = len(present) if load.waiting else 0
    missing = max(wanted, limits.min) - len(present)
    spare = len(present) - max(keep, limits.min)
    return Plan(
        start=max(0, min(missing, limits.max - len(workers))),
        stop=_longest_idle(present, now_s - endpoint.idle_timeout_s)[: max(0, spare)],
    )


def due_s(endpoint: Endpoint, load: Load, workers: Sequence[Worker], now_s: float) -> float:
    """When time alone may next make `plan` say something else, after `now_s`; infinite: never.

    What becomes due is due just after that time.
    """
    times = [
        worker.since_s + endpoint.idle_timeout_s for worker in workers if worker.phase is Phase.IDLE
    ]
    if load.waiting and endpoint.scaling.kind == "queue_delay":
        times.append(now_s - load.oldest_wait_s + endpoint.scaling.value)
    return min((time_s for time_s in times if time_s > now_s), default=math.inf)


def _one_more(delay_s: float, load: Load, present: Sequence[Worker]) -> bool:
    """Has a job waited too long? With no worker at all, waiting any longer would gain nothing.

    One at a time: while one starts, the jobs that wait for it would ask for another and another.
    """
    if not load.waiting or any(worker.phase is Phase.STARTING for worker in present):
        return False
    return not present or load.oldest_wait_s > delay_s


def _longest_idle(workers: Sequence[Worker], before_s: float) -> tuple[str, ...]:
    """Those that have been idle since `before_s` or longer, the longest idle first."""
    idle = [worker for worker in workers if worker.phase is Phase.IDLE]
    idle.sort(key=lambda worker: worker.since_s)
    return tuple(worker.worker_id for worker in idle if worker.since_s <= before_s)
