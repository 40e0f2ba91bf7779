"""Heard audio in, windows of at most 30 s out; pure numpy.

Invariant: windows are in file order, no sample is in two of them, and PCM that no window will need
is let go, so that memory does not grow with the file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest

import numpy as np

from sotto.audio.pcm import RATE, WINDOW_S, Pcm, Span
from sotto.audio.silero import FRAME
from sotto.audio.vad import Heard, Speech

WINDOW = WINDOW_S * RATE
"""The most samples that Whisper's encoder takes."""
NEARLY_FULL = 26 * RATE
"""A window may end at a long pause from this length on, although more would fit.

From 22 s on it was 5 % more CPU time or more for the same word errors (English in four orders, and
four languages); with no choice of pauses, as full as they get, it was more word errors.
"""
CLEAR_PAUSE = RATE
"""A pause of this length ends what was said; a longer one does so no better."""
ALL = Span(0, 2**62)
"""Every sample of a file of any length."""
SHORTEST_TILE = 20 * RATE
"""A tile is cut at its quietest point after this many samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What is decoded in one go.

    `pieces`: the stretches of the file that were glued together, in order. `voices`: where in the
    file somebody speaks, inside the pieces. `pcm`: the glued audio, float32, at most 480,000
    samples.
    """

    index: int
    pieces: tuple[Span, ...]
    voices: tuple[Span, ...]
    pcm: Pcm

    @property
    def start_s(self) -> float:
        """Where in the file the window starts."""
        return self.pieces[0].start / RATE

    @property
    def duration_s(self) -> float:
        """Seconds of audio in the window, gaps left out."""
        return len(self.pcm) / RATE


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a window in seconds of its glued audio; `shift_s` more is its time in the file."""

    start_s: float
    end_s: float
    shift_s: float


def voices_in(window: Window) -> list[Stretch]:
    """Where in the window's audio somebody speaks, one stretch for each of its voices."""
    stretches = []
    left = deque(window.voices)
    at = 0
    for piece in window.pieces:
        shift = piece.start - at
        while left and left[0].start < piece.end:
            voice = left.popleft()
            start, end = voice.start - shift, min(voice.end, piece.end) - shift
            stretches.append(Stretch(start / RATE, end / RATE, shift / RATE))
        at += piece.end - piece.start
    return stretches


def narrowed(window: Window, wanted: Sequence[Stretch], pad_s: float) -> Window:
    """A window of the same number that holds only the `wanted` voices, padded where there is room.

    No pad reaches beyond the piece that the voice lies in, or into the stretches beside it.
    """
    pieces: list[Span] = []
    parts: list[Pcm] = []
    at = 0
    for voice, following in zip_longest(wanted, wanted[1:]):
        place = next(p for p in _places(window) if p.start_s <= voice.start_s < p.end_s)
        limit_s = place.end_s if following is None else min(place.end_s, following.start_s)
        start = max(at, _sample(max(place.start_s, voice.start_s - pad_s)))
        at = min(len(window.pcm), _sample(min(limit_s, voice.end_s + pad_s)))
        shift = _sample(voice.shift_s)
        pieces.append(Span(start + shift, at + shift))
        parts.append(window.pcm[start:at])
    voices = tuple(
        Span(_sample(v.start_s + v.shift_s), _sample(v.end_s + v.shift_s)) for v in wanted
    )
    return Window(window.index, tuple(pieces), voices, np.concatenate(parts))


def _places(window: Window) -> Iterator[Stretch]:
    """The pieces of a window, where they lie in its audio."""
    at = 0
    for piece in window.pieces:
        length = piece.end - piece.start
        yield Stretch(at / RATE, (at + length) / RATE, (piece.start - at) / RATE)
        at += length


def _sample(at_s: float) -> int:
    return round(at_s * RATE)


def cut(
    heard: Iterable[Heard], *, keep_silence: bool = False, clips: Sequence[Span] = ()
) -> Iterator[Window]:
    """Pack speech into windows; with `keep_silence`, tile all of the audio.

    A window is full, or ends at a long pause from NEARLY_FULL on.

    `clips`: the only stretches of the file that are wanted, in order; none means all of it.
    """
    windows = cut_stepwise(heard, keep_silence=keep_silence, clips=clips)
    return (window for window in windows if window is not None)


def cut_stepwise(
    heard: Iterable[Heard], *, keep_silence: bool = False, clips: Sequence[Span] = ()
) -> Iterator[Window | None]:
    """`cut`, with a None after every block, where whoever pulls may turn to something else.

    Hours may pass in a file until somebody speaks.
    """
    clips = clips or [ALL]
    index = 0
    for made in _tiles(heard, clips) if keep_silence else _packed(heard, clips):
        if made is None:
            yield None
        else:
            yield Window(index, *made)
            index += 1


_Cut = tuple[tuple[Span, ...], tuple[Span, ...], Pcm]


def _packed(heard: Iterable[Heard], clips: Sequence[Span]) -> Iterator[_Cut | None]:
    tape = Tape()
    speeches: list[Speech] = []
    parts: list[Pcm] = []
    length = 0
    for block in heard:
        tape.add(block.pcm)
        for speech in (each for whole in block.speeches for each in _within(whole, clips)):
            speeches.append(speech)
            parts.append(tape.copy(speech.padded))
            length += len(parts[-1])
            while length > WINDOW:
                at = _longest_pause(speeches)
                yield _glued(speeches[:at], parts[:at])
                speeches, parts = speeches[at:], parts[at:]
                length = sum(map(len, parts))
        tape.forget(block.settled)
        yield None
    if speeches:
        yield _glued(speeches, parts)


def _longest_pause(speeches: Sequence[Speech]) -> int:
    """Where to cut speeches that are too long together, the last of them only just.

    A window that ends within a sentence costs words on both sides of the cut. So it ends at the
    longest pause that leaves it nearly full; of pauses that are equally long, at the last.
    """
    length, best, best_pause = 0, len(speeches) - 1, 0
    for at, (speech, following) in enumerate(pairwise(speeches), start=1):
        length += speech.padded.end - speech.padded.start
        pause = min(following.voice.start - speech.voice.end, CLEAR_PAUSE)
        if length >= NEARLY_FULL and pause >= best_pause:
            best, best_pause = at, pause
    return best


def _within(speech: Speech, clips: Sequence[Span]) -> Iterator[Speech]:
    """The parts of a speech that lie in the clips, which are in order."""
    first = bisect_right(clips, speech.voice.start, key=lambda clip: clip.end)
    for clip in islice(clips, first, None):
        if clip.start >= speech.voice.end:
            break
        voice = _common(speech.voice, clip)
        if voice.start < voice.end:  # a clip may be shorter than a sample
            yield Speech(voice, _common(speech.padded, clip))


def _common(one: Span, other: Span) -> Span:
    return Span(max(one.start, other.start), min(one.end, other.end))


def _glued(speeches: list[Speech], parts: list[Pcm]) -> _Cut:
    pieces = tuple(speech.padded for speech in speeches)
    return pieces, tuple(speech.voice for speech in speeches), np.concatenate(parts)


def _tiles(heard: Iterable[Heard], clips: Sequence[Span]) -> Iterator[_Cut | None]:
    tape = Tape()
    voices: deque[Span] = deque()
    left = deque(clips)
    start = left[0].start
    for block in heard:
        tape.add(block.pcm)
        voices.extend(speech.voice for speech in block.speeches)
        known = tape.end if block.last else min(tape.end, block.settled)
        while left:
            clip = left[0]
            stop = min(known, clip.end)
            if stop - start > WINDOW:
                end = start + SHORTEST_TILE
                end += _quietest(tape.copy(Span(end, start + WINDOW)))
            elif block.last or stop == clip.end:
                end = stop
                left.popleft()
            else:
                break  # this tile may still grow
            if start < end:
                tile = Span(start, end)
                yield (tile,), _inside(voices, tile), tape.copy(tile)
            start = max(end, left[0].start) if left else end
        tape.forget(start if left else tape.end)
        yield None


def _inside(voices: deque[Span], tile: Span) -> tuple[Span, ...]:
    """The voices, or their parts, in the tile; those that end in it are done with."""
    inside = []
    while voices and voices[0].start < tile.end:
        heard = _common(voices[0], tile)
        if heard.start < heard.end:
            inside.append(heard)
        if voices[0].end > tile.end:
            break
        voices.popleft()
    return tuple(inside)


def _quietest(pcm: Pcm) -> int:
    """Start of the quietest 32 ms, in samples; the later of equals, so that windows are full."""
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)
    energy = np.einsum("ij,ij->i", frames, frames)
    return int(len(energy) - 1 - np.argmin(energy[::-1])) * FRAME


class Tape:
    """The part of the file's PCM that may still be needed, addressed by file sample."""

    def __init__(self) -> None:
        self._blocks: deque[Pcm] = deque()
        self._start = 0
        self.end = 0

    def add(self, pcm: Pcm) -> None:
        """Append the next block."""
        self._blocks.append(pcm)
        self.end += len(pcm)

    def forget(self, before: int) -> None:
        """Let go of whole blocks that end at or before this sample."""
        while self._blocks and self._start + len(self._blocks[0]) <= before:
            self._start += len(self._blocks.popleft())

    def copy(self, span: Span) -> Pcm:
        """The samples of `span`; those behind the end of the file do not exist."""
        parts, at = [], self._start
        for block in self._blocks:
            parts.append(block[max(0, span.start - at) : max(0, span.end - at)])
            at += len(block)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)
