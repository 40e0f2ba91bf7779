"""Timestamps of frames in, the silence that belongs before them out; pure.

Invariant: where a file's timestamps agree with the sound that came out, no sample is added.
"""

from __future__ import annotations

LATE_S = 0.1
"""Sound is not moved for less: files round their timestamps, and recorders' clocks tremble.

What ffmpeg's `aresample` takes for a hole, too (its option `min_hard_comp`).
"""
LONGEST_S = 10.0
"""The longest silence without a claim that the file is that long; the same in which ffmpeg believes
a clock that jumps (its option `dts_delta_threshold`)."""


class Timeline:
    """Where a file's own clock says that its sound is, beside how much sound came out of it.

    `start_s`: the file's first timestamp, of sound or picture. `claimed_s`: how long the file says
    that it lasts; 0 where it does not say, or where clocks that jump are usual.
    """

    def __init__(self, start_s: float, claimed_s: float) -> None:
        self._zero_s = start_s
        self._claimed_s = claimed_s
        self._ends_s = start_s
        self._length_s = 0.0
        self._came_s = 0.0
        self._gapes = False

    def silence_s(self, starts_s: float) -> float:
        """Seconds of silence before a frame that starts then.

        It takes two witnesses: the sound is late by all that came so far, and there is a gap just
        before this frame, as there was none before the last. A clock that is only fast is late
        without a gap, and one that counts at a wrong rate has a gap before every frame.
        """
        gap_s = starts_s - self._ends_s
        gaped, self._gapes = self._gapes, gap_s > min(LATE_S, self._length_s / 2)
        self._ends_s = starts_s
        late_s = starts_s - self._zero_s - self._came_s
        if not self._believes(late_s):
            self._zero_s += late_s
            return 0.0
        if late_s <= LATE_S or gaped or not self._gapes:
            return 0.0
        self._came_s += late_s
        return late_s

    def add(self, length_s: float) -> None:
        """The frame is that long."""
        self._length_s = length_s
        self._ends_s += length_s
        self._came_s += length_s

    def _believes(self, late_s: float) -> bool:
        return -LONGEST_S <= late_s <= max(LONGEST_S, self._claimed_s - self._came_s)
