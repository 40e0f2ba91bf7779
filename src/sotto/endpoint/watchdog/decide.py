"""Whether pods may be stopped: the policy, and nothing but the policy.

Invariant: pure. A pod is due only if this very look finds the queue empty and the pod without work,
and so did every look that said anything since its idle time began. What cannot be seen is never
taken for empty, and moves no idle time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sotto.endpoint.watchdog.clock import Clock, Seconds, Sign
from sotto.endpoint.watchdog.sight import Pod, Reading, Sight, Unknown


class Decision(StrEnum):
    """What one look leads to."""

    ALARM = "alarm"
    """Nothing could be decided for long: pods may run for nothing."""
    UNKNOWN = "unknown"
    """The queue or the pods cannot be seen."""
    NOTHING = "nothing"
    """No pod is up."""
    BUSY = "busy"
    WAIT = "wait"
    """All is idle, but not for long enough."""
    LOCKED = "locked"
    """What could be stopped may not be stopped."""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Rules:
    """`idle_s`: how long all must be idle. `alarm_s`: how long it may be that nothing is decided.

    `gpu_busy_percent`: a GPU that is as busy as this works.
    """

    idle_s: float
    alarm_s: float
    gpu_busy_percent: float

    @property
    def longest_gap_s(self) -> float:
        """How far two looks may be apart: it takes three at least to call a queue idle."""
        return self.idle_s / 2

    @property
    def longest_pause_s(self) -> float:
        """How long to pause between two looks at most; the looks themselves take time too."""
        return self.longest_gap_s / 2


@dataclass(frozen=True, slots=True)
class PodMemory:
    """What is remembered of a pod that is up."""

    pod_id: str
    started_at: str | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class Memory:
    """What one look leaves for the next. `blind_s`: for how long nothing could be decided."""

    queue: Clock = field(default_factory=Clock)
    pods: tuple[PodMemory, ...] = ()
    progress: tuple[int, ...] = ()
    blind_s: Seconds = 0.0

    def without(self, pod_id: str) -> Memory:
        """What remains once that pod is down: when it is up again its time begins anew."""
        return replace(self, pods=tuple(pod for pod in self.pods if pod.pod_id != pod_id))


@dataclass(frozen=True, slots=True)
class Watched:
    """A pod, what this look says of it, and its clock: for how long it and the queue were idle."""

    pod: Pod
    sign: Sign
    clock: Clock


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on `sight`, why, and what else there is to say. `due`: the pods to stop now."""

    sight: Sight
    decision: Decision
    reason: str
    notes: tuple[str, ...]
    due: tuple[Pod, ...]
    watched: tuple[Watched, ...]
    memory: Memory


def decide(rules: Rules, memory: Memory, elapsed_s: float, sight: Sight) -> Verdict:
    """What follows from `sight`, `elapsed_s` after the look that left `memory`."""
    sign, told = _queue(memory, sight.queue)
    watched = tuple(_watched(rules, memory, elapsed_s, pod, sign) for pod in sight.pods)
    up = [one for one in watched if one.pod.is_up]
    ripe = [one for one in up if one.sign is Sign.IDLE and one.clock.idle_s >= rules.idle_s]
    due = tuple(one.pod for one in ripe if not one.pod.is_locked)
    hidden = [*sight.unseen, *_hidden(rules, elapsed_s, sign, told if up or sight.unseen else "")]
    blind_s = memory.blind_s + elapsed_s if hidden else 0.0
    notes = (*_immovable(ripe), *_broken(sight.pods))
    if hidden and blind_s >= rules.alarm_s:
        decision = Decision.ALARM
        reason = f"nothing could be decided for {blind_s:.0f} s, and pods cost money meanwhile: "
        reason += "; ".join(hidden)
    elif due:
        decision, reason = Decision.STOP, _for_how_long(ripe)
        notes = (*notes, *hidden)
    elif hidden:
        decision, reason = Decision.UNKNOWN, "; ".join(hidden)
    else:
        decision, reason = _seen(rules, up, ripe, sign, told)
    remembered = Memory(
        queue=memory.queue.after(elapsed_s, sign, rules.longest_gap_s),
        pods=(
            *(PodMemory(one.pod.pod_id, one.pod.started_at, one.clock) for one in up),
            *_unseen(rules, memory, elapsed_s, sight, sign),
        ),
        progress=sight.queue.progress if isinstance(sight.queue, Reading) else memory.progress,
        blind_s=blind_s,
    )
    return Verdict(sight, decision, reason, notes, due, watched, remembered)


def _queue(memory: Memory, queue: Reading | Unknown) -> tuple[Sign, str]:
    """What the queue says, in words too."""
    if isinstance(queue, Unknown):
        return Sign.UNKNOWN, queue.reason
    if not queue.is_empty:
        return Sign.BUSY, f"{queue.waiting} waiting, {queue.in_progress} in progress"
    if any(now > before for now, before in zip(queue.progress, memory.progress, strict=False)):
        return Sign.BUSY, "work came and went since the last look"
    return Sign.IDLE, "the queue is empty"


def _watched(rules: Rules, memory: Memory, elapsed_s: float, pod: Pod, queue: Sign) -> Watched:
    """The pod after this look. One that was started since the last look begins its time anew."""
    sign = Sign.BUSY if (pod.gpu_percent or 0.0) >= rules.gpu_busy_percent else queue
    for known in memory.pods:
        if (known.pod_id, known.started_at) == (pod.pod_id, pod.started_at):
            return Watched(pod, sign, known.clock.after(elapsed_s, sign, rules.longest_gap_s))
    return Watched(pod, sign, Clock().after(0.0, sign, rules.longest_gap_s))


def _hidden(rules: Rules, elapsed_s: float, sign: Sign, told: str) -> Iterator[str]:
    """Why the queue lets nothing be decided; with `told` empty nothing is asked of it."""
    if told and sign is Sign.UNKNOWN:
        yield told
    if told and sign is Sign.IDLE and elapsed_s > rules.longest_gap_s:
        yield (
            f"nobody looked for {elapsed_s:.0f} s, so the idle time begins anew; look every "
            f"{rules.longest_gap_s:.0f} s or more often"
        )


def _seen(
    rules: Rules, up: Sequence[Watched], ripe: Sequence[Watched], sign: Sign, told: str
) -> tuple[Decision, str]:
    """The decision where all could be seen and nothing is to be stopped."""
    if not up:
        return Decision.NOTHING, f"no pod is up; {told}"
    if ripe:
        return Decision.LOCKED, f"{_for_how_long(ripe)}, but locked"
    if sign is Sign.BUSY:
        return Decision.BUSY, told
    busy = [
        f"{one.pod.pod_id} has a GPU at {one.pod.gpu_percent:.0f} %"
        for one in up
        if one.sign is Sign.BUSY
    ]
    if len(busy) == len(up):
        return Decision.BUSY, "; ".join(busy)
    waiting = f"{_for_how_long(up)}; pods are stopped after {rules.idle_s:.0f} s"
    return Decision.WAIT, "; ".join((waiting, *busy))


def _for_how_long(pods: Sequence[Watched]) -> str:
    return f"no work for {max(one.clock.idle_s for one in pods):.0f} s"


def _immovable(ripe: Sequence[Watched]) -> Iterator[str]:
    for one in ripe:
        if one.pod.is_locked:
            yield f"{one.pod.pod_id} is locked and refuses to be stopped; unlock it"


def _broken(pods: Sequence[Pod]) -> Iterator[str]:
    """Pods that cost money and cannot be stopped."""
    for pod in pods:
        if not pod.is_up and pod.usd_an_hour > 0:
            yield (
                f"{pod.pod_id} is {pod.status} and costs {pod.usd_an_hour:g} USD an hour, but "
                "cannot be stopped; start or terminate it"
            )


def _unseen(
    rules: Rules, memory: Memory, elapsed_s: float, sight: Sight, queue: Sign
) -> Iterator[PodMemory]:
    """What remains of pods that were up and cannot be seen; without work they may still be."""
    seen = {pod.pod_id for pod in sight.pods}
    sign = Sign.BUSY if queue is Sign.BUSY else Sign.UNKNOWN
    for known in memory.pods:
        if sight.unseen and known.pod_id not in seen:
            clock = known.clock.after(elapsed_s, sign, rules.longest_gap_s)
            yield PodMemory(known.pod_id, known.started_at, clock)
