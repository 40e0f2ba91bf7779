"""Waking those who wait for something to change.

Invariant: whoever waits looks first and looks again after every change, so none is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class Change:
    """Something that changes now and then, in one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def happened(self) -> None:
        """Wake everyone who waits."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, wait_s: float) -> None:
        """Return at the next change, or after `wait_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._next.wait()

    async def until(self, look: Callable[[], Found], wait_s: float) -> Found:
        """Give what `look` finds, as soon as it is true or after `wait_s` seconds.

        Nothing is awaited between the last look and the return: what `look` took is handed on.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while not (found := look()) and (left_s := deadline_s - loop.time()) > 0:
            await self.wait(left_s)
        return found
