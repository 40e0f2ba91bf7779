"""faster-whisper's alignment of a window in, its words out.

Invariant: no word is without text; punctuation goes with the word that it belongs to.
"""

from __future__ import annotations

from typing import Any

from faster_whisper.transcribe import merge_punctuations

from sotto.engine.base import TimedWord

OPENING = "\"'“«¿([{-"
CLOSING = "\"'.。,，!！?？:：;…”»)]}、"
CLOSING_APART = frozenset("!?:;…»")
"""What belongs to the word before it although a space stands between, as in French."""


def timed(timings: list[dict[str, Any]]) -> tuple[TimedWord, ...]:
    """The words of `find_alignment`'s timings, in which punctuation is joined to its word."""
    merge_punctuations(timings, OPENING, CLOSING)
    _merge_apart(timings)
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


def _merge_apart(timings: list[dict[str, Any]]) -> None:
    """Join ` !` to the word before it, whose time stays what it is."""
    before: dict[str, Any] | None = None
    for timing in timings:
        if before is not None and set(timing["word"].strip()) <= CLOSING_APART:
            before["word"] += timing["word"]
            before["tokens"] += timing["tokens"]
            timing["word"], timing["tokens"] = "", []
        elif timing["word"]:
            before = timing
