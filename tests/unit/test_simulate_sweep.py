"""Many settings compared: targets, the frontier, what is recommended, and the picture of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.endpoint.config import Endpoint, Scaling, Workers
from sotto.endpoint.simulate import plots, report
from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.prices import Price
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.service import ALONE, Service
from sotto.endpoint.simulate.sweep import Point, frontier, recommended, settings, sweep
from sotto.endpoint.simulate.target import USUAL, Measure, Target, quantile, target
from sotto.endpoint.simulate.trace import Day, generated

BY_DELAY = Endpoint(name="sotto", workers=Workers(min=0, max=3, idle_timeout_s=10))
BY_COUNT = Endpoint(name="sotto", scaling=Scaling(kind="request_count", value=4))
CASE = Case(
    trace=generated(Day(300)),
    endpoint=BY_DELAY,
    service=Service(20, 0.5, ALONE, cold_start_s=8, concurrency=4),
    told="given",
    price=Price(0.5, "as given"),
)


def point(value_s: float, usd_a_day: float, *, most: int = 1, idle_s: float = 10) -> Point:
    return Point(idle_s, most, value_s, usd_a_day, idle_share=0.5)


POINTS = [
    point(9.0, 1.0, idle_s=5),
    point(4.0, 2.0, idle_s=60),
    point(5.0, 2.5, most=2, idle_s=5),
    point(0.5, 6.0, most=2, idle_s=60),
]

# Targets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p95",
        "p95 <= 10",
        "p95 < 10 s",
        "p95 >= 10 s",
        "95 <= 10 s",
        "p0 <= 10 s",
        "p0.0 <= 10 s",
        "p100 <= 10 s",
        "p-5 <= 10 s",
        "pnan <= 10 s",
        "p95 <= nan s",
        "p95 <= -1 s",
        "p95 <= 1e9 s",
        "p95 <= 10 days",
        "p95 run <= 10 s",
        "p95 <= 10 s or so",
        "p95 <= " + "9" * 10_000 + " s",
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(
        SimulationError, match=r"--target: .* such as 'p95 wait <= 10 s'"
    ) as refused:
        target(text)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("p95 <= 10 s", Target(USUAL, 10.0)),
        (" P95<=10S ", Target(USUAL, 10.0)),
        ("p99.9 total ≤ 1.5 min", Target(Measure(99.9, "total"), 90.0)),
        ("p5 wait <= 250 ms", Target(Measure(5, "wait"), 0.25)),
        ("p50 <= 0 h", Target(Measure(50, "wait"), 0.0)),
    ],
)
def test_a_target_means_what_it_says(text: str, means: Target) -> None:
    assert target(text) == means
    assert target(str(means)) == means


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 99.999))
def test_a_quantile_is_one_of_the_times_and_enough_are_at_most_that(
    times_s: list[float], percent: float
) -> None:
    found = quantile(sorted(times_s), percent)
    assert found in times_s
    assert sum(time_s <= found for time_s in times_s) >= percent / 100 * len(times_s) - 1e-4


def test_ranks_are_not_a_rounding_error_off() -> None:
    thousand = [float(number) for number in range(1, 1001)]
    assert quantile(thousand, 99.9) == 999
    assert quantile(thousand, 50) == 500
    assert quantile([], 95) == 0


# Settings


def test_every_idle_timeout_is_tried_with_every_maximum() -> None:
    tried = settings(BY_DELAY, [60, 5, 60], [3, 1])
    found = [(one.workers.max, one.workers.idle_timeout_s) for one in tried]
    assert found == [(1, 5), (1, 60), (3, 5), (3, 60)]


def test_an_idle_timeout_that_cannot_act_is_not_tried() -> None:
    tried = settings(BY_COUNT, [60, 5], [2, 1])
    assert [(one.workers.max, one.workers.idle_timeout_s) for one in tried] == [
        (1, None),
        (2, None),
    ]


def test_a_maximum_below_the_minimum_is_not_tried() -> None:
    two = Endpoint(name="sotto", workers=Workers(min=2, max=3))
    assert [one.workers.max for one in settings(two, [5], [0, 1, 2])] == [2]
    with pytest.raises(SimulationError, match=r"--sweep-max: none is as high as workers\.min, 2"):
        settings(two, [5], [1])


# What is best


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    assert frontier(POINTS) == [POINTS[0], POINTS[1], POINTS[3]]
    assert frontier([]) == []


def test_the_cheapest_that_meets_the_target_is_recommended() -> None:
    assert recommended(POINTS, target("p95 <= 4 s")) == POINTS[1]
    assert recommended(POINTS, target("p95 <= 9 s")) == POINTS[0]
    assert recommended(POINTS, target("p95 <= 0.4 s")) is None


def test_of_settings_that_come_to_the_same_the_smallest_is_recommended() -> None:
    same = [point(1.0, 1.0, most=most, idle_s=idle_s) for most in (3, 2) for idle_s in (60, 5)]
    assert recommended(same, target("p95 <= 1 s")) == same[3]
    assert frontier(same) == [same[3]]


@given(
    st.lists(st.builds(point, st.floats(0, 100), st.floats(0, 100)), min_size=1),
    st.floats(0, 100),
)
def test_nothing_that_was_tried_is_cheaper_and_good_enough(
    points: Sequence[Point], most_s: float
) -> None:
    best = frontier(points)
    assert all(a.usd_a_day < b.usd_a_day and a.value_s > b.value_s for a, b in pairwise(best))
    good = [one for one in points if one.value_s <= most_s]
    chosen = recommended(points, Target(USUAL, most_s))
    assert (chosen is None) == (not good)
    if chosen is not None:
        assert chosen in best
        assert chosen.usd_a_day == min(one.usd_a_day for one in good)


def test_a_sweep_shows_the_price_of_waiting_less() -> None:
    tried = settings(BY_DELAY, [5, 60, 900], [1, 3])
    busy = replace(CASE, service=replace(CASE.service, concurrency=1))
    points = list(sweep(busy, tried, Measure(50, "wait")))
    assert [(p.max_workers, p.idle_timeout_s) for p in points] == [
        (most, idle_s) for most in (1, 3) for idle_s in (5, 60, 900)
    ]
    for own in (points[:3], points[3:]):
        assert own == sorted(own, key=lambda one: one.usd_a_day)
        assert own == sorted(own, key=lambda one: -one.value_s)


def test_a_sweep_ends_where_more_workers_would_never_be_started() -> None:
    alone = replace(CASE, service=replace(CASE.service, concurrency=1000))
    points = list(sweep(alone, settings(BY_DELAY, [5, 60], [1, 2, 3, 1000]), USUAL))
    assert [point.max_workers for point in points] == [1, 1]


# What is told


def test_a_target_that_nothing_meets_is_said_so_with_the_nearest() -> None:
    told = report.recommendation(POINTS, target("p95 <= 0.1 s"), CASE)
    assert told.startswith("Nothing that was tried meets p95 wait <= 0.1 s. The nearest: max = 2,")
    assert "0.50 s, 6.00 USD a day" in told


def test_a_recommendation_is_written_as_the_file_has_it() -> None:
    told = report.recommendation(POINTS, target("p95 <= 4 s"), CASE)
    assert "the cheapest: max = 1, idle_timeout_s = 60\n" in told
    counted = report.recommendation(POINTS, target("p95 <= 4 s"), replace(CASE, endpoint=BY_COUNT))
    assert "the cheapest: max = 1\n" in counted


def test_the_table_stars_the_frontier() -> None:
    lines = report.table(POINTS, USUAL, CASE, most_tried=2).splitlines()
    assert lines[0].split() == ["max", "idle", "s", "p95", "wait,", "s", "USD", "a", "day", "idle"]
    assert [line.endswith("*") for line in lines[1:]] == [True, True, False, True]
    more = report.table(POINTS, USUAL, CASE, most_tried=8).splitlines()
    assert more == [*lines, "More than 2 would never be started."]


# The picture


@pytest.mark.parametrize("name", ["plot", "plot.pdf", "plot.svg.gz", ""])
def test_a_picture_of_another_form_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SimulationError, match=r"--plot: .* use a name in \.png or \.svg"):
        plots.check(tmp_path / name)


def test_a_picture_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="--plot: there is no folder"):
        plots.check(tmp_path / "none" / "plot.svg")


def test_without_matplotlib_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SimulationError, match="`python -m pip install matplotlib`"):
        plots.check(tmp_path / "plot.svg")


@pytest.mark.parametrize("wanted", [None, "p95 <= 4 s", "p95 <= 0.1 s"])
@pytest.mark.parametrize("endpoint", [BY_DELAY, BY_COUNT], ids=["delay", "count"])
def test_the_picture_names_its_axes_its_lines_and_the_target(
    tmp_path: Path, wanted: str | None, endpoint: Endpoint
) -> None:
    pytest.importorskip("matplotlib")
    goal = None if wanted is None else target(wanted)
    picture = plots.Picture(POINTS, replace(CASE, endpoint=endpoint), USUAL, goal)
    for name in ("one.svg", "two.svg", "three.png"):
        plots.check(tmp_path / name)
        plots.draw(picture, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert drawn == (tmp_path / "two.svg").read_text(encoding="utf-8")
    labels = ["cost, USD a day", "p95 wait of a job, s", "max 1", "max 2"]
    labels += [str(goal).replace("<", "&lt;")] if goal else []
    labels += ["idle 60 s"] if endpoint is BY_DELAY else []
    assert [label for label in labels if f"<!-- {label} -->" not in drawn] == []
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.svg"
    path.mkdir()
    with pytest.raises(SimulationError, match=r"--plot: .*plot\.svg: Is a directory"):
        plots.draw(plots.Picture(POINTS, CASE, USUAL, None), path)


def test_points_that_all_cost_nothing_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    nothing = [point(0.0, 0.0), point(0.0, 0.0, most=2)]
    plots.draw(plots.Picture(nothing, CASE, USUAL, None), tmp_path / "plot.svg")
    assert not math.isnan(nothing[0].value_s)
