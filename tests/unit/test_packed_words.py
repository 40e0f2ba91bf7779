"""Words go into a segment packed and come out as they went in."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.transcript.words import Word, Words

NUMBERS = st.floats(allow_nan=False)
WORDS = st.lists(st.builds(Word, st.text(), NUMBERS, NUMBERS, NUMBERS), max_size=12)
THREE = (
    Word(" Straße", 0.1, 0.35, 0.99),
    Word("", 0.35, 0.35, 0.0),
    Word(" 東京\U0001f600", 1 / 3, 2e5, 1.0),
)


@given(WORDS)
def test_what_goes_in_comes_out(words: list[Word]) -> None:
    packed = Words(words)
    assert list(packed) == words
    assert len(packed) == len(words)
    assert packed.text == "".join(word.text for word in words)
    assert bool(packed) == bool(words)


@given(WORDS, st.integers(-15, 15), st.integers(-15, 15), st.sampled_from([-2, -1, 1, 3]))
def test_a_slice_is_that_of_a_tuple(words: list[Word], start: int, stop: int, step: int) -> None:
    assert Words(words)[start:stop:step] == tuple(words)[start:stop:step]


def test_a_word_is_found_from_either_end() -> None:
    packed = Words(THREE)
    assert [packed[at] for at in (0, 1, 2, -1, -2, -3)] == [
        THREE[at] for at in (0, 1, 2, -1, -2, -3)
    ]


@pytest.mark.parametrize("at", [3, -4, 10**30])
def test_beyond_the_last_there_is_none(at: int) -> None:
    with pytest.raises(IndexError):
        Words(THREE)[at]


def test_equal_words_are_equal_packed() -> None:
    assert Words(THREE) == Words(iter(THREE))
    assert hash(Words(THREE)) == hash(Words(THREE))
    assert Words(THREE) != Words(THREE[:2])
    assert Words(THREE) != THREE
    assert "東京" in repr(Words(THREE))


def test_packed_they_take_a_third() -> None:
    words = [Word(f" word{n}", n + 0.25, n + 0.75, 0.5 + n / 1000) for n in range(8)]
    one_by_one = sys.getsizeof(tuple(words)) + sum(
        sys.getsizeof(value)
        for word in words
        for value in (word, word.text, word.start_s, word.end_s, word.probability)
    )
    packed = Words(words)
    parts = (packed, *(getattr(packed, name) for name in Words.__slots__))
    assert sum(map(sys.getsizeof, parts)) < one_by_one / 3
