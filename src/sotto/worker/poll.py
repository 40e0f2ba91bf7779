"""Long polls of the platform, one after another.

Invariant: whatever the platform answers or does not answer, it is not asked again at once, unless
it gave something or held the poll open; only cancellation ends a poll with an exception.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

POLL_S = 90.0
"""Longer than the platform holds a poll open; after it the connection counts as dead."""

PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0


class Poll:
    """`name` is what the log calls the thing that is asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0

    async def __call__(self, ask: Callable[..., Awaitable[Any]], *given: Any) -> list[Any]:
        """What `ask(*given)` brings; nothing, after a pause, if it fails or brings nothing."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        try:
            found = await asyncio.wait_for(ask(*given), POLL_S)
        except TimeoutError:
            found = None
        except Exception as error:
            # The SDK raises a bare Exception for an answer it cannot use. The message of others
            # may hold the address with its key, so only the kind is told.
            reason = getattr(error, "status", type(error).__name__)
            log.warning("%s does not answer: %s", self._name, reason)
            await asyncio.sleep(min(PAUSE_S * 2**self._failures, LONGEST_PAUSE_S))
            self._failures = min(self._failures + 1, 10)
            return []
        self._failures = 0
        if not found and clock() - asked < PAUSE_S:
            await asyncio.sleep(PAUSE_S)
        return list(found or ())
