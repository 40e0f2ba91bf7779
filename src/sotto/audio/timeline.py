"""Timestamps of frames in, the silence that belongs before them out; pure.

Invariant: where a file's timestamps agree with the sound that came out, no sample is added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

LATE_S = 0.1
"""Sound is not moved for less; what ffmpeg's `aresample` takes for a hole (`min_hard_comp`)."""
LONGEST_S = 10.0
"""A longer gap is a clock that was set anew, unless the file claims to be that long; the same limit
as ffmpeg's (`dts_delta_threshold`)."""
BACK_S = 1.0
"""A clock that goes back by more was set anew, too."""
AHEAD_S = 0.5
"""So much sound after a gap has to agree that there is one."""
TREMBLE_S = 0.005
"""Timestamps of live recordings tremble by a few milliseconds, and some files round to one."""


Frame = TypeVar("Frame")


class Stamped(NamedTuple):
    """A frame's start, if it is known, and length, in seconds."""

    starts_s: float | None
    length_s: float


class Timeline:
    """Where a file's own clock says that its sound is, beside how much sound came out of it.

    `start_s`: the file's first timestamp, of sound or picture, if it is known. `claimed_s`: how
    long the file says that it lasts; 0 where it does not say, or where clocks that are set anew are
    usual.

    Clocks of files are not to be trusted, so silence takes more than sound that is late:

    - Frames are missing before this one, by the timestamps alone. A recorder's clock that only runs
      fast makes sound late, and leaves no gap.
    - The frames that come agree. A few stamps may be wrong, and after a pause of the network stamps
      that tell when a frame arrived catch up.
    - Some frame has followed another without a gap. Of a clock that counts at a wrong rate, none
      should.
    """

    def __init__(self, start_s: float | None, claimed_s: float) -> None:
        self._zero_s = start_s  # on the file's clock; where this timeline begins
        self._ends_s = start_s or 0.0  # on the file's clock; the last frame's end
        self._came_s = 0.0  # of silence and sound
        self._last_s = 0.0  # the last frame's length
        self._claimed_s = claimed_s
        self._missing_s = 0.0
        self._is_right = False

    def placed(self, frames: Iterable[tuple[Stamped, Frame]]) -> Iterator[tuple[float, Frame]]:
        """Each frame with the seconds of silence that belong before it.

        A frame whose start is not known begins where the last one ended. Frames of AHEAD_S and one
        more are held.
        """
        held: deque[tuple[Stamped, Frame]] = deque()
        held_s = 0.0
        for stamped, frame in frames:
            held.append((stamped, frame))
            held_s += stamped.length_s
            while held_s - held[0][0].length_s >= AHEAD_S:
                held_s -= held[0][0].length_s
                yield self._next(held)
        while held:
            yield self._next(held)

    def _next(self, held: deque[tuple[Stamped, Frame]]) -> tuple[float, Frame]:
        """Take the first of these frames, the others being those that come."""
        (starts_s, length_s), frame = held.popleft()
        silence_s = 0.0
        if starts_s is not None:
            silence_s = self._before(starts_s, length_s, (coming for coming, _ in held))
        self._came_s += silence_s + length_s
        self._ends_s += length_s
        self._last_s = length_s
        return silence_s, frame

    def _before(self, starts_s: float, length_s: float, coming: Iterable[Stamped]) -> float:
        if self._zero_s is None:
            self._zero_s, self._ends_s = starts_s - self._came_s, starts_s
        gap_s = starts_s - self._ends_s
        slack_s = max(TREMBLE_S, min(LATE_S, length_s / 2))
        gaps = abs(gap_s) > slack_s
        if gaps and not _agree(coming, starts_s + length_s, slack_s, may_gap=gap_s > 0):
            return 0.0
        self._ends_s = starts_s
        is_first = self._came_s == 0
        if not is_first and abs(gap_s) < min(self._last_s, length_s) / 4:
            self._is_right = True
        if gaps:
            self._missing_s = max(0.0, self._missing_s + gap_s)
        missing_s = min(self._missing_s, starts_s - self._zero_s - self._came_s)
        if gap_s < -BACK_S or missing_s > max(LONGEST_S, self._claimed_s - self._came_s):
            self._zero_s, self._missing_s = starts_s - self._came_s, 0.0
            return 0.0
        if missing_s <= LATE_S or not (is_first or self._is_right):
            return 0.0
        self._missing_s = 0.0
        return missing_s


def _agree(coming: Iterable[Stamped], ends_s: float, slack_s: float, *, may_gap: bool) -> bool:
    """Does no frame start before those ahead of it are over, nor, unless it may, later?"""
    for frame in coming:
        if frame.starts_s is not None:
            gap_s = frame.starts_s - ends_s
            if gap_s < -slack_s or (gap_s > slack_s and not may_gap):
                return False
        ends_s += frame.length_s
    return True
