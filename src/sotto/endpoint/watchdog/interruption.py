"""SIGINT and SIGTERM: the first one ends the watchdog at its next pause, a second one at once.

Invariant: what goes on between two pauses, such as stopping a pod, is not torn in the middle.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The watchdog was asked to end."""


class Interruption:
    """While it is open as a context, `pause` is where the signals act."""

    def __init__(self) -> None:
        self._is_asked = False
        self._is_pausing = False

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._ask) for number in NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Interrupted as soon as a signal has come."""
        self._is_pausing = True
        try:
            if self._is_asked:
                raise Interrupted
            time.sleep(seconds)
        finally:
            self._is_pausing = False

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._is_asked = True
        self._restore()
        if self._is_pausing:
            raise Interrupted

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
