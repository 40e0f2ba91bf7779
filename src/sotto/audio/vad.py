"""PCM blocks in, speech spans out, while the audio still streams.

Invariant: the spans equal those of faster-whisper's `get_speech_timestamps` on the whole audio with
the same options, whatever the size of the blocks; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sotto.audio.pcm import RATE, Pcm, Span
from sotto.audio.silero import FRAME, Silero

CUT_SILENCE = RATE * 98 / 1000
"""Silence at which too long a speech may be cut, in samples."""


@dataclass(frozen=True, slots=True)
class VadOptions:
    """faster-whisper's `VadOptions`, in samples; `speech_pad` may be fractional."""

    threshold: float
    neg_threshold: float
    min_speech: float
    max_speech: float
    min_silence: float
    speech_pad: float


@dataclass(frozen=True, slots=True)
class Speech:
    """One speech: the voice itself, and the stretch to decode, padded on both sides."""

    voice: Span
    padded: Span


@dataclass(frozen=True, slots=True)
class Heard:
    """One block of PCM, and what is known once it has been heard.

    `pcm`: float32 mono at 16 kHz, empty at the end of the file. `speeches`: those that have become
    final, in order. `settled`: no later speech starts, padding included, before this sample.
    """

    pcm: Pcm
    speeches: tuple[Speech, ...]
    settled: int
    last: bool


def vad_options(
    *,
    threshold: float,
    neg_threshold: float | None,
    min_speech_duration_ms: int,
    max_speech_duration_s: float,
    min_silence_duration_ms: int,
    speech_pad_ms: int,
) -> VadOptions:
    """The request's VAD parameters, in samples."""
    pad = RATE * speech_pad_ms / 1000
    return VadOptions(
        threshold=threshold,
        neg_threshold=max(threshold - 0.15, 0.01) if neg_threshold is None else neg_threshold,
        min_speech=RATE * min_speech_duration_ms / 1000,
        max_speech=RATE * max_speech_duration_s - FRAME - 2 * pad,
        min_silence=RATE * min_silence_duration_ms / 1000,
        speech_pad=pad,
    )


def listen(
    blocks: Iterable[Pcm], options: VadOptions, score: Callable[[Pcm], Pcm] | None = None
) -> Iterator[Heard]:
    """Find the speech in PCM `blocks`, each a whole number of frames but for the last.

    `score` turns a block into one speech probability a frame; by default Silero's, with the
    network's state carried from block to block.
    """
    score = score or Silero()
    turns = Turns(options)
    padding = Padding(options.speech_pad)
    total = 0
    for pcm in blocks:
        whole = len(pcm) // FRAME * FRAME
        voices = turns.hear(score(pcm[:whole])) if whole else []
        total += len(pcm)
        if whole < len(pcm):
            voices += turns.hear(score(_filled(pcm[whole:])))
        # A last frame that is not whole reaches beyond the file; there the end of it decides.
        speeches = padding.add(voices, turns.quiet_since if whole == len(pcm) else None)
        settled = min(total, padding.settled(turns.open_since))
        yield Heard(pcm, tuple(speeches), settled, last=False)
    # get_speech_timestamps pads the audio by at least one sample, so here by a whole frame.
    more = score(np.zeros(FRAME, np.float32)) if total % FRAME == 0 else np.zeros(0, np.float32)
    voices = turns.hear(more) + turns.finish(total)
    speeches = padding.add(voices, None) + padding.finish(total)
    yield Heard(np.zeros(0, np.float32), tuple(speeches), total, last=True)


def _filled(pcm: Pcm) -> Pcm:
    return np.pad(pcm, (0, FRAME - len(pcm)))


class Turns:
    """Silero's state machine: from probabilities to voices, without their padding.

    The rules are those of `get_speech_timestamps`: a voice begins at `threshold`, ends where the
    probability stayed under `neg_threshold` for `min_silence`, and one longer than `max_speech` is
    cut at its last silence of 98 ms, or right there if it has none.
    """

    def __init__(self, options: VadOptions) -> None:
        self._options = options
        self._at = 0
        self._start: int | None = None
        self._silence = 0  # where the silence that may end this voice began; 0: none
        self._cut = 0  # end of the part before the last silence long enough to cut at; 0: none
        self._resume = 0  # where the voice went on after that silence

    @property
    def open_since(self) -> int:
        """Start of the voice that goes on, else the next sample to be heard."""
        return self._at if self._start is None else self._start

    @property
    def quiet_since(self) -> int | None:
        """The next sample to be heard if nobody speaks, else None."""
        return self._at if self._start is None else None

    def hear(self, probabilities: Pcm) -> list[Span]:
        """The voices that end within these frames."""
        ended = []
        for probability in probabilities.tolist():
            voice = self._frame(probability)
            if voice is not None:
                ended.append(voice)
            self._at += FRAME
        return ended

    def finish(self, total: int) -> list[Span]:
        """The voice that lasts to the end of the file, which has `total` samples."""
        start, self._start = self._start, None
        if start is None or total - start <= self._options.min_speech:
            return []
        return [Span(start, total)]

    def _frame(self, probability: float) -> Span | None:
        options = self._options
        if probability >= options.threshold:
            if self._silence:
                self._silence = 0
                if self._resume < self._cut:
                    self._resume = self._at
            if self._start is None:
                self._start = self._at
                return None
        if self._start is None:
            return None
        cut = None
        if self._at - self._start > options.max_speech:
            cut, goes_on = self._cut_here(self._start)
            if not goes_on:
                return cut
        if self._start is not None and probability < options.neg_threshold:
            return self._quiet(self._start) or cut
        return cut

    def _cut_here(self, start: int) -> tuple[Span, bool]:
        """End a voice that is too long; True: this frame may still end what is left of it."""
        voice = Span(start, self._cut or self._at)
        goes_on = bool(self._cut)
        self._start = self._resume if self._cut and self._resume >= self._cut else None
        self._silence = self._cut = self._resume = 0
        return voice, goes_on

    def _quiet(self, start: int) -> Span | None:
        """A frame without voice: the voice ends if the silence has lasted long enough."""
        self._silence = self._silence or self._at
        silence = self._at - self._silence
        if silence > CUT_SILENCE:
            self._cut = self._silence
        if silence < self._options.min_silence:
            return None
        voice = Span(start, self._silence)
        self._start = None
        self._silence = self._cut = self._resume = 0
        return voice if voice.end - voice.start > self._options.min_speech else None


class Padding:
    """Pads voices on both sides; two that are closer than both pads share the gap evenly."""

    def __init__(self, pad: float) -> None:
        self._pad = pad
        self._voice: Span | None = None
        self._start = 0  # padded start of the voice that still waits for its padded end

    def add(self, voices: list[Span], quiet_since: int | None) -> list[Speech]:
        """Speeches that are final: the next voice is known, or the pause outlasts both pads."""
        final = []
        for voice in voices:
            start = int(max(0, voice.start - self._pad))
            if self._voice is not None:
                gap = voice.start - self._voice.end
                if gap < 2 * self._pad:
                    end = self._voice.end + int(gap // 2)
                    start = int(max(0, voice.start - gap // 2))
                else:
                    end = int(self._voice.end + self._pad)
                final.append(Speech(self._voice, Span(self._start, end)))
            self._voice, self._start = voice, start
        if (
            self._voice is not None
            and quiet_since is not None
            and quiet_since - self._voice.end >= 2 * self._pad
        ):
            end = int(self._voice.end + self._pad)
            final.append(Speech(self._voice, Span(self._start, end)))
            self._voice = None
        return final

    def finish(self, total: int) -> list[Speech]:
        """The last speech, whose padding ends with the file at the latest."""
        if self._voice is None:
            return []
        end = int(min(total, self._voice.end + self._pad))
        voice, self._voice = self._voice, None
        return [Speech(voice, Span(self._start, end))]

    def settled(self, open_since: int) -> int:
        """No speech that is still to come starts before this sample, padding included."""
        if self._voice is not None:
            return self._start
        return max(0, int(open_since - self._pad))
