"""Everything that is known about one job's speech, gathered window by window.

Invariant: segments are numbered from 1 in file order, and what has been given out never changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from sotto.audio.pcm import RATE, Pcm
from sotto.audio.windows import Window
from sotto.engine.base import Decoded
from sotto.meter import Meter
from sotto.transcript.segments import Assembly, Segment, spoken_words, translated_words


class Transcript:
    """The answer of one job while it grows.

    `duration_s`: seconds of audio; `decoded_s`: seconds of it that the engine got.
    """

    def __init__(self, warnings: Iterable[str] = ()) -> None:
        self.meter = Meter()
        self.warnings = list(warnings)
        self.language: str | None = None
        self.language_probability = 0.0
        self.duration_s = 0.0
        self.decoded_s = 0.0
        self.segments: list[Segment] = []
        self.translation: list[Segment] | None = None
        self._spoken = Assembly()
        self._translated = Assembly(pause_s=math.inf, with_words=False)
        self._silent = 0

    def measure(self, blocks: Iterable[Pcm]) -> Iterator[Pcm]:
        """Pass PCM blocks on and count the seconds."""
        for pcm in blocks:
            self.duration_s += len(pcm) / RATE
            yield pcm

    def add(self, window: Window, decoded: Decoded) -> list[Segment]:
        """The segments that are complete now that this window is known."""
        if self.language is None:
            self.language = decoded.language
            self.language_probability = decoded.language_probability
        self.decoded_s += window.duration_s
        self._silent += decoded.silent
        if decoded.translation is not None:
            words = translated_words(window, decoded)
            self.translation = self.translation or []
            self.translation += self._translated.add(window, decoded.draft, words)
        if decoded.words is None:
            return self._kept(self._spoken.add_whole(window, decoded.draft))
        words = spoken_words(window, decoded)
        return self._kept(self._spoken.add(window, decoded.draft, words))

    def finish(self) -> list[Segment]:
        """The last segments; nothing can be added afterwards."""
        if self.translation is not None:
            self.translation += self._translated.finish()
        if self._silent:
            windows = "1 window was" if self._silent == 1 else f"{self._silent} windows were"
            self.warnings.append(f"no_speech_threshold: {windows} judged to hold no speech")
        return self._kept(self._spoken.finish())

    def _kept(self, segments: list[Segment]) -> list[Segment]:
        self.segments += segments
        return segments
