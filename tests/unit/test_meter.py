"""Seconds by stage: each stage's own, summed to no more than the whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from sotto.meter import Laps, Meter


def slowly(items: Iterable[int], seconds: float) -> Iterator[int]:
    for item in items:
        time.sleep(seconds)
        yield item


def test_a_stage_is_timed_without_the_stages_before_it() -> None:
    whole, meter = Laps(), Meter()
    inner = meter.watch("decode", slowly(range(3), 0.04))
    outer = meter.watch("vad", slowly(inner, 0.01))
    assert list(outer) == [0, 1, 2]
    seconds = meter.seconds()
    assert seconds["decode"] >= 0.12
    assert seconds["vad"] >= 0.03
    assert seconds["decode"] + seconds["vad"] <= whole.total()


def test_the_time_of_the_consumer_is_not_the_stages() -> None:
    whole, meter = Laps(), Meter()
    for _ in meter.watch("decode", range(3)):
        time.sleep(0.04)
    assert 0 <= meter.seconds()["decode"] <= whole.total() - 0.12


def test_a_stage_that_never_ran_took_no_time() -> None:
    meter = Meter()
    meter.watch("decode", range(3))
    assert meter.seconds()["decode"] == 0.0


def test_a_lap_is_the_time_since_the_last_and_laps_of_one_name_add_up() -> None:
    laps = Laps()
    for stage in ("fetch", "engine", "fetch"):
        time.sleep(0.02)
        laps.end(stage)
    seconds = laps.seconds()
    assert seconds["fetch"] >= 0.04
    assert seconds["engine"] >= 0.02
    assert seconds["fetch"] + seconds["engine"] <= laps.total()


def test_an_error_passes_through_and_the_time_until_it_counts() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        time.sleep(0.02)
        raise ValueError("broken")

    meter = Meter()
    items = meter.watch("decode", breaks())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)
    assert meter.seconds()["decode"] >= 0.02


def test_a_stopped_meter_lets_nothing_more_through_any_stage() -> None:
    pulled: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(100):
            pulled.append(number)
            yield number

    meter = Meter()
    chain = meter.watch("vad", meter.watch("decode", counted()))
    assert next(chain) == 0
    meter.stop()
    assert list(chain) == []
    assert pulled == [0]


def test_what_has_just_begun_has_taken_no_stage_and_no_time() -> None:
    laps = Laps()
    assert laps.seconds() == Meter().seconds() == {}
    assert 0 <= laps.total() < 5
