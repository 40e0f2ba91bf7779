"""What is known of the workers of an endpoint: who is there, and what each must still be told.

Invariant: a worker is known from the moment it is expected or first asks for something until it
is removed; a worker of the same id that comes later is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from sotto.gateway.change import Change

SILENT_S = 60.0
"""A worker that was not heard of for so long is gone: its polls are shorter than this."""


@dataclass(slots=True, eq=False)
class Worker:
    """One worker. `heard_s`: when it last asked or told something; None: never.

    `stops`: the jobs that it must stop and has not been told of, with the time of the order.
    `retired`: it gets no more jobs.
    """

    heard_s: float | None = None
    stops: dict[str, float] = field(default_factory=dict)
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """How many workers are where in their life."""

    initializing: int
    idle: int
    running: int


class Workers:
    """The workers by id. `changed` happens when one of them has something new to hear or do."""

    def __init__(self, clock: Callable[[], float], changed: Change) -> None:
        self._clock = clock
        self._changed = changed
        self._known: dict[str, Worker] = {}

    def heard(self, worker_id: str) -> Worker:
        """The worker asks for something; it may be new."""
        worker = self._known.setdefault(worker_id, Worker())
        worker.heard_s = self._clock()
        return worker

    def told(self, worker_id: str) -> None:
        """The worker told something; the last words of one that was removed change nothing."""
        if worker_id in self._known:
            self.heard(worker_id)

    def is_current(self, worker_id: str, worker: Worker) -> bool:
        """Is this the worker that has the id now?"""
        return self._known.get(worker_id) is worker

    def expect(self, worker_id: str) -> None:
        """A worker of this id is being started."""
        self._known[worker_id] = Worker()

    def retire(self, worker_id: str) -> None:
        """Give this worker no more jobs: it is about to end."""
        self._known.setdefault(worker_id, Worker()).retired = True

    def remove(self, worker_id: str) -> None:
        """The worker is gone."""
        self._known.pop(worker_id, None)

    def is_ready(self, worker_id: str) -> bool:
        """Has the worker ever asked for something?"""
        worker = self._known.get(worker_id)
        return worker is not None and worker.heard_s is not None

    def is_retired(self, worker_id: str) -> bool:
        """Must the worker be replaced? It may have asked for that itself."""
        worker = self._known.get(worker_id)
        return worker is not None and worker.retired

    def stop(self, worker_id: str, job_id: str) -> None:
        """Have the worker told to stop a job."""
        if worker_id in self._known:
            self._known[worker_id].stops[job_id] = self._clock()
            self._changed.happened()

    async def stops(self, worker_id: str, wait_s: float) -> list[str]:
        """The jobs that the worker must stop, each told once; waits up to `wait_s` for one."""
        worker = self.heard(worker_id)
        told = await self._changed.until(lambda: list(worker.stops), wait_s)
        worker.stops.clear()
        return told

    def unheeded_s(self, worker_id: str) -> float:
        """For how long an order to stop a job has waited for the worker to fetch it; 0: none."""
        worker = self._known.get(worker_id)
        if worker is None or not worker.stops:
            return 0.0
        return self._clock() - min(worker.stops.values())

    def silent(self) -> list[str]:
        """The workers that were heard of once and not any more."""
        too_old_s = self._clock() - SILENT_S
        return [
            worker_id
            for worker_id, worker in self._known.items()
            if worker.heard_s is not None and worker.heard_s <= too_old_s
        ]

    def census(self, busy: Collection[str]) -> Census:
        """How many there are; `busy`: the ids of those that hold a job."""
        ready = [worker_id for worker_id in self._known if self.is_ready(worker_id)]
        running = sum(worker_id in busy for worker_id in ready)
        return Census(len(self._known) - len(ready), len(ready) - running, running)
