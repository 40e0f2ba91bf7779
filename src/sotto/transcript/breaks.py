"""Where one subtitle ends and the next begins.

Invariant: what `fitted` returns is at most 7 s and 84 characters long, but for a single word that
is longer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sotto.transcript.scripts import may_part, width
from sotto.transcript.timing import PlacedWord

PAUSE_S = 0.6
"""A pause that ends a subtitle."""
LONGEST_S = 7.0
"""Longest time for which a subtitle stands, by the usual rule for subtitles."""
LONGEST_TEXT = 84
"""Two lines of 42 characters, by the same rule; a wide one, such as 字, counts as two."""

CLAUSE, OTHER_VOICE = 0.5, 0.3
"""What a comma, and a breath that the VAD heard, are worth beside a pause of PAUSE_S, which is 1;
so much may a break be off the middle for it, in halves of the text."""

SENTENCE_END = re.compile(r"[.!?…。｡．！？؟۔।॥།։።။។]+[\"'”’»)\]」』]*$")
CLAUSE_END = re.compile(r"[,;:،、，；：—–]+[\"'”’»)\]」』]*$")
ABBREVIATION = re.compile(
    r"^[\"'“‘«(\[]*(?:[A-ZА-ЯÀ-Þ]\.|(?:Mr|Mrs|Ms|Dr|St|Prof|Sr|Sra|Jr|Mme|Mlle|Sig|vs|etc)\.)$",
    re.IGNORECASE,
)


def ends_sentence(text: str) -> bool:
    """Does a sentence end with this word? `Mr.` and initials do not end one."""
    word = text.strip()
    return bool(SENTENCE_END.search(word)) and not ABBREVIATION.match(word)


def fitted(words: Sequence[PlacedWord]) -> list[list[PlacedWord]]:
    """Split words without a break among them into parts that can be read as subtitles.

    A part ends within what a reader sees as one word only if there is no other place.
    """
    words = list(words)
    if len(words) < 2 or _fits(words):
        return [words]
    places = [i for i in range(1, len(words)) if may_part(words[i - 1].text, words[i].text)]
    # Words that stand at one moment have no middle in time.
    at = max(
        places or range(1, len(words)),
        key=lambda i: (_merit(words, i), -abs(2 * i - len(words))),
    )
    return [*fitted(words[:at]), *fitted(words[at:])]


def _fits(words: Sequence[PlacedWord]) -> bool:
    text = "".join(word.text for word in words)
    return words[-1].end_s - words[0].start_s <= LONGEST_S and width(text) <= LONGEST_TEXT


def _merit(words: Sequence[PlacedWord], at: int) -> float:
    """How good it is to split before word `at`: at a pause, at a comma, near the middle."""
    before, after = words[at - 1], words[at]
    pause_s = after.start_s - before.end_s
    middle_s = (words[0].start_s + words[-1].end_s) / 2
    half_s = max((words[-1].end_s - words[0].start_s) / 2, 1e-6)
    off_centre = abs((before.end_s + after.start_s) / 2 - middle_s) / half_s
    clause = CLAUSE if CLAUSE_END.search(before.text.strip()) else 0.0
    other_voice = OTHER_VOICE if before.voice != after.voice else 0.0
    return min(pause_s / PAUSE_S, 1.0) + clause + other_voice - off_centre
