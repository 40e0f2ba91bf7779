"""Aligned words in, words with file times out: the words from the model, the times from the sound.

Invariant: times never run backwards, never leave the file, and a word that belongs to a voice
lies inside it, but for a long number that is said in several.

Whisper's alignment is off by tenths of a second; the edges of the voices that the VAD hears are
not. So each word is given to the voice that it ends in, the first word of a voice starts where the
voice starts, and the last one ends where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Stretch, Window, voices_in
from sotto.engine.base import TimedWord
from sotto.transcript.scripts import units

REACH_S = 0.4
"""A word that ends farther than this from every voice is left where the model heard it."""
SPELLED = 6
"""A number of so many digits may be said in several voices, group by group."""
DIGIT_S = 0.8
"""No digit takes longer to say: with more speech than that, some of it is no part of the number."""


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A word in the file, and the tokens it is made of.

    `voice`: the second of the file at which the voice begins that it belongs to, if to any.
    """

    text: str
    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    probability: float
    voice: float | None


def place(words: Sequence[TimedWord], window: Window) -> list[PlacedWord]:
    """Give each aligned word of a window its time in the file."""
    voices = voices_in(window)
    placed: list[PlacedWord] = []
    pairs = zip(words, owners(words, voices), strict=True)
    for owner, group in groupby(pairs, key=lambda pair: pair[1]):
        members = [word for word, _ in group]
        if owner is None:
            placed += [_unsnapped(word, window.pieces) for word in members]
        else:
            first = min([owner, *spelled(members[0], voices)])
            placed += _snapped(members, voices[owner], voices[first])
    return monotonic(placed)


def spread(text: str, voices: Sequence[Span]) -> list[PlacedWord]:
    """Give the words of a text without alignment the time of the voices, by their length.

    Characters are its words where it has no spaces: a model may leave its translation to others.
    A word whose share reaches over a pause is given to the side that has more of it.
    """
    parts = units(text)
    spoken_s = sum(voice.end - voice.start for voice in voices) / RATE
    letters = sum(map(len, parts))
    placed, said = [], 0
    for part in parts:
        share_s = spoken_s * said / letters, spoken_s * (said + len(part)) / letters
        said += len(part)
        start_s, end_s = max(_shares(voices, *share_s), key=lambda share: share[1] - share[0])
        placed.append(PlacedWord(part, (), start_s, max(start_s, end_s), 1.0, None))
    return placed


def _shares(voices: Sequence[Span], from_s: float, to_s: float) -> Iterator[tuple[float, float]]:
    """Of each voice, what lies between these seconds of all voices glued; in seconds of the file.

    Ends before it starts where that is nothing.
    """
    at_s = 0.0
    for voice in voices:
        start_s, length_s = voice.start / RATE, (voice.end - voice.start) / RATE
        yield start_s + max(0.0, from_s - at_s), start_s + min(length_s, to_s - at_s)
        at_s += length_s


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


def owners(words: Sequence[TimedWord], voices: Sequence[Stretch]) -> list[int | None]:
    """The voice of each word: the one nearest to the word's end, never an earlier one.

    Measured on utterances with known times, the aligned end of a word is on the right side of a
    pause in 99 cases of 100, while its start is drawn into the pause before it, often beyond.
    None for a word that ends far from every voice.
    """
    found: list[int | None] = []
    first = 0
    for word in words:
        nearest, least_s = None, REACH_S
        for index in range(first, len(voices)):
            voice = voices[index]
            distance_s = max(voice.start_s - word.end_s, word.end_s - voice.end_s, 0.0)
            if distance_s < least_s:
                nearest, least_s = index, distance_s
            if voice.start_s > word.end_s:
                break
        if nearest is not None:
            first = nearest
        found.append(nearest)
    return found


def spelled(word: TimedWord, voices: Sequence[Stretch]) -> list[int]:
    """The voices, in order, that a long number was said in; it is one word and has one owner."""
    digits = sum(map(str.isdigit, word.text))
    if digits < SPELLED:
        return []
    inside = [
        index
        for index, voice in enumerate(voices)
        if word.start_s <= (voice.start_s + voice.end_s) / 2 <= word.end_s
    ]
    spoken_s = total_s([voices[index] for index in inside])
    return inside if spoken_s <= digits * DIGIT_S else []


def total_s(stretches: Sequence[Stretch]) -> float:
    """Seconds of all stretches together."""
    return sum(stretch.end_s - stretch.start_s for stretch in stretches)


def _snapped(words: list[TimedWord], voice: Stretch, first: Stretch) -> list[PlacedWord]:
    """Words of one voice, clamped into it; the outer two take its edges.

    `first`: the voice at whose start the first word starts, an earlier one if it was said in both.
    """
    start_s, end_s = voice.start_s + voice.shift_s, voice.end_s + voice.shift_s
    first_s = first.start_s + first.shift_s
    placed = []
    for i, word in enumerate(words):
        begin_s = first_s if i == 0 else _clamp(word.start_s + voice.shift_s, start_s, end_s)
        stop_s = (
            end_s if i == len(words) - 1 else _clamp(word.end_s + voice.shift_s, start_s, end_s)
        )
        placed.append(_placed(word, begin_s, stop_s, start_s))
    return placed


def _unsnapped(word: TimedWord, pieces: Sequence[Span]) -> PlacedWord:
    start_s = file_s(pieces, word.start_s)
    return _placed(word, start_s, max(start_s, file_s(pieces, word.end_s, is_end=True)), None)


def _placed(word: TimedWord, start_s: float, end_s: float, voice: float | None) -> PlacedWord:
    return PlacedWord(word.text, word.tokens, start_s, end_s, word.probability, voice)


def monotonic(words: Sequence[PlacedWord], from_s: float = 0.0) -> list[PlacedWord]:
    """No word starts before the one before it has ended, or before `from_s`."""
    ordered: list[PlacedWord] = []
    at_s = from_s
    for word in words:
        start_s = max(word.start_s, at_s)
        at_s = max(word.end_s, start_s)
        ordered.append(replace(word, start_s=start_s, end_s=at_s))
    return ordered


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))
