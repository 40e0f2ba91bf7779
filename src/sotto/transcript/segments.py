"""Decoded windows in, segments with file times out.

Invariant: a segment is what a person would read as one subtitle; one that is still open at the end
of a window is held back until the next window shows where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window
from sotto.engine.base import Decoded, TimedWord
from sotto.transcript.breaks import LONGEST_S, PAUSE_S, ends_sentence, fitted
from sotto.transcript.scripts import joined, may_part
from sotto.transcript.timing import PlacedWord, monotonic, place, spread
from sotto.transcript.words import Word, Words

HELD_S = 4 * LONGEST_S
"""Text without the end of a sentence is held back no longer than this."""
SLIVER = RATE // 10
"""What is left of a voice and has no more samples than this is no place for a text."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What a person would read as one subtitle.

    `seek`: start of its window in 1/100 s. `tokens` are its own; the numbers behind them and the
    language are its window's. `channel` is None where all were mixed, `words` where there was no
    alignment.
    """

    id: int
    seek: int
    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    language: str
    channel: int | None
    words: Sequence[Word] | None


@dataclass(frozen=True, slots=True)
class Part:
    """A window, or what of it was asked for again, and what the engine made of it."""

    window: Window
    decoded: Decoded


class Assembly:
    """Collects words in file order and closes a segment where a reader would want it to end.

    `pause_s`: a pause that ends a segment. `with_words`: do segments carry their words?
    """

    def __init__(
        self, channel: int | None = None, *, pause_s: float = PAUSE_S, with_words: bool = True
    ) -> None:
        self._channel = channel
        self._pause_s = pause_s
        self._with_words = with_words
        self._open: list[PlacedWord] = []
        self._origins: list[Part] = []  # of the words that are open
        self._said_s = 0.0
        self._count = 0

    def add(self, words: Sequence[tuple[PlacedWord, Part]]) -> list[Segment]:
        """The segments that are complete now that these words are known."""
        segments: list[Segment] = []
        timed = monotonic([word for word, _ in words], self._said_s)
        for word, (_, origin) in zip(timed, words, strict=True):
            self._said_s = word.end_s
            if self._open and self._ends_before(word, origin):
                segments += self.finish()
            self._open.append(word)
            self._origins.append(origin)
            if word.end_s - self._open[0].start_s > HELD_S:
                segments += self._shortened()
        return segments

    def add_whole(self, origin: Part) -> list[Segment]:
        """A window without alignment is one segment, from its first voice to its last."""
        draft = origin.decoded.draft
        if not draft.text.strip():
            return []
        edges = origin.window.voices or origin.window.pieces
        return [
            self._numbered(
                origin,
                start_s=edges[0].start / RATE,
                end_s=edges[-1].end / RATE,
                text=draft.text,
                tokens=draft.tokens,
                words=None,
            )
        ]

    def finish(self) -> list[Segment]:
        """Close what is still open."""
        return self._closed(fitted(self._open)) if self._open else []

    def _shortened(self) -> list[Segment]:
        """Close all but the last part of a text that goes on and on without an end."""
        return self._closed(fitted(self._open)[:-1])

    def _closed(self, parts: Sequence[list[PlacedWord]]) -> list[Segment]:
        """Segments of the first words that are open, each of the window of its first word."""
        segments = []
        for words in parts:
            segments.append(self._segment(words, self._origins[0]))
            del self._open[: len(words)], self._origins[: len(words)]
        return segments

    def _ends_before(self, word: PlacedWord, origin: Part) -> bool:
        last = self._open[-1]
        return (
            self._ends_sentence(word, origin)
            or word.start_s - last.end_s >= self._pause_s
            or origin.decoded.language != self._origins[-1].decoded.language
        )

    def _ends_sentence(self, word: PlacedWord, origin: Part) -> bool:
        """Does the last word end one? `3.` does not before `5`; windows are texts of their own."""
        last = self._open[-1]
        parts = origin is not self._origins[-1] or may_part(last.text, word.text)
        return parts and ends_sentence(last.text)

    def _segment(self, words: list[PlacedWord], origin: Part) -> Segment:
        timed = Words(Word(w.text, w.start_s, w.end_s, w.probability) for w in words)
        return self._numbered(
            origin,
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            text=timed.text,
            tokens=tuple(token for word in words for token in word.tokens),
            words=timed if self._with_words else None,
        )

    def _numbered(
        self,
        origin: Part,
        *,
        start_s: float,
        end_s: float,
        text: str,
        tokens: tuple[int, ...],
        words: Words | None,
    ) -> Segment:
        self._count += 1
        draft = origin.decoded.draft
        return Segment(
            id=self._count,
            seek=round(origin.window.start_s * 100),
            start_s=start_s,
            end_s=end_s,
            text=text,
            tokens=tokens,
            temperature=draft.temperature,
            avg_logprob=draft.avg_logprob,
            compression_ratio=draft.compression_ratio,
            no_speech_prob=draft.no_speech_prob,
            language=origin.decoded.language,
            channel=self._channel,
            words=words,
        )


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
    """The part's window, each voice only up to where the next part was asked for the rest of it."""
    if following is None:
        return part.window
    asked_again = [voice.start for voice in following.window.voices]
    voices = tuple(
        Span(start, min([end, *(again for again in asked_again if start < again)]))
        for start, end in part.window.voices
    )
    return replace(part.window, voices=voices)


def translated_words(parts: Sequence[Part]) -> list[tuple[PlacedWord, Part]]:
    """The words of the parts' translations, each spread by length over what it answers for."""
    texts = [
        [
            (word, part)
            for word in spread(part.decoded.translation or "", _answered(part, following))
        ]
        for part, following in zip_longest(parts, parts[1:])
    ]
    texts.sort(key=lambda text: text[0][0].start_s if text else 0.0)
    return list(chain.from_iterable(texts))


def _answered(part: Part, following: Part | None) -> Sequence[Span]:
    """The voices of the part but for those asked for again, and for what lies behind these.

    A translation is one text: what follows in time follows in it.
    """
    voices = part.window.voices or part.window.pieces
    if following is None:
        return voices
    again = following.window.voices
    left = [rest for voice in voices for rest in _without(voice, again)]
    if not left:
        return voices
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
