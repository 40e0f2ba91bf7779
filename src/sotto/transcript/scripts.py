"""Words of languages that are written without spaces, joined where a reader sees one.

Invariant: joining keeps text, tokens and time; it only takes word boundaries away.

Whisper's tokens of such languages are characters or short runs of them, and the tokenizer makes a
word of each. Where the next one cannot stand by itself - a combining mark, a small kana, the rest
of a number or of a Latin word, closing punctuation - it belongs to the word before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from sotto.engine.base import TimedWord
from sotto.languages import WITHOUT_SPACES

BOUND_TO_PREVIOUS = frozenset(
    "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶー々ゝゞヽヾ"  # small kana, marks of repetition
    "、。，．！？；：）」』】〉》〕］｝”’…・｡။។་།"  # closing marks
    "ๆฯะาำๅໆຯະາຳ"  # Thai and Lao signs and vowels that follow their consonant
)
"""What never begins a line or a word (the kernel of Japanese kinsoku, and its Thai likeness)."""
BOUND_TO_NEXT = frozenset("（「『【〈《〔［｛“‘เแโใไເແໂໃໄ\u1039\u17d2")
"""What never ends one: opening punctuation, vowels that are written before their consonant, and the
signs of Burmese and Khmer that the next consonant stands below this one."""
TIBETAN = re.compile(r"[\u0f40-\u0fbc]")
"""Letters of which several make a syllable, which is a word to a reader."""
UNSPACED = re.compile(
    r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan; Burmese; Khmer
    r"\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff"  # kana and ideographs with their punctuation
    r"\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U00020000-\U0003ffff]"
)
"""Characters of scripts that put no space between words and sentences."""


def joined(words: Sequence[TimedWord], language: str) -> list[TimedWord]:
    """The words of `language` as a reader sees them; unchanged if it is written with spaces."""
    if language not in WITHOUT_SPACES:
        return list(words)
    result: list[TimedWord] = []
    for word in words:
        if result and _belong_together(result[-1].text, word.text):
            result[-1] = _one(result[-1], word)
        else:
            result.append(word)
    return result


def characters(text: str) -> list[str]:
    """The characters of a text, those together that a reader sees as one, spaces before them."""
    found: list[str] = []
    for one in re.findall(r"\s*\S", text):
        if found and _belong_together(found[-1], one):
            found[-1] += one
        else:
            found.append(one)
    return found


def units(text: str) -> list[str]:
    """What may stand in a line by itself: words, or characters where there are no spaces."""
    parts: list[str] = re.findall(r"\s*\S+", text)
    return [
        one for part in parts for one in (characters(part) if UNSPACED.search(part) else [part])
    ]


def spaced(before: str, after: str) -> bool:
    """Does a space stand between these two characters where one sentence ends before another?"""
    return not (UNSPACED.match(before) or UNSPACED.match(after))


def may_part(before: str, after: str) -> bool:
    """May a line end between these words of one text?

    Not where a reader sees one word: the tokenizer makes two of `l'homme`, `3.5` and `well-known`.
    """
    if not before or not after:
        return True
    return before[-1].isspace() or after[0].isspace() or not spaced(before[-1], after[0])


def width(text: str) -> int:
    """Columns that `text` takes on a screen; a wide character takes two, a mark none."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def _belong_together(before: str, after: str) -> bool:
    if not before or not after or after[0].isspace():
        return False
    last, first = before[-1], after[0]
    if first in BOUND_TO_PREVIOUS or last in BOUND_TO_NEXT:
        return True
    if unicodedata.category(first) in ("Mn", "Mc", "Me"):
        return True
    if TIBETAN.match(last) and TIBETAN.match(first):
        return True
    return _is_latin_or_digit(last) and _is_latin_or_digit(first)


def _is_latin_or_digit(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _one(first: TimedWord, second: TimedWord) -> TimedWord:
    return replace(
        first,
        text=first.text + second.text,
        tokens=first.tokens + second.tokens,
        end_s=max(first.end_s, second.end_s),
        probability=min(first.probability, second.probability),
    )
