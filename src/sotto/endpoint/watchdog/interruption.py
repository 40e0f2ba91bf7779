"""SIGINT and SIGTERM: the first one ends the watchdog at its next pause, a second one at once.

Invariant: what goes on between two pauses is not torn in the middle, nor by the first signal what
is to be completed with all its pauses, such as stopping a pod.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The watchdog was asked to end."""


class Interruption:
    """While it is open as a context, `pause` is where the signals act."""

    def __init__(self) -> None:
        self._is_asked = False
        self._is_pausing = False
        self._is_completing = False

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._ask) for number in NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextmanager
    def completing(self) -> Iterator[None]:
        """While it is open no pause is interrupted; the first one after it is."""
        self._is_completing = True
        try:
            yield
        finally:
            self._is_completing = False

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Interrupted as soon as a signal has come, unless it is `completing`."""
        if self._is_completing:
            time.sleep(seconds)
            return
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
