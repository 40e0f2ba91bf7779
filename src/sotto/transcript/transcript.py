"""Everything that is known about one job's speech, gathered window by window.

Invariant: segments are numbered from 1 in the order in which they are given out, which is that of
their starts, and what has been given out never changes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from sotto.audio.pcm import RATE, Pcm, PcmBlocks, Span
from sotto.language import Language
from sotto.meter import Laps, Meter
from sotto.transcript.coverage import uncovered
from sotto.transcript.parts import Part, spoken_words, translated_words
from sotto.transcript.segments import Assembly, Segment
from sotto.transcript.timing import total_s


class Track:
    """One channel of a job, or all of them mixed.

    `duration_s`: seconds of audio; `decoded_s`: seconds of it that the engine got;
    `uncovered_s`: seconds of speech for which it found no words; None where words are not aligned.
    `broken_off`: why the file could not be read to its end; None if it could.
    """

    def __init__(self, channel: int | None, language: Language) -> None:
        self.channel = channel
        self.language = language
        self.meter = Meter()
        self.duration_s = 0.0
        self.decoded_s = 0.0
        self.uncovered_s: float | None = 0.0
        self.broken_off: str | None = None
        self.silent = 0
        self.translation: list[Segment] = []
        self._spoken = Assembly(channel)
        self._translated = Assembly(channel, pause_s=math.inf, with_words=False)

    def measure(self, blocks: PcmBlocks) -> Iterator[Pcm]:
        """Pass PCM blocks on and count the seconds; what they return is why they broke off."""
        while True:
            try:
                pcm = next(blocks)
            except StopIteration as end:
                self.broken_off = end.value
                return
            self.duration_s += len(pcm) / RATE
            yield pcm

    def add(self, parts: Sequence[Part]) -> list[Segment]:
        """The segments that are complete now that this window, in its parts, is known."""
        self.decoded_s += parts[0].window.duration_s
        self.silent += parts[0].decoded.silent
        self.translation += self._translated.add(translated_words(parts))
        if parts[0].decoded.words is None:
            self.uncovered_s = None
            return self._spoken.add_whole(parts[0])
        if self.uncovered_s is not None:
            self.uncovered_s += _uncovered_s(parts[-1])
        return self._spoken.add(spoken_words(parts))

    def finish(self) -> list[Segment]:
        """The last segments; nothing can be added afterwards."""
        self.translation += self._translated.finish()
        return self._spoken.finish()


class Transcript:
    """The answer of one job while it grows; `length_s`: what the audio says that it lasts."""

    def __init__(self, warnings: Iterable[str] = ()) -> None:
        self.laps = Laps()
        self.warnings = list(warnings)
        self.tracks: list[Track] = []
        self.segments: list[Segment] = []
        self.length_s: float | None = None

    def track(self, channel: int | None, language: Language) -> Track:
        """Begin a channel; None means all channels mixed."""
        self.tracks.append(Track(channel, language))
        return self.tracks[-1]

    def keep(self, segment: Segment) -> Segment:
        """Number a segment that is given out."""
        self.segments.append(replace(segment, id=len(self.segments) + 1))
        return self.segments[-1]

    def finish(self, clips: Sequence[Span] = ()) -> None:
        """Say what there is to say about the job as a whole; `clips`: what was wanted of it."""
        broken_off = next((track.broken_off for track in self.tracks if track.broken_off), None)
        if broken_off:
            self.warnings.append(
                f"audio: it cannot be read beyond {self.duration_s:.1f} s: {broken_off}"
            )
        # The file's own claim is none to rely on; how long it is has been decoded by now.
        behind = sum(clip.start >= round(self.duration_s * RATE) for clip in clips)
        if behind:
            begin = "begins" if behind == 1 else "begin"
            self.warnings.append(
                f"clip_timestamps: {behind} of {len(clips)} clips {begin} behind the end of the "
                f"audio ({self.duration_s:.1f} s)"
            )
        silent = sum(track.silent for track in self.tracks)
        if silent:
            windows = "1 window was" if silent == 1 else f"{silent} windows were"
            self.warnings.append(f"no_speech_threshold: {windows} judged to hold no speech")

    @property
    def language(self) -> Language | None:
        """That of the first channel in which somebody speaks."""
        return next((track.language for track in self.tracks if track.language.code), None)

    @property
    def translation(self) -> list[Segment]:
        """The cues of the translation, in the order of their starts."""
        cues = [cue for track in self.tracks for cue in track.translation]
        cues.sort(key=lambda cue: cue.start_s)
        return [replace(cue, id=number) for number, cue in enumerate(cues, start=1)]

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return max((track.duration_s for track in self.tracks), default=0.0)

    @property
    def decoded_s(self) -> float:
        """Seconds that the engine got, of all channels together."""
        return sum(track.decoded_s for track in self.tracks)

    @property
    def uncovered_s(self) -> float | None:
        """Seconds of speech for which no words were found, if that is known of every channel."""
        known = [track.uncovered_s for track in self.tracks if track.uncovered_s is not None]
        return sum(known) if len(known) == len(self.tracks) else None

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, those of all channels added up, and `total`."""
        stages: Counter[str] = Counter()
        for track in self.tracks:
            stages.update(track.meter.seconds())
        return {**self.laps.seconds(), **stages, "total": self.laps.total()}


def _uncovered_s(part: Part) -> float:
    """Seconds of speech without words in the last part that was asked for."""
    return total_s(uncovered(part.window, part.decoded.words or ()))
