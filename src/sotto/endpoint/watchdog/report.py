"""What the watchdog says: one line of JSON for each decision, and an exit code.

Invariant: every line has the same fields.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import TextIO

import msgspec

from sotto.endpoint.watchdog.decide import Decision, Verdict
from sotto.endpoint.watchdog.sight import Reading


class Outcome(StrEnum):
    """What becomes of a pod that is due, and of a watchdog that is one too many."""

    STOPPED = "stopped"
    WOULD_STOP = "would_stop"
    STOP_FAILED = "stop_failed"
    KEPT = "kept"
    """Another look, just before it was to be stopped, found a reason against it."""
    SKIPPED = "skipped"


class Exit(IntEnum):
    """How the command ends. 2 is what a command line gets that cannot be read."""

    DECIDED = 0
    REFUSED = 1
    """It cannot run like this: options, key, package, file."""
    ALARM = 3
    """Nothing could be decided for too long, or what is remembered cannot be kept."""
    STOP_FAILED = 4
    """A pod should have been stopped and was not."""
    HELD = 5
    """Another watchdog has the state file."""
    INTERRUPTED = 130


class PodLine(msgspec.Struct, frozen=True):
    """A pod. `idle_s`: for how long it and the queue have been without work."""

    id: str
    name: str
    status: str
    locked: bool
    gpu_percent: float | None
    idle_s: float


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. `depth`, `in_progress`: of the queue, None where it could not be read.

    `idle_s`: for how long the queue has been empty. `blind_s`: for how long nothing could be
    decided. `pods`: those that were chosen, or the one that the line is about.
    """

    ts: str
    decision: str
    reason: str
    queue: str
    depth: int | None = None
    in_progress: int | None = None
    idle_s: float = 0.0
    blind_s: float = 0.0
    pods: tuple[PodLine, ...] = ()
    notes: tuple[str, ...] = ()


def line(
    decision: Decision | Outcome,
    reason: str,
    queue: str,
    verdict: Verdict | None = None,
    *,
    pod_id: str | None = None,
    notes: Sequence[str] = (),
) -> Line:
    """The line of a decision on all pods, or on the one called `pod_id`, after `verdict`."""
    told = Line(ts=_now(), decision=decision, reason=reason, queue=queue, notes=tuple(notes))
    if verdict is None:
        return told
    reading = verdict.sight.queue
    known = reading if isinstance(reading, Reading) else None
    return msgspec.structs.replace(
        told,
        depth=known and known.waiting,
        in_progress=known and known.in_progress,
        idle_s=round(verdict.memory.queue.idle_s, 1),
        blind_s=round(verdict.memory.blind_s, 1),
        pods=tuple(
            PodLine(
                id=one.pod.pod_id,
                name=one.pod.name,
                status=one.pod.status,
                locked=one.pod.is_locked,
                gpu_percent=one.pod.gpu_percent,
                idle_s=round(one.clock.idle_s, 1),
            )
            for one in verdict.watched
            if pod_id in {None, one.pod.pod_id}
        ),
    )


def write(told: Line) -> None:
    """Write a line to the standard output; that it cannot be written keeps no pod running."""
    text = f"{msgspec.json.encode(told).decode()}\n"
    why_not = _unwritten(sys.stdout, text)
    if why_not:
        _unwritten(sys.stderr, f"standard output: {why_not}: {text}")


def _unwritten(stream: TextIO | None, text: str) -> str:
    """Write, and say why that cannot be; "" if it can. A stream closed from the start is None."""
    if stream is None:
        return "closed"
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        return error.strerror or "failed"
    except ValueError as error:  # closed meanwhile, or its encoding lacks a letter
        return str(error)
    return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
