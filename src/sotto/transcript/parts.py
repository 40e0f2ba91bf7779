"""The parts of a decoded window in, their words with file times out.

Invariant: what was asked for twice is answered once: a part has the voices, or what is left of
them, that no later part was asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window
from sotto.engine.base import Decoded, TimedWord
from sotto.transcript.scripts import joined
from sotto.transcript.timing import PlacedWord, place, spread

SLIVER = RATE // 10
"""What is left of a voice and has no more samples than this is no place for a text."""


@dataclass(frozen=True, slots=True)
class Part:
    """A window, or what of it was asked for again, and what the engine made of it."""

    window: Window
    decoded: Decoded


def spoken_words(parts: Sequence[Part]) -> list[tuple[PlacedWord, Part]]:
    """The words of a window's parts with file times, in file order."""
    words = [
        (word, part)
        for part, following in zip_longest(parts, parts[1:])
        for word in place(_words(part.decoded), _own(part, following))
    ]
    words.sort(key=lambda pair: pair[0].start_s)
    return words


def _words(decoded: Decoded) -> list[TimedWord]:
    return joined(decoded.words or (), decoded.language)


def _own(part: Part, following: Part | None) -> Window:
    """The part's window, each voice only up to where the next part was asked for the rest of it.

    A voice that was asked for from its start is none of the part's: a word that ends beside it
    would be given all of it, and leave no time for the words that were found there.
    """
    if following is None:
        return part.window
    asked_again = [voice.start for voice in following.window.voices]
    voices = tuple(
        Span(start, min([end, *(again for again in asked_again if start < again)]))
        for start, end in part.window.voices
        if start not in asked_again
    )
    return replace(part.window, voices=voices)


def translated_words(parts: Sequence[Part]) -> list[tuple[PlacedWord, Part]]:
    """The words of the parts' translations, each spread by length over what it answers for.

    In order of time: what was asked for again may lie on both sides of what was heard at first.
    """
    words = [
        (word, part)
        for part, following in zip_longest(parts, parts[1:])
        for word in spread(part.decoded.translation or "", _answered(part, following))
    ]
    words.sort(key=lambda placed: placed[0].start_s)
    return words


def _answered(part: Part, following: Part | None) -> Sequence[Span]:
    """The voices of the part but for those asked for again, and for what lies behind these.

    A translation is one text: what follows in time follows in it. A text that is left no voice has
    no time of its own: it stands at the start of those that were its.
    """
    voices = part.window.voices or part.window.pieces
    if following is None:
        return voices
    again = following.window.voices
    left = [rest for voice in voices for rest in _without(voice, again)]
    if not left:
        return [Span(voices[0].start, voices[0].start)]
    end = min(
        (voice.start for voice in again if voice.start >= left[0].end), default=voices[-1].end
    )
    return [voice for voice in left if voice.start < end]


def _without(voice: Span, taken: Sequence[Span]) -> Iterator[Span]:
    """What is left of a voice, slivers left out; `taken` is in order."""
    edges = [voice.start, *chain.from_iterable(taken), voice.end]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        rest = Span(max(start, voice.start), min(end, voice.end))
        if rest.end - rest.start > SLIVER:
            yield rest
