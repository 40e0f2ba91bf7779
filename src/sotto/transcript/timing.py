"""Aligned words in, words with file times out: the words from the model, the times from the sound.

Invariant: times never run backwards, never leave the file, and every word lies in the speech it
belongs to.

Whisper's alignment is off by tenths of a second; the edges of speech that the VAD hears are not.
So each word is given to the speech it overlaps most, the first word of a speech starts where the
speech starts, and the last one ends where it ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sotto.audio.pcm import RATE, Span
from sotto.engine.base import TimedWord

REACH_S = 0.1
"""How far outside of every speech a word must lie to be left where the model heard it."""


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A word in the file, with the tokens it is made of and the speech that holds it."""

    text: str
    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    probability: float
    speech: int | None


@dataclass(frozen=True, slots=True)
class _Speech:
    """A speech of a window: where it lies in the window's audio, and where in the file."""

    start_s: float
    end_s: float
    shift_s: float


def place(
    words: Sequence[TimedWord], pieces: Sequence[Span], voices: Sequence[Span]
) -> list[PlacedWord]:
    """Give each aligned word of a window its time in the file.

    `pieces`: the stretches of the file that the window is glued from. `voices`: the unpadded
    speech inside them, both in samples of the file.
    """
    speeches = _speeches(pieces, voices)
    owners = _owners(words, speeches)
    placed: list[PlacedWord] = []
    for owner, group in groupby(zip(words, owners, strict=True), key=lambda pair: pair[1]):
        members = [word for word, _ in group]
        if owner is None:
            placed += [_unsnapped(word, pieces) for word in members]
        else:
            placed += _snapped(members, owner, speeches[owner])
    return _monotonic(placed)


def spread(text: str, voices: Sequence[Span]) -> list[PlacedWord]:
    """Give the words of a text without alignment the time of the voices, by their length."""
    parts = re.findall(r"\s*\S+", text)
    spoken_s = sum(voice.end - voice.start for voice in voices) / RATE
    letters = sum(map(len, parts))
    placed, said = [], 0
    for part in parts:
        start_s = file_s(voices, spoken_s * said / letters)
        said += len(part)
        end_s = file_s(voices, spoken_s * said / letters, is_end=True)
        placed.append(PlacedWord(part, (), start_s, max(start_s, end_s), 1.0, None))
    return placed


def file_s(pieces: Sequence[Span], at_s: float, *, is_end: bool = False) -> float:
    """Where in the file the second `at_s` of the glued `pieces` lies.

    At a seam, an end belongs to the piece before it and a start to the piece behind it.
    """
    left_s = at_s
    for piece in pieces:
        length_s = (piece.end - piece.start) / RATE
        if left_s < length_s or (is_end and left_s <= length_s):
            return piece.start / RATE + max(0.0, left_s)
        left_s -= length_s
    return pieces[-1].end / RATE


def _speeches(pieces: Sequence[Span], voices: Sequence[Span]) -> list[_Speech]:
    speeches = []
    offset_s = 0.0
    left = list(voices)
    for piece in pieces:
        shift_s = piece.start / RATE - offset_s
        while left and left[0].start < piece.end:
            voice = left.pop(0)
            start_s, end_s = voice.start / RATE, min(voice.end, piece.end) / RATE
            speeches.append(_Speech(start_s - shift_s, end_s - shift_s, shift_s))
        offset_s += (piece.end - piece.start) / RATE
    return speeches


def _owners(words: Sequence[TimedWord], speeches: Sequence[_Speech]) -> list[int | None]:
    """The speech of each word: the one it overlaps most, else the nearest; never an earlier one."""
    owners: list[int | None] = []
    first = 0
    for word in words:
        best, most_s = None, -REACH_S if len(speeches) else 0.0
        for index in range(first, len(speeches)):
            speech = speeches[index]
            shared_s = min(word.end_s, speech.end_s) - max(word.start_s, speech.start_s)
            if shared_s > most_s:
                best, most_s = index, shared_s
            if speech.start_s > word.end_s + REACH_S:
                break
        if best is not None:
            first = best
        owners.append(best)
    return owners


def _snapped(words: list[TimedWord], owner: int, speech: _Speech) -> list[PlacedWord]:
    """Words of one speech, clamped into it; the outer two take its edges."""
    start_s, end_s = speech.start_s + speech.shift_s, speech.end_s + speech.shift_s
    placed = []
    for i, word in enumerate(words):
        begin_s = start_s if i == 0 else _clamp(word.start_s + speech.shift_s, start_s, end_s)
        stop_s = (
            end_s if i == len(words) - 1 else _clamp(word.end_s + speech.shift_s, start_s, end_s)
        )
        placed.append(_placed(word, begin_s, stop_s, owner))
    return placed


def _unsnapped(word: TimedWord, pieces: Sequence[Span]) -> PlacedWord:
    start_s = file_s(pieces, word.start_s)
    return _placed(word, start_s, max(start_s, file_s(pieces, word.end_s, is_end=True)), None)


def _placed(word: TimedWord, start_s: float, end_s: float, speech: int | None) -> PlacedWord:
    return PlacedWord(word.text, word.tokens, start_s, end_s, word.probability, speech)


def _monotonic(words: list[PlacedWord]) -> list[PlacedWord]:
    """No word starts before the one before it has ended."""
    ordered: list[PlacedWord] = []
    at_s = 0.0
    for word in words:
        start_s = max(word.start_s, at_s)
        at_s = max(word.end_s, start_s)
        ordered.append(
            PlacedWord(word.text, word.tokens, start_s, at_s, word.probability, word.speech)
        )
    return ordered


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))
