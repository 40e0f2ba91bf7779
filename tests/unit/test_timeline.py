from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from sotto.audio.timeline import LATE_S, LONGEST_S, Stamped, Timeline

FRAME_S = 0.02


def silences(
    starts_s: Iterable[float | None],
    start_s: float | None = 0.0,
    claimed_s: float = 0.0,
    frame_s: float = FRAME_S,
) -> list[float]:
    """The silence before each of these frames."""
    return of_frames((Stamped(at_s, frame_s) for at_s in starts_s), start_s, claimed_s)


def of_frames(
    frames: Iterable[Stamped], start_s: float | None = 0.0, claimed_s: float = 0.0
) -> list[float]:
    placed = Timeline(start_s, claimed_s).placed((frame, None) for frame in frames)
    return [silence_s for silence_s, _ in placed]


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


@pytest.mark.parametrize("tremble_s", [0, 0.0005, 0.004])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_lost_frames_are_made_up_for_as_soon_as_they_are_enough(
    share: float, tremble_s: float
) -> None:
    chance = np.random.default_rng(1)
    kept = np.array(run(0, 10_000))[chance.random(10_000) >= share]
    starts = (kept + chance.uniform(0, tremble_s, kept.size)).tolist()
    assert misplaced_s(starts) < LATE_S + 6 * FRAME_S


def test_frames_that_are_few_while_nobody_speaks_have_silence_between() -> None:
    """An encoder that sends nothing in a pause but a frame now and then (Opus's DTX)."""
    pause = run(1.4, 150, 20 * FRAME_S)
    assert misplaced_s([*run(0, 50), *pause, *run(61.4, 50)]) < LATE_S


def test_frames_that_are_few_from_the_start_are_believed_when_more_come() -> None:
    got = silences([*run(0, 10, 20 * FRAME_S), *run(4.0, 3)])
    assert got == [*[0] * 11, pytest.approx(4.0 - 10 * FRAME_S), 0]


def test_the_last_frame_may_come_late() -> None:
    assert silences([0, 1, 5], frame_s=1) == [0, 0, pytest.approx(3)]


def test_a_hole_is_found_although_some_frames_have_no_time() -> None:
    assert sum(silences([0, 0.02, None, 0.06, None, 4, None, 4.04])) == pytest.approx(3.9)


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
    starts = [*run(6, 30), *run(6 + jump_s, 30), *run(6 + jump_s + 5, 30)]
    got = silences(starts, start_s=6)
    assert got.pop(60) == pytest.approx(5 - 30 * FRAME_S)
    assert not any(got)


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


def test_a_clock_of_a_wrong_rate_is_known_by_frames_of_any_length() -> None:
    lengths = np.random.default_rng(3).choice([128 / 48000, 1024 / 48000], 5000)
    starts = 2 * np.cumsum(lengths) - 2 * lengths
    assert not any(of_frames([Stamped(*each) for each in zip(starts, lengths, strict=True)]))


@pytest.mark.parametrize("stamps", [1, 2, 3])
@pytest.mark.parametrize("off_s", [8, 3000, -0.5, -5])
def test_a_few_wrong_stamps_add_nothing(off_s: float, stamps: int) -> None:
    starts = run(0, 1000)
    starts[500 : 500 + stamps] = run(10 + off_s, stamps)
    assert not any(silences(starts, claimed_s=4000))


@pytest.mark.parametrize("speed", [1.5, 2, 4, 100])
def test_stamps_that_catch_up_after_a_pause_of_the_network_add_nothing(speed: float) -> None:
    late = np.maximum(run(10, 1500), 15 + (np.array(run(10, 1500)) - 10) / speed)
    assert not any(silences([*run(0, 500), *late, *run(40, 500)]))


def test_stamps_that_come_in_bursts_after_a_pause_of_the_network_add_nothing() -> None:
    bursts = [15 + number // 25 * 0.03 for number in range(500)]
    late = np.maximum(run(10, 500), bursts)
    assert not any(silences([*run(0, 500), *late, *run(20, 500)]))
