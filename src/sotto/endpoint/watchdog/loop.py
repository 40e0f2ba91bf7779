"""Look, decide, say so, and stop what is due.

Invariant: right before each attempt to stop a pod everything is looked at once more, and the pod is
stopped only if it is still due. What is remembered is on the disk before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sotto.endpoint.watchdog.decide import Decision, Memory, Rules, Verdict, decide
from sotto.endpoint.watchdog.pods import Pods, StopFailed
from sotto.endpoint.watchdog.report import Exit, Line, Outcome, line
from sotto.endpoint.watchdog.sight import Pod, Queue, Reading, Sight, Unknown, Unreadable
from sotto.endpoint.watchdog.state import Instant, State

PAUSES_S = (2.0, 8.0)
"""Before the second and the third attempt to stop a pod."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the watchdog reaches the world with.

    `tell` takes each line, `pause` sleeps, here and in the API's client. As a context `completing`
    keeps those pauses from being interrupted.
    """

    tell: Callable[[Line], None]
    pause: Callable[[float], None]
    now: Callable[[], Instant] = Instant.now
    completing: Callable[[], AbstractContextManager[None]] = nullcontext


class Watchdog:
    """Watches `queue` and `pods`. `state` is open.

    Raises WatchdogError if the state may not be read.
    """

    def __init__(self, rules: Rules, queue: Queue, pods: Pods, state: State, tools: Tools) -> None:
        self._rules = rules
        self._queue = queue
        self._pods = pods
        self._state = state
        self._tools = tools
        kept, why_not = state.load()
        self._memory = kept.memory if kept else Memory()
        self._at = kept.at if kept else None
        self._notes = [f"the idle time begins now: {why_not}"] if why_not else []
        self._is_kept = True

    def turn(self, *, is_dry: bool, own_pod_id: str = "") -> Exit:
        """Look once and do what follows.

        A pod that the watchdog itself runs on is the last one to be stopped.
        """
        verdict = self._look()
        self._tell(verdict.decision, verdict.reason, verdict)
        has_failed = False
        # Whoever ends the watchdog now would leave the pods running that it was about to stop.
        with self._tools.completing():
            for pod in sorted(verdict.due, key=lambda pod: pod.pod_id == own_pod_id):
                if is_dry:
                    self._tell(Outcome.WOULD_STOP, verdict.reason, verdict, pod)
                elif not self._stop(pod):
                    has_failed = True
        if has_failed:
            return Exit.STOP_FAILED
        is_alarm = verdict.decision is Decision.ALARM or not self._is_kept
        return Exit.ALARM if is_alarm else Exit.DECIDED

    def _look(self) -> Verdict:
        # The queue last: what it says is what has to be freshest.
        pods, unseen = self._pods.look()
        queue = self._read()
        now = self._tools.now()
        elapsed_s = self._elapsed_s(now)
        verdict = decide(self._rules, self._memory, elapsed_s, Sight(queue, pods, unseen))
        self._keep(now, verdict.memory)
        return verdict

    def _keep(self, at: Instant, memory: Memory) -> None:
        self._at, self._memory = at, memory
        try:
            self._state.save(at, memory)
            self._is_kept = True
        except OSError as error:
            self._is_kept = False
            self._notes.append(f"the idle time cannot be kept: {error.strerror}")

    def _read(self) -> Reading | Unknown:
        try:
            return self._queue.read()
        except Unreadable as error:
            return Unknown(str(error))

    def _elapsed_s(self, now: Instant) -> float:
        """Since the last look; where nobody knows, nothing is remembered of it either."""
        elapsed_s = now.since(self._at) if self._at is not None else 0.0
        if elapsed_s is None:
            self._memory = Memory()
            self._notes.append("the idle time begins now: the clock was set back")
            return 0.0
        return elapsed_s

    def _stop(self, pod: Pod) -> bool:
        """Stop a pod, or find out that it shall not be. False if it should be and is not."""
        last = len(PAUSES_S) + 1
        for attempt in range(1, last + 1):
            if attempt > 1:
                self._tools.pause(PAUSES_S[attempt - 2])
            verdict = self._look()
            if pod.pod_id not in {due.pod_id for due in verdict.due}:
                self._spare(pod, verdict)
                return True
            try:
                if self._pods.stop(pod.pod_id) and self._at is not None:
                    self._keep(self._at, self._memory.without(pod.pod_id))
            except StopFailed as failure:
                reason = f"attempt {attempt} of {last}: {failure}"
                self._tell(Outcome.STOP_FAILED, reason, verdict, pod)
                if not failure.may_pass:
                    return False
            else:
                self._tell(Outcome.STOPPED, verdict.reason, verdict, pod)
                return True
        return False

    def _spare(self, pod: Pod, verdict: Verdict) -> None:
        """Say why a pod that was due is not stopped."""
        seen = [one.pod for one in verdict.watched if one.pod.pod_id == pod.pod_id]
        if verdict.sight.unseen or any(one.is_up for one in seen):
            self._tell(Outcome.KEPT, verdict.reason, verdict, pod)
        else:
            status = seen[0].status if seen else "gone"
            self._tell(Outcome.STOPPED, f"it is down already: {status}", verdict, pod)

    def _tell(
        self, decision: Decision | Outcome, reason: str, verdict: Verdict, pod: Pod | None = None
    ) -> None:
        notes = (*verdict.notes, *self._notes) if pod is None else tuple(self._notes)
        self._notes = []
        name = pod.pod_id if pod is not None else None
        told = line(decision, reason, self._queue.name, verdict, pod_id=name, notes=notes)
        self._tools.tell(told)
