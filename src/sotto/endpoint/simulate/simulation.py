"""Traffic and an endpoint's settings in, what would happen out: one event after the other.

Invariant: who is started and stopped is `scaling.plan`'s decision alone; each second of a worker
from its start to its stop is one of starting, of work or of idling; the same input has the same
outcome.
"""

from __future__ import annotations

import heapq
import itertools
import math
import operator
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sotto.endpoint.config import Endpoint
from sotto.endpoint.scaling import Load, Phase, Worker, due_s, plan
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.service import Device, Service
from sotto.endpoint.simulate.trace import DAY_S, Trace

A_MOMENT_S = 0.001
"""After the time at which something becomes due it is looked at: sums of floats are not exact."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trace. Times in seconds.

    `waits_s`, `totals_s`: for each job, in the order of arrival, until a worker took it and until
    it had ended. `starting_s`, `busy_s`, `idle_s`: of all workers together. `billed_s`: the same
    time, with each worker's life rounded up to a second, as the platform does. `starts`: workers
    that were started; those that are always there were so before. `overdue`: jobs that ran for
    longer than the endpoint would let them.
    """

    waits_s: Sequence[float]
    totals_s: Sequence[float]
    starting_s: float
    busy_s: float
    idle_s: float
    billed_s: float
    starts: int
    overdue: int

    @property
    def paid_s(self) -> float:
        """Seconds of all workers together."""
        return self.starting_s + self.busy_s + self.idle_s


@dataclass(slots=True, eq=False)
class _Member:
    """A worker. `seen`: what the scaler sees of it. `version`: which of its planned ends counts."""

    seen: Worker
    started_s: float
    device: Device
    version: int = 0


class _Event(NamedTuple):
    """What happens at a time: to a member, or a look at what time has made due.

    `number`: no two events have the same. `version`: the member's for the end of a job, None for
    the end of its start.
    """

    at_s: float
    number: int
    member: _Member | None
    version: int | None


def simulate(trace: Trace, endpoint: Endpoint, service: Service) -> Outcome:
    """What would become of `trace`. Raises SimulationError if no job would ever run."""
    if endpoint.workers.max == 0:
        raise SimulationError("workers.max: 0 takes jobs and runs none; use 1 or more")
    return _Simulation(trace, endpoint, service).run()


class _Simulation:
    """One run. A job is its place in the trace."""

    def __init__(self, trace: Trace, endpoint: Endpoint, service: Service) -> None:
        self._trace = trace
        self._endpoint = endpoint
        self._service = service
        self._speeds = service.speeds()
        self._now_s = 0.0
        self._numbers = itertools.count()
        self._joined = itertools.count(1)
        self._events: list[_Event] = []
        self._look_s = math.inf
        self._queue: deque[int] = deque()
        self._in_progress = 0
        self._members: dict[str, _Member] = {}
        self._seen: list[Worker] | None = None
        self._asking: OrderedDict[str, _Member] = OrderedDict()
        self._seconds = dict.fromkeys(Phase, 0.0)
        self._billed_s = 0
        self._starts = 0
        self._taken_s = [0.0] * len(trace.arrivals_s)
        self._ended_s = [0.0] * len(trace.arrivals_s)

    def run(self) -> Outcome:
        """Let everything happen."""
        arrivals = iter(enumerate(self._trace.arrivals_s))
        job, arrival_s = next(arrivals, (0, math.inf))
        for _ in range(self._endpoint.workers.min):
            member = self._join(Phase.IDLE)
            self._asking[member.seen.worker_id] = member
        self._scale()
        while self._events or arrival_s < math.inf:
            if not self._events or arrival_s <= self._events[0].at_s:
                self._now_s = arrival_s
                self._queue.append(job)
                job, arrival_s = next(arrivals, (0, math.inf))
            elif not self._happen(heapq.heappop(self._events)):
                continue
            self._hand_out()
            self._scale()
        self._now_s = max(self._now_s, self._trace.days * DAY_S)
        for member in list(self._members.values()):
            self._stop(member)
        return self._outcome()

    def _happen(self, event: _Event) -> bool:
        """Take the time to an event and let it happen; False if it no longer will."""
        member = event.member
        if member is None:
            self._now_s = event.at_s
            if event.at_s == self._look_s:
                self._look_s = math.inf
        elif event.version is None:
            self._now_s = event.at_s
            self._enter(member, Phase.IDLE)
            self._asking[member.seen.worker_id] = member
        elif event.version == member.version:
            self._now_s = event.at_s
            self._end(member)
        else:
            return False
        return True

    def _end(self, member: _Member) -> None:
        """A job of the member has ended."""
        self._ended_s[member.device.end(self._now_s)] = self._now_s
        self._in_progress -= 1
        if member.device:
            self._plan_end(member)
        else:
            member.version += 1
            self._enter(member, Phase.IDLE)
        self._asking.setdefault(member.seen.worker_id, member)

    def _hand_out(self) -> None:
        """Give what waits to those who have room, first to who asks for the longest."""
        while self._queue and self._asking:
            worker_id, member = self._asking.popitem(last=False)
            while self._queue and len(member.device) < self._service.concurrency:
                job = self._queue.popleft()
                self._taken_s[job] = self._now_s
                member.device.add(job, self._trace.audio_s[job], self._now_s)
                self._in_progress += 1
            self._enter(member, Phase.RUNNING)
            self._plan_end(member)
            if len(member.device) < self._service.concurrency:
                self._asking[worker_id] = member

    def _scale(self) -> None:
        """Start and stop workers as the scaler says, and see to it that it is asked in time."""
        oldest_s = self._now_s - self._trace.arrivals_s[self._queue[0]] if self._queue else 0.0
        load = Load(len(self._queue), oldest_s, self._in_progress)
        made = plan(self._endpoint, load, self._workers(), self._now_s)
        for worker_id in made.stop:
            self._stop(self._members[worker_id])
        for _ in range(made.start):
            self._start()
        look_s = due_s(self._endpoint, load, self._workers(), self._now_s) + A_MOMENT_S
        if look_s < self._look_s:
            self._look_s = look_s
            self._plan_event(look_s)

    def _start(self) -> None:
        self._starts += 1
        member = self._join(Phase.STARTING)
        self._plan_event(self._now_s + self._service.cold_start_s, member)

    def _join(self, phase: Phase) -> _Member:
        """One member more."""
        seen = Worker(f"worker-{next(self._joined)}", phase, self._now_s)
        member = _Member(seen, self._now_s, Device(self._service, self._speeds))
        self._members[seen.worker_id] = member
        self._seen = None
        return member

    def _stop(self, member: _Member) -> None:
        self._enter(member, Phase.STOPPING)
        self._billed_s += math.ceil(self._now_s - member.started_s)
        del self._members[member.seen.worker_id]
        self._asking.pop(member.seen.worker_id, None)

    def _enter(self, member: _Member, phase: Phase) -> None:
        """Come into a phase, or stay in it."""
        seen = member.seen
        if phase is not seen.phase:
            self._seconds[seen.phase] += self._now_s - seen.since_s
            member.seen = Worker(seen.worker_id, phase, self._now_s)
            self._seen = None

    def _workers(self) -> Sequence[Worker]:
        """The members as the scaler sees them."""
        if self._seen is None:
            self._seen = [member.seen for member in self._members.values()]
        return self._seen

    def _plan_end(self, member: _Member) -> None:
        """The member's work has changed, and with it the time at which its next job ends."""
        member.version += 1
        self._plan_event(member.device.next_s(), member, member.version)

    def _plan_event(
        self, at_s: float, member: _Member | None = None, version: int | None = None
    ) -> None:
        heapq.heappush(self._events, _Event(at_s, next(self._numbers), member, version))

    def _outcome(self) -> Outcome:
        arrivals_s = self._trace.arrivals_s
        runs_s = map(operator.sub, self._ended_s, self._taken_s)
        return Outcome(
            waits_s=[*map(operator.sub, self._taken_s, arrivals_s)],
            totals_s=[*map(operator.sub, self._ended_s, arrivals_s)],
            starting_s=self._seconds[Phase.STARTING],
            busy_s=self._seconds[Phase.RUNNING],
            idle_s=self._seconds[Phase.IDLE],
            billed_s=self._billed_s,
            starts=self._starts,
            overdue=sum(run_s > self._endpoint.timeout_s for run_s in runs_s),
        )
