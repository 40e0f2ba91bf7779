"""Timestamps of frames in, the silence that belongs before them out; pure.

Invariant: where a file's timestamps agree with the sound that came out, no sample is added.
"""

from __future__ import annotations

LATE_S = 0.1
"""Sound is not moved for less; what ffmpeg's `aresample` takes for a hole (`min_hard_comp`)."""
LONGEST_S = 10.0
"""A longer gap is a clock that was set anew, unless the file claims to be that long; the same limit
as ffmpeg's (`dts_delta_threshold`)."""
BACK_S = 1.0
"""A clock that goes back by more was set anew, too."""
TREMBLE_S = 0.005
"""Timestamps of live recordings tremble by a few milliseconds, and some files round to one."""


class Timeline:
    """Where a file's own clock says that its sound is, beside how much sound came out of it.

    `start_s`: the file's first timestamp, of sound or picture, if it is known. `claimed_s`: how
    long the file says that it lasts; 0 where it does not say, or where clocks that are set anew are
    usual.

    Clocks of files are not to be trusted, so silence takes more than sound that is late:

    - Frames are missing before this one, by the timestamps alone. A recorder's clock that only runs
      fast makes sound late, and leaves no gap.
    - The next frame agrees. A single stamp may be wrong, and after a network's pause stamps that
      tell when a frame arrived catch up.
    - Some frame has followed another without a gap. Of a clock that counts at a wrong rate, none
      does.
    """

    def __init__(self, start_s: float | None, claimed_s: float) -> None:
        self._zero_s = start_s
        self._ends_s = start_s or 0.0
        self._claimed_s = claimed_s
        self._came_s = 0.0
        self._missing_s = 0.0
        self._is_right = False

    def silence_s(self, starts_s: float | None, length_s: float, next_s: float | None) -> float:
        """Seconds of silence before the next frame, which starts and is followed then.

        A frame whose start is not known begins where the last one ended.
        """
        silence_s = 0.0 if starts_s is None else self._before(starts_s, length_s, next_s)
        self._came_s += silence_s + length_s
        self._ends_s += length_s
        return silence_s

    def _before(self, starts_s: float, length_s: float, next_s: float | None) -> float:
        if self._zero_s is None:
            self._zero_s, self._ends_s = starts_s - self._came_s, starts_s
        gap_s = starts_s - self._ends_s
        slack_s = max(TREMBLE_S, min(LATE_S, length_s / 2))
        if abs(gap_s) > slack_s and not _agrees(gap_s, starts_s + length_s, next_s, slack_s):
            return 0.0
        self._ends_s = starts_s
        if not -BACK_S <= gap_s <= max(LONGEST_S, self._claimed_s - self._came_s):
            self._zero_s, self._missing_s = starts_s - self._came_s, 0.0
            return 0.0

        is_first = self._came_s == 0
        self._is_right = self._is_right or (not is_first and abs(gap_s) < slack_s / 2)
        if gap_s < 0 or gap_s > slack_s:
            self._missing_s = max(0.0, self._missing_s + gap_s)
        missing_s = min(self._missing_s, starts_s - self._zero_s - self._came_s)
        if missing_s <= LATE_S or not (is_first or self._is_right):
            return 0.0
        self._missing_s = 0.0
        return missing_s


def _agrees(gap_s: float, ends_s: float, next_s: float | None, slack_s: float) -> bool:
    """Does the next frame start where one after such a gap might?"""
    if next_s is None:
        return False
    following_gap_s = next_s - ends_s
    return following_gap_s > -slack_s and (gap_s > 0 or following_gap_s < slack_s)
