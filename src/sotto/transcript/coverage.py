"""A window's words in, the voices that got none out.

Invariant: what is given lies in the window's voices and is in order. How often it is asked for
again is bounded where it is asked, in asking.py.

Whisper sometimes ends a window early: one sentence, then end-of-text, with many seconds of speech
behind it. Its probabilities look fine, so no threshold sees it; the voices do.
"""

from __future__ import annotations

from collections.abc import Sequence

from sotto.audio.windows import Stretch, Window, voices_in
from sotto.engine.base import TimedWord
from sotto.transcript.timing import owners, spelled, total_s

UNBEGUN_S = 0.1
"""A voice that starts no earlier than this before the last word's end was not begun."""
UNFINISHED_S = 1.5
"""What is left of a voice behind the last word, if it is longer than this, was not finished."""
SKIPPED_S = 0.5
"""A voice without a word between others, if it is longer than this, was skipped."""
WORTHWHILE_S = 0.4
"""Less speech than this in all is not worth another window."""


def uncovered(window: Window, words: Sequence[TimedWord]) -> list[Stretch]:
    """The voices, or what is left of one, that got no words; all of them if there is no word."""
    voices = voices_in(window)
    if not words:
        return voices
    covered = {owner for owner in owners(words, voices) if owner is not None}
    covered |= {voice for word in words for voice in spelled(word, voices)}
    said_s = max(word.end_s for word in words)
    missing: list[Stretch] = []
    for index, voice in enumerate(voices):
        length_s = voice.end_s - voice.start_s
        if voice.start_s >= said_s - UNBEGUN_S and index not in covered:
            missing.append(voice)
        elif voice.end_s - said_s > UNFINISHED_S:
            missing.append(Stretch(max(said_s, voice.start_s), voice.end_s, voice.shift_s))
        elif length_s > SKIPPED_S and index not in covered:
            missing.append(voice)
    return missing if total_s(missing) > WORTHWHILE_S else []
