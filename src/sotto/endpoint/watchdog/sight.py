"""What the watchdog looks at and what it sees: a queue and pods, as far as they can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """What is in a queue: jobs that wait, and jobs that somebody works on.

    `progress`: numbers of which at least one grows whenever a job passes through; empty where the
    queue keeps none. Work that came and went between two readings shows in nothing else.
    """

    waiting: int
    in_progress: int
    progress: tuple[int, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Is there no work at all?"""
        return self.waiting == self.in_progress == 0


@dataclass(frozen=True, slots=True)
class Unknown:
    """The queue could not be read, which says nothing about what is in it."""

    reason: str


class Unreadable(Exception):
    """A queue cannot be read; the message says which and why."""


class Queue(Protocol):
    """A queue that can be read. `name` is for people, and holds no secret."""

    name: str

    def read(self) -> Reading:
        """What is in it now. Raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pods: those with these ids, and those whose name fits one of these patterns."""

    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the API tells it.

    `is_up`: it can be stopped. `gpu_percent`: how busy its busiest GPU is, None where the API does
    not say. `started_at`: another value means that it was started again.
    """

    pod_id: str
    name: str
    status: str
    is_up: bool
    is_locked: bool
    gpu_percent: float | None
    usd_an_hour: float
    started_at: str | None


@dataclass(frozen=True, slots=True)
class Sight:
    """One look. `unseen`: why some pods, or all, could not be seen; empty if all were."""

    queue: Reading | Unknown
    pods: tuple[Pod, ...] = ()
    unseen: tuple[str, ...] = ()
