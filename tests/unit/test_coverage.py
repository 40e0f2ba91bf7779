"""Which voices got no words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window, narrowed
from sotto.engine.base import TimedWord
from sotto.transcript.coverage import uncovered
from sotto.transcript.timing import total_s

Times = list[tuple[float, float]]


def window(*voices_s: tuple[float, float]) -> Window:
    """A window of one piece, 30 s from the file's start."""
    voices = tuple(Span(round(start * RATE), round(end * RATE)) for start, end in voices_s)
    return Window(0, (Span(0, 30 * RATE),), voices, np.zeros(30 * RATE, np.float32))


def words(*times_s: tuple[float, float]) -> list[TimedWord]:
    return [TimedWord(" a", (1,), start_s, end_s, 0.9) for start_s, end_s in times_s]


@pytest.mark.parametrize(
    ("voices_s", "words_s", "missing_s"),
    [
        pytest.param([(1, 2)], [], [(1, 2)], id="no words at all"),
        pytest.param([], [], [], id="nobody speaks"),
        pytest.param([], [(1, 2)], [], id="words without a voice"),
        pytest.param([(1, 3)], [(1, 2.9)], [], id="a voice with words"),
        pytest.param([(1, 3), (5, 9), (10, 12)], [(1, 3)], [(5, 9), (10, 12)], id="ended early"),
        pytest.param([(1, 20)], [(1, 4)], [(4, 20)], id="a voice left unfinished"),
        pytest.param([(1, 5)], [(1, 4)], [], id="nearly finished"),
        pytest.param([(1, 3), (5, 9), (10, 12)], [(1, 3), (10, 12)], [(5, 9)], id="skipped"),
        pytest.param([(1, 3), (5, 5.4), (10, 12)], [(1, 3), (10, 12)], [], id="a short one"),
        pytest.param([(1, 3), (5, 5.3)], [(1, 3)], [], id="not worthwhile"),
    ],
)
def test_voices_without_words_are_found(voices_s: Times, words_s: Times, missing_s: Times):
    missing = uncovered(window(*voices_s), words(*words_s))
    assert [(m.start_s, m.end_s) for m in missing] == missing_s


@pytest.mark.parametrize(
    ("number", "missing_s"),
    [
        (" 055554827391.", []),
        (" 0555-5482-7391", []),
        (" 5554", [(1, 2), (2.4, 3.6)]),
        (" 555", [(1, 2), (2.4, 3.6)]),
        (" extraordinarily", [(1, 2), (2.4, 3.6)]),
    ],
)
def test_a_number_said_in_groups_is_one_word_and_covers_them_all(number: str, missing_s: Times):
    said = [TimedWord(" at", (1,), 0.0, 0.8, 0.9), TimedWord(number, (2,), 0.9, 5.0, 0.9)]
    missing = uncovered(window((0, 0.8), (1, 2), (2.4, 3.6), (4, 5)), said)
    assert [(m.start_s, m.end_s) for m in missing] == missing_s


def test_speech_too_long_for_the_number_behind_it_was_skipped():
    said = [TimedWord(" 123456", (1,), 0.0, 20.0, 0.9)]
    missing = uncovered(window((0, 8), (9, 18), (19, 20)), said)
    assert [(m.start_s, m.end_s) for m in missing] == [(0, 8), (9, 18)]


voice_times = st.lists(st.integers(0, 299), unique=True, max_size=16).map(
    lambda edges: [
        (start / 10, end / 10)
        for start, end in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)
    ]
)
word_times = st.lists(st.floats(0, 30), max_size=30).map(
    lambda edges: list(itertools.pairwise(sorted(edges)))
)


@given(voice_times, word_times)
def test_what_is_missing_is_speech_in_order_and_can_be_asked_for(voices_s, words_s):
    whole = window(*voices_s)
    missing = uncovered(whole, words(*words_s))
    at_s = 0.0
    for stretch in missing:
        assert at_s <= stretch.start_s < stretch.end_s
        assert any(
            start - 1e-6 <= stretch.start_s and stretch.end_s <= end + 1e-6
            for start, end in voices_s
        )
        at_s = stretch.end_s
    if missing:
        again = narrowed(whole, missing, 0.2)
        assert len(again.pcm) / RATE >= total_s(missing) - 1e-3
        assert len(again.voices) == len(missing)
        assert len(again.pcm) <= len(whole.pcm)


@given(voice_times, word_times)
def test_asking_again_with_answers_gets_to_an_end(voices_s, words_s):
    """Each round's answer covers the first of what was missing."""
    left = window(*voices_s)
    missing = uncovered(left, words(*words_s)) if words_s else []
    rounds = 0
    while missing:
        rounds += 1
        assert rounds <= len(voices_s) + 1
        left = narrowed(left, missing, 0.2)
        start_s = (left.voices[0].start - left.pieces[0].start) / RATE
        end_s = (left.voices[0].end - left.pieces[0].start) / RATE
        missing = uncovered(left, words((start_s, end_s)))


def test_seconds_are_added_up():
    assert total_s([]) == 0
    assert total_s(uncovered(window((1, 2), (4, 7)), [])) == pytest.approx(4)
