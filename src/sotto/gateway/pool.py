"""The workers of an endpoint: started, watched and stopped as its endpoint.toml says.

Invariant: whoever ends - a worker of its own accord, a hung one, the pool - its jobs go back to the
queue or have an answer, and none of its processes lives on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sotto.endpoint.config import Endpoint
from sotto.endpoint.scaling import Load, Phase, Worker, plan
from sotto.gateway.jobs import Jobs
from sotto.gateway.process import WorkerProcess

LOOK_EVERY_S = 0.25
"""How often is looked whether time alone has made something due; changes are seen at once."""
LONGEST_BACKOFF_S = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a worker is waited for before it is killed.

    `start_s`: to ask for its first job; `heed_s`: to fetch the order to stop a job; `stop_s`: to
    end after SIGTERM, to be more than its own `SOTTO_STOP_GRACE_S`.
    """

    start_s: float = 420.0
    heed_s: float = 15.0
    stop_s: float = 30.0


@dataclass(slots=True, eq=False)
class Member:
    """One worker of the pool. `since_s`: when it came into its phase."""

    process: WorkerProcess
    phase: Phase
    since_s: float
    watch: asyncio.Task[None] | None = None
    stop: asyncio.Task[None] | None = None

    def enter(self, phase: Phase) -> None:
        """Come into a phase, or stay in it."""
        if phase is not self.phase:
            self.phase, self.since_s = phase, time.monotonic()


class Pool:
    """The workers of an endpoint.

    `command` starts one, with the environment that `environment` gives for its id.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        jobs: Jobs,
        command: Sequence[str],
        environment: Callable[[str], Mapping[str, str]],
        patience: Patience = Patience(),
    ) -> None:
        self._endpoint = endpoint
        self._jobs = jobs
        self._command = command
        self._environment = environment
        self._patience = patience
        self._members: dict[str, Member] = {}
        self._ids = (f"worker-{number}" for number in itertools.count(1))
        self._scaling: asyncio.Task[None] | None = None
        self._failures = 0
        self._start_after_s = 0.0

    @property
    def unhealthy(self) -> int:
        """How many workers have ended unasked since one last got as far as asking for a job."""
        return self._failures

    async def start(self) -> None:
        """Begin to start and stop workers as the jobs demand."""
        self._scaling = asyncio.create_task(self._scale())

    async def close(self) -> None:
        """Stop every worker; the jobs in flight have `stop_s` to end."""
        try:
            if self._scaling is not None:
                self._scaling.cancel()
                await asyncio.wait([self._scaling])
            for member in list(self._members.values()):
                self._stop(member)
            if watches := [m.watch for m in self._members.values() if m.watch]:
                await asyncio.wait(watches)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill every worker at once."""
        for member in self._members.values():
            member.process.kill()

    async def _scale(self) -> None:
        while True:
            try:
                await self._adjust()
            except Exception:
                log.exception("the workers could not be adjusted to the jobs")
            await self._jobs.changed.wait(LOOK_EVERY_S)

    async def _adjust(self) -> None:
        """Look after every worker, then start and stop as the scaler says."""
        for member in list(self._members.values()):
            if member.phase is not Phase.STOPPING:
                self._look_after(member)
        jobs = self._jobs
        scaling = self._endpoint.scaling
        # Where jobs are counted, one that wants a worker for itself is as many as that would hold.
        beside = math.ceil(scaling.value) - 1 if scaling.kind == "request_count" else 0
        load = Load(
            jobs.waiting() + beside * jobs.alone(), jobs.oldest_wait_s(), jobs.in_progress()
        )
        workers = [
            Worker(worker_id, member.phase, member.since_s)
            for worker_id, member in self._members.items()
        ]
        made = plan(self._endpoint, load, workers, time.monotonic())
        for worker_id in made.stop:
            log.info("%s: stopped, not needed", worker_id)
            self._stop(self._members[worker_id])
        for _ in range(made.start):
            if time.monotonic() >= self._start_after_s:
                await self._start()

    def _look_after(self, member: Member) -> None:
        worker_id = member.process.worker_id
        for_s = time.monotonic() - member.since_s
        trouble = self._trouble(member, for_s)
        if trouble:
            log.error("%s: killed, it %s", worker_id, trouble)
            member.process.kill()
            member.enter(Phase.STOPPING)
            self._fail()
        elif self._jobs.workers.is_retired(worker_id):
            log.info("%s: stopped, it asked to be replaced", worker_id)
            self._stop(member)
        elif self._jobs.workers.is_ready(worker_id):
            if member.phase is Phase.STARTING:
                log.info("%s: ready after %.2f s", worker_id, for_s)
                self._failures = 0
            member.enter(Phase.RUNNING if self._jobs.running(worker_id) else Phase.IDLE)

    def _trouble(self, member: Member, for_s: float) -> str:
        """Why a worker is given up that has been in its phase `for_s`, or nothing."""
        workers, worker_id = self._jobs.workers, member.process.worker_id
        if workers.unheeded_s(worker_id) > self._patience.heed_s:
            return "did not fetch the order to stop a job"
        if workers.is_ready(worker_id):
            return ""
        if member.phase is not Phase.STARTING:
            return "fell silent"
        if for_s > self._patience.start_s:
            return f"did not ask for a job within {self._patience.start_s:g} s"
        return ""

    async def _start(self) -> None:
        worker_id = next(self._ids)
        try:
            process = await WorkerProcess.start(
                worker_id, self._command, self._environment(worker_id)
            )
        except OSError as error:
            log.error("%s: cannot be started: %s", worker_id, error)
            self._fail()
            return
        self._jobs.workers.expect(worker_id)
        member = Member(process, Phase.STARTING, time.monotonic())
        self._members[worker_id] = member
        member.watch = asyncio.create_task(self._watch(member))

    def _stop(self, member: Member) -> None:
        """Have a worker end: it gets no more jobs, and those it has may end."""
        if member.stop is None:
            self._jobs.workers.retire(member.process.worker_id)
            member.enter(Phase.STOPPING)
            member.stop = asyncio.create_task(member.process.terminate(self._patience.stop_s))

    async def _watch(self, member: Member) -> None:
        """Wait for a worker's end, and give its jobs to others."""
        worker_id = member.process.worker_id
        await member.process.ended()
        if member.stop is not None:
            await member.stop
        del self._members[worker_id]
        if member.phase is not Phase.STOPPING and not self._jobs.workers.is_retired(worker_id):
            self._fail()
        self._jobs.requeue(worker_id)

    def _fail(self) -> None:
        """A worker failed: wait before the next start, the longer the oftener it happens."""
        self._failures += 1
        backoff_s = min(2 ** (self._failures - 1), LONGEST_BACKOFF_S)
        self._start_after_s = time.monotonic() + backoff_s
        log.warning("a worker failed; the next starts in %g s", backoff_s)
