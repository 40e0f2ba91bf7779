"""The words of a segment as the reader sees them, packed: all of a job's are kept until it ends.

Invariant: what is packed comes out as it went in, to the last digit.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload


@dataclass(frozen=True, slots=True)
class Word:
    """One word as the reader sees it, with the space before it that its text carries."""

    text: str
    start_s: float
    end_s: float
    probability: float


class Words(Sequence[Word]):
    """Words that take a third of the memory they take one by one, and are made when asked for.

    `text` is that of all of them.
    """

    __slots__ = ("_ends", "_numbers", "text")

    def __init__(self, words: Iterable[Word]) -> None:
        words = list(words)
        self.text = "".join(word.text for word in words)
        self._ends = array("I", list(accumulate(len(word.text) for word in words)))
        numbers = [n for word in words for n in (word.start_s, word.end_s, word.probability)]
        self._numbers = array("d", numbers)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> Word: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Word, ...]: ...

    def __getitem__(self, at: int | slice) -> Word | tuple[Word, ...]:
        if isinstance(at, slice):
            return tuple(self[place] for place in range(len(self))[at])
        place = range(len(self))[at]
        start = self._ends[place - 1] if place else 0
        numbers = self._numbers[3 * place : 3 * place + 3]
        return Word(self.text[start : self._ends[place]], *numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Words):
            return NotImplemented
        return tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Words({list(self)!r})"
