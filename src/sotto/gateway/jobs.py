"""All jobs of one endpoint and their queue, in memory, in one event loop.

Invariant: a job waits in the queue, or is held by one worker, or has ended; what a worker says
counts only for the jobs it holds, and an ended job stays as it ended unless it is retried.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from msgspec import UNSET

from sotto.gateway.change import Change
from sotto.gateway.job import FINAL, RETRYABLE, Job, Order, State
from sotto.gateway.workers import Census, Worker, Workers

LOST_WORKERS = 3
"""A job that so many workers died with is not tried on another."""


class UnknownJob(Exception):
    """There is no such job, or not any more."""


class Refused(Exception):
    """The job is not in a state in which this can be done."""


class Jobs:
    """The jobs of one endpoint, and its `workers`.

    `ended` is called with every job that has ended. `changed` happens with every change here.
    Every method that takes a job's id raises UnknownJob.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self.changed = Change()
        self.workers = Workers(clock, self.changed)
        self.completed = 0
        self.failed = 0
        self.retried = 0
        self._clock = clock
        self._ended = ended
        self._jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()

    # What clients do

    def submit(self, order: Order) -> Job:
        """A new job at the end of the queue."""
        now_s = self._clock()
        job_id = f"{'sync-' if order.sync else ''}{uuid.uuid4()}-u1"
        job = self._jobs[job_id] = Job(job_id, order, submitted_s=now_s, queued_s=now_s)
        self._queue.append(job)
        self.changed.happened()
        return job

    def get(self, job_id: str) -> Job:
        """The job of that id."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJob(f"job: {job_id!r} does not exist, or not any more") from None

    async def end(self, job: Job, wait_s: float) -> bool:
        """Wait for the job's end, at most `wait_s`. Has it ended?"""
        return await self.changed.until(lambda: job.state in FINAL, wait_s)

    async def stream(self, job: Job, wait_s: float) -> list[Any]:
        """What was streamed since the last call; waits up to `wait_s` for something to come."""
        await self.changed.until(lambda: bool(job.stream) or job.state in FINAL, wait_s)
        items, job.stream = job.stream, []
        return items

    def cancel(self, job_id: str) -> Job:
        """End a job that has not ended yet."""
        job = self.get(job_id)
        if job.state not in FINAL:
            self._let_go(job)
            self._end(job, State.CANCELLED)
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a job again that failed or timed out. Raises Refused for any other."""
        job = self.get(job_id)
        if job.state not in RETRYABLE:
            allowed = " or ".join(sorted(RETRYABLE))
            raise Refused(f"job: {job_id!r} is {job.state}; only {allowed} can be retried")
        job.workers_lost = 0
        job.queue(self._clock())
        self._queue.append(job)
        self.retried += 1
        self.changed.happened()
        return job

    def purge(self) -> int:
        """Cancel every job in the queue. How many were there?"""
        purged = list(self._queue)
        for job in purged:
            self.cancel(job.id)
        return len(purged)

    # What workers do

    async def take(self, worker_id: str, count: int, wait_s: float) -> list[Job]:
        """Up to `count` jobs, now the worker's; none if none came within `wait_s`."""
        worker = self.workers.heard(worker_id)

        def look() -> list[Job]:
            # The poll of a worker that is gone may still be open, and must take nothing.
            if worker.retired or not self.workers.is_current(worker_id, worker):
                return []
            return self._taken(worker_id, worker, count)

        return await self.changed.until(look, wait_s)

    def put_back(self, worker_id: str, jobs: Sequence[Job]) -> None:
        """These jobs did not reach the worker: first in the queue again."""
        for job in reversed(jobs):
            if job.is_held_by(worker_id):
                self._queue_first(job)

    def finish(self, worker_id: str, job_id: str, *, output: Any, error: Any) -> None:
        """The worker's result; an `error` that is not empty is a failure.

        Raises Refused if the worker does not hold the job.
        """
        job = self._held(worker_id, job_id)
        state = State.FAILED if error else State.COMPLETED
        self._end(job, state, output=output, error=error or UNSET)

    def progress(self, worker_id: str, job_id: str, output: Any) -> None:
        """How far the job is. Raises Refused if the worker does not hold it."""
        self._held(worker_id, job_id).output = output
        self.changed.happened()

    def add_to_stream(self, worker_id: str, job_id: str, item: Any) -> None:
        """A part of the answer. Raises Refused if the worker does not hold the job."""
        self._held(worker_id, job_id).stream.append(item)
        self.changed.happened()

    def requeue(self, worker_id: str) -> None:
        """The worker is gone: its jobs are first in the queue again, or have failed by now."""
        self.workers.remove(worker_id)
        for job in reversed(self._jobs_of(worker_id)):
            job.workers_lost += 1
            if job.workers_lost < LOST_WORKERS:
                self._queue_first(job)
                self.retried += 1
            else:
                self._end(job, State.FAILED, error=f"{LOST_WORKERS} workers died with this job")
        self.changed.happened()

    # What can be counted

    def waiting(self) -> int:
        """How many jobs wait that are worth a worker: not those of low priority."""
        return sum(not job.order.policy.low_priority for job in self._queue)

    def alone(self) -> int:
        """How many jobs want a worker each: a worker has died with them.

        One of low priority counts where others wait behind it: no worker at work takes those first.
        """
        is_awaited = self.waiting() > 0
        return sum(
            job.workers_lost > 0
            for job in self._jobs.values()
            if job.state is State.IN_PROGRESS
            or (job.state is State.IN_QUEUE and (is_awaited or not job.order.policy.low_priority))
        )

    def oldest_wait_s(self) -> float:
        """For how long the oldest of them has waited; 0 if there is none."""
        now_s = self._clock()
        worth = (job for job in self._queue if not job.order.policy.low_priority)
        return max((now_s - job.queued_s for job in worth), default=0.0)

    def in_queue(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    def in_progress(self) -> int:
        """How many jobs run."""
        return sum(job.state is State.IN_PROGRESS for job in self._jobs.values())

    def running(self, worker_id: str) -> list[str]:
        """The ids of the jobs that the worker holds."""
        return [job.id for job in self._jobs_of(worker_id)]

    def census(self) -> Census:
        """How many workers there are, and how many of them have a job."""
        held = (job for job in self._jobs.values() if job.state is State.IN_PROGRESS)
        return self.workers.census({job.worker_id for job in held if job.worker_id is not None})

    # What time does

    def expire(self) -> None:
        """Do what is due: workers fallen silent, jobs that ran too long, jobs to forget."""
        for worker_id in self.workers.silent():
            self.requeue(worker_id)
        now_s = self._clock()
        for job in list(self._jobs.values()):
            if job.is_expired(now_s):
                self._forget(job)
            elif job.is_overdue(now_s):
                limit_s = job.order.policy.execution_timeout_s
                self._let_go(job)
                self._end(job, State.TIMED_OUT, error=f"the job ran for more than {limit_s:g} s")

    async def keep_expiring(self, every_s: float) -> None:
        """Do what is due, again and again, until cancelled."""
        while True:
            self.expire()
            await asyncio.sleep(every_s)

    def _held(self, worker_id: str, job_id: str) -> Job:
        self.workers.told(worker_id)
        job = self.get(job_id)
        if not job.is_held_by(worker_id):
            raise Refused(f"job: {job_id!r} is {job.state} and not with worker {worker_id!r}")
        return job

    def _jobs_of(self, worker_id: str) -> list[Job]:
        return [job for job in self._jobs.values() if job.is_held_by(worker_id)]

    def _taken(self, worker_id: str, worker: Worker, count: int) -> list[Job]:
        # A retried job waits until the worker has heard that the first run must stop.
        fit = (job for job in self._queue if job.id not in worker.stops)
        taken = self._fit_together(worker_id, list(itertools.islice(fit, count)))
        for job in taken:
            self._queue.remove(job)
            job.start(worker_id, self._clock())
        if taken:
            self.changed.happened()
        return taken

    def _fit_together(self, worker_id: str, jobs: list[Job]) -> list[Job]:
        """The first of these that may run beside each other and beside what the worker holds.

        A job that a worker died with runs alone: should the next one die too, it is not in doubt
        which job it was, and no neighbour fails for it.
        """
        if not jobs:
            return []
        held = self._jobs_of(worker_id)
        if any(job.workers_lost for job in held):
            return []
        if jobs[0].workers_lost:
            # None behind it is taken instead: a worker that is never empty would never get to it.
            return [] if held else jobs[:1]
        return list(itertools.takewhile(lambda job: not job.workers_lost, jobs))

    def _queue_first(self, job: Job) -> None:
        job.queue(self._clock())
        self._queue.appendleft(job)
        self.changed.happened()

    def _let_go(self, job: Job) -> None:
        """Nobody needs to run it any more."""
        if job.state is State.IN_QUEUE:
            self._queue.remove(job)
        elif job.worker_id is not None:
            self.workers.stop(job.worker_id, job.id)

    def _end(self, job: Job, state: State, output: Any = UNSET, error: Any = UNSET) -> None:
        job.state, job.finished_s = state, self._clock()
        job.output, job.error = output, error
        if state not in RETRYABLE:
            # It is kept for its answer, and what nobody can run again may be 20 MB.
            job.order = replace(job.order, input={})
        self.completed += state is State.COMPLETED
        self.failed += state in RETRYABLE
        self.changed.happened()
        self._ended(job)

    def _forget(self, job: Job) -> None:
        if job.state not in FINAL:
            self._let_go(job)
            job.state = State.TIMED_OUT  # ends the waiting of those who wait for its end
        del self._jobs[job.id]
        self.changed.happened()
