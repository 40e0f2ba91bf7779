"""What may share a call, and when a text is believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.gate import DECODING

from sotto.engine.base import Ask, Draft, Thresholds, best, distrusted, is_silence

THRESHOLDS = Thresholds(compression_ratio=2.4, logprob=-1.0, no_speech=0.6)


def ask(**changes: object) -> Ask:
    values: dict[str, object] = {"temperatures": (0.0, 0.2, 0.4), **changes}
    return Ask(np.zeros((80, 100), np.float32), DECODING, THRESHOLDS, **values)


def draft(logprob: float = -0.3, no_speech: float = 0.1, ratio: float = 1.5) -> Draft:
    return Draft((1, 2), " text", 0.0, logprob, no_speech, ratio)


@pytest.mark.parametrize(
    "other",
    [
        ask(language="ru"),
        ask(encoded=object()),
        replace(ask(), features=np.ones((80, 3000), np.float32)),
        replace(ask(), thresholds=Thresholds(9, -9, 1)),
        ask(temperatures=(0.0,)),
    ],
    ids=["another language", "kept encoding", "other audio", "other thresholds", "fewer retries"],
)
def test_windows_share_a_call_although_they_differ_in(other: Ask):
    assert other.key == ask().key


def test_windows_share_a_call_with_different_prompts_of_one_length():
    assert ask(prompt=(1, 2, 3)).key == ask(prompt=(7, 8, 9)).key


@pytest.mark.parametrize(
    "other",
    [
        ask(prompt=(1,)),
        ask(translate=True),
        ask(align=False),
        ask(temperatures=(0.2, 0.4)),
        ask(drafts=(draft(),)),
        replace(ask(), decoding=replace(DECODING, beam_size=1)),
        replace(ask(), decoding=replace(DECODING, suppress_tokens=())),
    ],
    ids=["prompt length", "task", "alignment", "temperature", "another try", "beam", "suppressed"],
)
def test_windows_do_not_share_a_call_when_they_differ_in(other: Ask):
    assert other.key != ask().key


def test_each_try_has_the_next_temperature_and_the_last_one_is_known():
    tries = [ask(drafts=(draft(),) * count) for count in range(3)]
    assert [one.temperature for one in tries] == [0.0, 0.2, 0.4]
    assert [one.is_last_try for one in tries] == [False, False, True]


def test_an_ask_with_one_temperature_has_one_try():
    assert ask(temperatures=(0.7,)).is_last_try


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (draft(), False),
        (draft(logprob=-1.0), False),
        (draft(logprob=-1.01), True),
        (draft(ratio=2.4), False),
        (draft(ratio=2.41), True),
        (draft(logprob=-1.5, no_speech=0.9), False),
        (draft(logprob=-1.5, no_speech=0.6), True),
        (draft(logprob=-0.5, no_speech=0.9, ratio=3.0), True),
        (draft(logprob=-1.5, no_speech=0.9, ratio=3.0), False),
        (draft(logprob=float("-inf")), True),
    ],
)
def test_a_text_is_distrusted_when_improbable_or_repetitive_unless_silent(one, expected):
    assert distrusted(one, THRESHOLDS) is expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (draft(logprob=-1.5, no_speech=0.9), True),
        (draft(logprob=-0.9, no_speech=0.99), False),
        (draft(logprob=-1.5, no_speech=0.5), False),
    ],
)
def test_a_window_is_silent_only_if_its_text_is_improbable_too(one: Draft, expected: bool):
    assert is_silence(one, THRESHOLDS) is expected


def test_the_most_probable_text_is_kept_unless_it_is_repetitive():
    repetitive, fair, poor = draft(-0.1, ratio=9.0), draft(-1.2), draft(-1.9)
    assert best([poor, repetitive, fair], THRESHOLDS) == fair


def test_when_all_are_repetitive_the_most_probable_is_kept():
    worse, better = draft(-0.8, ratio=9.0), draft(-0.2, ratio=8.0)
    assert best([worse, better], THRESHOLDS) == better


def test_the_text_that_is_kept_has_the_temperature_of_the_last_try():
    tries = [replace(draft(-1.2), temperature=0.0), replace(draft(-1.9), temperature=1.0)]
    assert best(tries, THRESHOLDS) == replace(tries[0], temperature=1.0)


def test_a_lone_text_is_kept_whatever_it_is():
    only = draft(float("-inf"), ratio=99.0)
    assert best([only], THRESHOLDS) == only
