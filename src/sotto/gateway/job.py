"""One job as the gateway knows it, and as `/status` shows it.

Invariant: a job is in one state, and only `Jobs` moves it to another.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class State(enum.StrEnum):
    """Where a job is in its life."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT})
RETRYABLE = frozenset({State.FAILED, State.TIMED_OUT})
SYNC_RETENTION_S = 60.0
ASYNC_RETENTION_S = 30 * 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a job may run and live, and whether it may have workers started for it."""

    execution_timeout_s: float = 600.0
    ttl_s: float = 86_400.0
    low_priority: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked for. `sync`: it waits for the answer."""

    input: Mapping[str, Any]
    policy: Policy = field(default_factory=Policy)
    sync: bool = False
    webhook: str | None = None
    s3_config: Mapping[str, Any] | None = None


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of `/status`; what is not known yet is left out. Times in milliseconds."""

    id: str
    status: State
    delay_time: int | UnsetType = UNSET
    execution_time: int | UnsetType = UNSET
    output: Any = UNSET
    error: Any = UNSET
    worker_id: str | UnsetType = UNSET


@dataclass(slots=True, eq=False)
class Job:
    """An order and what became of it. Times are the clock's of `Jobs`, in seconds.

    `stream`: what the worker has streamed and no client has fetched.
    """

    id: str
    order: Order
    submitted_s: float
    queued_s: float
    state: State = State.IN_QUEUE
    worker_id: str | None = None
    started_s: float | None = None
    finished_s: float | None = None
    output: Any = UNSET
    error: Any = UNSET
    stream: list[Any] = field(default_factory=list)
    workers_lost: int = 0

    def queue(self, now_s: float) -> None:
        """Back to the state of a job that no worker has seen."""
        self.state, self.queued_s = State.IN_QUEUE, now_s
        self.worker_id = self.started_s = self.finished_s = None
        self.output = self.error = UNSET
        self.stream = []

    def start(self, worker_id: str, now_s: float) -> None:
        """A worker has it."""
        self.state, self.worker_id, self.started_s = State.IN_PROGRESS, worker_id, now_s

    def is_held_by(self, worker_id: str) -> bool:
        """Is this worker running it?"""
        return self.state is State.IN_PROGRESS and self.worker_id == worker_id

    def is_overdue(self, now_s: float) -> bool:
        """Has it run longer than its policy allows?"""
        if self.state is not State.IN_PROGRESS or self.started_s is None:
            return False
        return now_s >= self.started_s + self.order.policy.execution_timeout_s

    def is_expired(self, now_s: float) -> bool:
        """Is it time to forget it?"""
        expires_s = self.submitted_s + self.order.policy.ttl_s
        if self.finished_s is not None:
            retention_s = SYNC_RETENTION_S if self.order.sync else ASYNC_RETENTION_S
            expires_s = min(expires_s, self.finished_s + retention_s)
        return now_s >= expires_s

    def status(self) -> Status:
        """What a client may know of it."""
        return Status(
            id=self.id,
            status=self.state,
            delay_time=_ms(self.queued_s, self.started_s),
            execution_time=_ms(self.started_s, self.finished_s),
            output=self.output,
            error=self.error,
            worker_id=UNSET if self.worker_id is None else self.worker_id,
        )


def _ms(from_s: float | None, to_s: float | None) -> int | UnsetType:
    if from_s is None or to_s is None:
        return UNSET
    return round((to_s - from_s) * 1000)
