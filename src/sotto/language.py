"""The language of one job: given, or decided by its first windows.

Invariant: once decided it never changes, and every window that voted learns the decision.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

SURE = 0.5
"""Probability from which one window decides alone (faster-whisper's default)."""
VOTES = 3
"""Windows that vote while none of them is sure."""


class Language:
    """Windows ask for it in file order; while it is open, each hears for itself and votes."""

    def __init__(self, given: str | None, *, votes: int = VOTES) -> None:
        self.code = given
        self.probability = 1.0 if given else 0.0
        self._heard_at = 0
        self._votes: list[tuple[str, float]] = []
        self._enough = votes
        self._changed = asyncio.Condition()

    async def before(self, index: int) -> str | None:
        """The language for window `index`, or None: it has to hear for itself, and to vote."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.code or len(self._votes) >= index)
            return self.code

    async def vote(self, code: str, probability: float) -> str:
        """What a window heard; gives back the decision, for which it may have to wait."""
        async with self._changed:
            self._votes.append((code, probability))
            self._count(sure=probability >= SURE)
            await self._changed.wait_for(lambda: self.code)
        return self.code or code

    def heard(self, index: int, code: str, probability: float) -> None:
        """A window's language in a job whose windows need not agree; the first one's is told."""
        if self.code is None or index < self._heard_at:
            self.code, self.probability, self._heard_at = code, probability, index

    async def end(self, windows: int) -> None:
        """The job has so many windows, so no more can vote."""
        async with self._changed:
            self._enough = min(self._enough, windows)
            self._count(sure=False)

    def _count(self, *, sure: bool) -> None:
        if self.code is None and sure:
            self.code, self.probability = self._votes[-1]
        elif self.code is None and self._votes and len(self._votes) >= self._enough:
            heard: dict[str, float] = defaultdict(float)
            for code, probability in self._votes:
                heard[code] += probability
            self.code = max(heard, key=lambda code: heard[code])
            self.probability = max(p for code, p in self._votes if code == self.code)
        self._changed.notify_all()
