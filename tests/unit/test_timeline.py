from __future__ import annotations

from collections.abc import Iterable

import pytest

from sotto.audio.timeline import LATE_S, LONGEST_S, Timeline

FRAME_S = 0.02


def played(starts_s: Iterable[float], start_s: float = 0.0, claimed_s: float = 0.0) -> list[float]:
    """The silence before each of these frames of FRAME_S."""
    timeline = Timeline(start_s, claimed_s)
    silences = []
    for at_s in starts_s:
        silences.append(timeline.silence_s(at_s))
        timeline.add(FRAME_S)
    return silences


def test_frames_that_follow_one_another_have_no_silence_between() -> None:
    assert not any(played(number * FRAME_S for number in range(1000)))


def test_the_clock_need_not_begin_at_zero() -> None:
    assert not any(played((1.7e9 + number * FRAME_S for number in range(1000)), start_s=1.7e9))


def test_sound_that_begins_after_the_picture_is_late() -> None:
    assert played([3.5, 3.52, 3.54], start_s=2.0) == [pytest.approx(1.5), 0, 0]


def test_sound_that_begins_nearly_with_the_picture_is_not() -> None:
    assert not any(played([0.09, 0.11, 0.13]))


def test_a_hole_is_filled_where_it_is() -> None:
    assert played([0, 0.02, 4.04, 4.06]) == [0, 0, pytest.approx(4), 0]


def test_lost_frames_are_made_up_for_as_soon_as_they_are_enough() -> None:
    kept = [number * FRAME_S for number in range(1000) if number % 10]
    silences = played(kept)
    assert sum(silences) == pytest.approx(2.0, abs=LATE_S + FRAME_S)
    assert max(silences) < LATE_S + 2 * FRAME_S
    at_s, most_s = 0.0, 0.0
    for silence_s, start_s in zip(silences, kept, strict=True):
        at_s += silence_s
        most_s = max(most_s, abs(at_s - start_s))
        at_s += FRAME_S
    assert most_s < LATE_S + FRAME_S


def test_a_clock_that_trembles_adds_nothing() -> None:
    early_and_late = [0.04, -0.03, 0.05, 0.0, -0.05]
    starts = [max(0, n * FRAME_S + early_and_late[n % 5]) for n in range(1000)]
    assert not any(played(starts))


def test_times_in_milliseconds_add_nothing() -> None:
    step_s = 1024 / 44100
    timeline = Timeline(0, 0)
    for number in range(10_000):
        assert timeline.silence_s(round(number * step_s, 3)) == 0
        timeline.add(step_s)


def test_a_clock_that_runs_fast_adds_nothing() -> None:
    assert not any(played(number * 1.01 * FRAME_S for number in range(10_000)))


def test_a_clock_that_counts_at_a_wrong_rate_adds_nothing() -> None:
    assert not any(played(number * 3 * FRAME_S for number in range(10_000)))


def test_a_long_silence_needs_a_file_that_claims_it() -> None:
    starts = [0, FRAME_S, 3600, 3600 + FRAME_S]
    assert sum(played(starts, claimed_s=3601)) == pytest.approx(3600 - 2 * FRAME_S)
    assert not any(played(starts, claimed_s=60))
    assert not any(played(starts))


def test_after_a_clock_has_jumped_holes_are_filled_again() -> None:
    starts = [0, FRAME_S, 3600, 3600 + FRAME_S, 3605]
    assert played(starts)[:4] == [0, 0, 0, 0]
    assert played(starts)[4] == pytest.approx(5 - 2 * FRAME_S)


def test_where_a_clock_goes_back_sound_follows_sound() -> None:
    starts = [100, 100 + FRAME_S, 0, FRAME_S, 2 * FRAME_S, 1]
    silences = played(starts, start_s=100)
    assert silences[:5] == [0] * 5
    assert silences[5] == pytest.approx(1 - 3 * FRAME_S)


def test_no_more_than_the_longest_is_believed_without_a_claim() -> None:
    assert played([LONGEST_S]) == [LONGEST_S]
    assert played([LONGEST_S + 1]) == [0]
