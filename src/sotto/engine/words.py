"""faster-whisper's alignment of a window in, its words out.

Invariant: no word is without text; punctuation goes with the word that it belongs to.
"""

from __future__ import annotations

from typing import Any

from faster_whisper.transcribe import merge_punctuations

from sotto.engine.base import TimedWord

OPENING = "\"'“¿([{-"
CLOSING = "\"'.。,，!！?？:：”)]}、"


def timed(timings: list[dict[str, Any]]) -> tuple[TimedWord, ...]:
    """The words of `find_alignment`'s timings, in which punctuation is joined to its word."""
    merge_punctuations(timings, OPENING, CLOSING)
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
