"""faster-whisper's alignment of a window in, its words out.

Invariant: no word is without text; punctuation goes with the word that it belongs to.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import merge_punctuations

from sotto.engine.base import TimedWord

OPENING = "\"'“«¿([{-"
CLOSING = (
    "\"'.,!?:;…”»)]}"
    "。、，！？：；・｡）］｝」』】〉》〕"  # Chinese and Japanese
    "؟،؛۔।॥။၊།។"  # Arabic and Urdu, Hindi, Burmese, Tibetan, Khmer
)
MARKS = frozenset(CLOSING)
CLOSING_APART = frozenset("!?:;…»")
"""What belongs to the word before it although a space stands between, as in French."""


def timed(timings: list[dict[str, Any]]) -> tuple[TimedWord, ...]:
    """The words of `find_alignment`'s timings, in which punctuation is joined to its word."""
    merge_punctuations(timings, OPENING, CLOSING)
    _merge_closing(timings)
    return tuple(
        TimedWord(
            text=timing["word"],
            tokens=tuple(timing["tokens"]),
            start_s=float(timing["start"]),
            end_s=float(timing["end"]),
            probability=float(timing["probability"]),
        )
        for timing in timings
        if timing["word"]
    )


def split_words(tokenizer: Tokenizer, tokens: list[int]) -> tuple[list[str], list[list[int]]]:
    """faster-whisper's words of a text with spaces, and their tokens; closing marks are words too.

    To faster-whisper only a single ASCII mark is. What it leaves with its word, as `...`, `?"` or
    `»`, would lend it the pause behind it: a word ends where the next token begins.
    """
    words: list[str] = []
    word_tokens: list[list[int]] = []
    for word, own in zip(*tokenizer.split_tokens_on_spaces(tokens), strict=True):
        pieces, tokens_of = [word], [own]
        if len(own) > 1 and word[-1:] in MARKS:
            pieces, tokens_of = tokenizer.split_tokens_on_unicode(own)
        end = len(pieces)
        while end > 1 and MARKS.issuperset(pieces[end - 1]):
            end -= 1
        words += ["".join(pieces[:end]), *pieces[end:]]
        word_tokens += [list(chain.from_iterable(tokens_of[:end])), *tokens_of[end:]]
    return words, word_tokens


def _merge_closing(timings: list[dict[str, Any]]) -> None:
    """Join marks such as `..."` and ` !` to the word before them, whose time stays what it is."""
    before: dict[str, Any] | None = None
    for timing in timings:
        word = timing["word"]
        closes = MARKS.issuperset(word) or CLOSING_APART.issuperset(word.strip())
        if before is not None and closes:
            before["word"] += word
            before["tokens"] += timing["tokens"]
            timing["word"], timing["tokens"] = "", []
        elif word:
            before = timing
