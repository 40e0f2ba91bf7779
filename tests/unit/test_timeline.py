from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from sotto.audio.timeline import LATE_S, LONGEST_S, Timeline

FRAME_S = 0.02


def silences(
    starts_s: Iterable[float | None],
    start_s: float | None = 0.0,
    claimed_s: float = 0.0,
    frame_s: float = FRAME_S,
) -> list[float]:
    """The silence before each of these frames."""
    timeline = Timeline(start_s, claimed_s)
    pairs = itertools.pairwise(itertools.chain(starts_s, [None]))
    return [timeline.silence_s(at_s, frame_s, next_s) for at_s, next_s in pairs]


def run(start_s: float, frames: int, step_s: float = FRAME_S) -> list[float]:
    """Starts of so many frames."""
    return [start_s + number * step_s for number in range(frames)]


def misplaced_s(starts_s: list[float]) -> float:
    """How far from its time any of these frames is played."""
    at_s, most_s = 0.0, 0.0
    for silence_s, start_s in zip(silences(starts_s), starts_s, strict=True):
        at_s += silence_s
        most_s = max(most_s, abs(at_s - start_s))
        at_s += FRAME_S
    return most_s


# What is silence


def test_sound_that_begins_after_the_picture_is_late() -> None:
    assert silences(run(3.5, 3), start_s=2.0) == [pytest.approx(1.5), 0, 0]


def test_a_hole_is_filled_where_it_is() -> None:
    assert silences([*run(0, 2), *run(4.04, 2)]) == [0, 0, pytest.approx(4), 0]


def test_lost_frames_are_made_up_for_as_soon_as_they_are_enough() -> None:
    lost = np.random.default_rng(1).random(5000) < 0.1
    starts = [start_s for start_s, gone in zip(run(0, 5000), lost, strict=True) if not gone]
    assert misplaced_s(starts) < LATE_S + 5 * FRAME_S
    assert sum(silences(starts)) == pytest.approx(lost.sum() * FRAME_S, abs=2 * LATE_S)


def test_frames_that_are_few_while_nobody_speaks_have_silence_between() -> None:
    """An encoder that sends nothing in a pause but a frame now and then (Opus's DTX)."""
    pause = run(1.4, 150, 20 * FRAME_S)
    assert misplaced_s([*run(0, 50), *pause, *run(61.4, 50)]) < LATE_S


def test_frames_that_are_few_from_the_start_are_believed_when_more_come() -> None:
    got = silences([*run(0, 10, 20 * FRAME_S), *run(4.0, 3)])
    assert got == [*[0] * 11, pytest.approx(4.0 - 10 * FRAME_S), 0]


def test_a_long_silence_needs_a_file_that_claims_it() -> None:
    starts = [*run(0, 2), *run(3600, 2)]
    assert sum(silences(starts, claimed_s=3601)) == pytest.approx(3600 - 2 * FRAME_S)
    assert not any(silences(starts, claimed_s=60))
    assert not any(silences(starts))


def test_no_more_than_the_longest_is_believed_without_a_claim() -> None:
    assert silences(run(LONGEST_S, 2)) == [LONGEST_S, 0]
    assert not any(silences(run(LONGEST_S + 1, 2)))


@pytest.mark.parametrize("jump_s", [3600, -5])
def test_after_a_clock_was_set_holes_are_filled_again(jump_s: float) -> None:
    starts = [*run(6, 2), *run(6 + jump_s, 2), *run(6 + jump_s + 5, 2)]
    assert silences(starts, start_s=6) == [0, 0, 0, 0, pytest.approx(5 - 2 * FRAME_S), 0]


# What is none


def test_frames_that_follow_one_another_have_no_silence_between() -> None:
    assert not any(silences(run(0, 1000)))


@pytest.mark.parametrize("start_s", [1.7e9, None])
def test_a_clock_need_not_begin_at_zero(start_s: float | None) -> None:
    assert not any(silences(run(1.7e9, 1000), start_s))


def test_sound_that_begins_nearly_with_the_picture_is_not_late() -> None:
    assert not any(silences(run(0.09, 3)))


def test_a_frame_without_a_time_follows_the_last() -> None:
    assert not any(silences([0, None, 0.04, None, None, 0.1]))
    assert not any(silences([None, None, None], start_s=None))


@pytest.mark.parametrize("most_s", [0.004, 0.03])
def test_a_clock_that_trembles_adds_nothing(most_s: float) -> None:
    off = np.random.default_rng(2).uniform(-most_s, most_s, 5000)
    assert not any(silences((np.array(run(5, 5000)) + off).tolist(), start_s=5))


def test_a_clock_that_trembles_much_adds_no_more_than_it_trembles() -> None:
    off = np.random.default_rng(2).uniform(-0.3, 0.3, 50_000)
    starts = np.sort(np.array(run(5, 50_000)) + off).tolist()
    assert sum(silences(starts, start_s=5)) < 0.6


@pytest.mark.parametrize("step_s", [1024 / 44100, 1024 / 48000, 0.0025, 128 / 48000])
def test_times_in_milliseconds_add_nothing(step_s: float) -> None:
    starts = [round(start_s, 3) for start_s in run(0, 10_000, step_s)]
    assert not any(silences(starts, frame_s=step_s))


@pytest.mark.parametrize("rate", [1.0002, 1.01, 1.2, 1.3, 1.5, 2, 3, 20])
def test_a_clock_that_runs_fast_adds_nothing(rate: float) -> None:
    step_s = 1024 / 44100
    starts = [round(start_s, 3) for start_s in run(0, 10_000, rate * step_s)]
    assert not any(silences(starts, frame_s=step_s))


def test_a_lost_frame_is_not_the_time_to_make_up_for_a_fast_clock() -> None:
    starts = run(0, 100_000, 1.0002 * FRAME_S)
    del starts[50_000]
    assert not any(silences(starts))


@pytest.mark.parametrize("off_s", [8, 3600, -8])
def test_a_single_wrong_stamp_adds_nothing(off_s: float) -> None:
    starts = run(0, 1000)
    starts[500] += off_s
    assert not any(silences(starts, claimed_s=4000))


def test_stamps_that_catch_up_after_a_pause_of_the_network_add_nothing() -> None:
    late = [max(start_s, 15 + (start_s - 10) / 100) for start_s in run(10, 260)]
    assert not any(silences([*run(0, 500), *late, *run(15.2, 500)]))
