"""What a running job may send besides its result: its progress, and items of its stream.

Invariant: there is always a current channel; outside of the platform's loop, at the desk for one,
it is a silent one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol


class Channel(Protocol):
    """From one job to whoever asked for it; nothing passes once its result is on the way."""

    async def progress(self, update: Mapping[str, Any]) -> None:
        """Show `update` as the job's output until there is a better one."""

    async def stream(self, item: Any) -> None:
        """Add `item` to the job's stream. They arrive in order; a bad connection may double one."""


class Silent:
    """A channel that nobody listens to."""

    async def progress(self, update: Mapping[str, Any]) -> None:
        """Send nothing."""

    async def stream(self, item: Any) -> None:
        """Send nothing."""


_SILENT = Silent()
_current: ContextVar[Channel] = ContextVar("sotto_channel", default=_SILENT)


def current() -> Channel:
    """The channel of the job that this task, or the one that started it, works for."""
    return _current.get()


def assign(channel: Channel) -> None:
    """Make `channel` the current one of this task and of those it starts from now on."""
    _current.set(channel)
