"""Words with file times in, segments out.

Invariant: a segment is what a person would read as one subtitle; one that is still open at the end
of a window is held back until the next window shows where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sotto.audio.pcm import RATE
from sotto.transcript.breaks import LONGEST_S, PAUSE_S, ends_sentence, fitted
from sotto.transcript.parts import Part
from sotto.transcript.scripts import may_part
from sotto.transcript.timing import PlacedWord, monotonic
from sotto.transcript.words import Word, Words

HELD_S = 4 * LONGEST_S
"""Text without the end of a sentence is held back no longer than this."""


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
            if self._open and origin is not self._origins[-1]:
                word = _apart(self._open[-1], word)
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


def _apart(last: PlacedWord, word: PlacedWord) -> PlacedWord:
    """The word that follows another text, which may begin without the space that parts the two."""
    glued = bool(last.text and word.text) and not may_part(last.text, word.text)
    return replace(word, text=f" {word.text}") if glued else word
