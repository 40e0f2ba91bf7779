"""Everything that is known about one job's speech, gathered window by window.

Invariant: segments are numbered from 1 in file order, and what has been given out never changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from sotto.audio.pcm import RATE, Pcm
from sotto.language import Language
from sotto.meter import Meter
from sotto.transcript.coverage import total_s, uncovered
from sotto.transcript.segments import Assembly, Part, Segment, spoken_words, translated_words


class Transcript:
    """The answer of one job while it grows.

    `duration_s`: seconds of audio; `decoded_s`: seconds of it that the engine got;
    `uncovered_s`: seconds of speech for which it found no words.
    """

    def __init__(self, warnings: Iterable[str] = ()) -> None:
        self.meter = Meter()
        self.warnings = list(warnings)
        self.language: str | None = None
        self.language_probability = 0.0
        self.duration_s = 0.0
        self.decoded_s = 0.0
        self.uncovered_s = 0.0
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

    def add(self, parts: Sequence[Part], language: Language) -> list[Segment]:
        """The segments that are complete now that this window, in its parts, is known."""
        self.language, self.language_probability = language.code, language.probability
        self.decoded_s += parts[0].window.duration_s
        for part in parts:
            self._silent += part.decoded.silent
            if part.decoded.translation is not None:
                self.translation = self.translation or []
                self.translation += self._translated.add(translated_words(part))
        if parts[0].decoded.words is None:
            return self._kept(self._spoken.add_whole(parts[0]))
        self.uncovered_s += _uncovered_s(parts[-1])
        return self._kept(self._spoken.add(spoken_words(parts)))

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


def _uncovered_s(part: Part) -> float:
    """Seconds of speech without words in the last part that was asked for."""
    return total_s(uncovered(part.window, part.decoded.words or ()))
