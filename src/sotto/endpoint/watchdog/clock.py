"""For how long something has been idle, as far as it was seen.

Invariant: the time between two readings counts only if they follow one another, if both found
idleness and if they are no further apart than is allowed. So a clock never runs ahead of what was
seen, and a reading that says nothing moves it not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, le=1e10)]


class Sign(Enum):
    """What a reading says."""

    IDLE = auto()
    BUSY = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Clock:
    """`idle_s`: the time that counts. `unseen_s`: since the last reading that said anything.

    `is_running`: that reading was the last one, and it found idleness.
    """

    idle_s: Seconds = 0.0
    unseen_s: Seconds = 0.0
    is_running: bool = False

    def after(self, elapsed_s: float, sign: Sign, longest_gap_s: float) -> Clock:
        """The clock after a reading, `elapsed_s` after the one before."""
        unseen_s = self.unseen_s + elapsed_s
        if sign is Sign.BUSY:
            return Clock()
        # Much may have happened meanwhile.
        idle_s = self.idle_s if unseen_s <= longest_gap_s else 0.0
        if sign is Sign.UNKNOWN:
            return Clock(idle_s, unseen_s)
        if self.is_running and unseen_s <= longest_gap_s:
            idle_s += elapsed_s
        return Clock(idle_s, is_running=True)
