"""What the simulation makes of traffic: against the theory of queues, and by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.endpoints import by_count, by_delay

from sotto.endpoint.config import Endpoint
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.service import ALONE, Service, batching
from sotto.endpoint.simulate.simulation import Outcome, simulate
from sotto.endpoint.simulate.trace import DAY_S, Day, Trace, generated

JOBS = 60_000


def worker(concurrency: int = 1, *, cold_start_s: float = 0.0, points: str = "") -> Service:
    """A worker that takes a second for a second of audio."""
    known = batching(points) if points else ALONE
    return Service(1.0, 0.0, known, cold_start_s=cold_start_s, concurrency=concurrency)


def jobs(*pairs: tuple[float, float]) -> Trace:
    """A trace of (arrival, audio), in seconds."""
    arrivals_s, audio_s = zip(*pairs, strict=True) if pairs else ((), ())
    return Trace(arrivals_s, audio_s, days=1, told="")


def poisson(rate: float, length_s: Callable[[random.Random], float], count: int = JOBS) -> Trace:
    """So many jobs at random, `rate` of them a second."""
    dice = random.Random(1)
    arrivals_s, now_s = [], 0.0
    for _ in range(count):
        now_s += dice.expovariate(rate)
        arrivals_s.append(now_s)
    return Trace(arrivals_s, [length_s(dice) for _ in arrivals_s], days=1, told="")


def times(outcome: Outcome) -> list[tuple[float, float]]:
    """For each job its wait and its total, to the millisecond."""
    pairs = zip(outcome.waits_s, outcome.totals_s, strict=True)
    return [(round(wait_s, 3), round(total_s, 3)) for wait_s, total_s in pairs]


# The theory of queues


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_worker_with_equal_jobs_waits_as_a_queue_m_d_1(load: float) -> None:
    outcome = simulate(poisson(load, lambda _: 1.0), by_delay(1, 1), worker())
    assert mean(outcome.waits_s) == pytest.approx(load / (2 * (1 - load)), rel=0.06)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 0.7), (5, 0.8)])
def test_several_workers_wait_as_a_queue_m_m_c(servers: int, load: float) -> None:
    offered = servers * load
    trace = poisson(offered, lambda dice: dice.expovariate(1.0))
    outcome = simulate(trace, by_delay(servers, servers), worker())
    top = offered**servers / math.factorial(servers) / (1 - load)
    below = sum(offered**number / math.factorial(number) for number in range(servers))
    waiting = top / (top + below)  # Erlang's C: the part of the jobs that has to wait
    assert mean(outcome.waits_s) == pytest.approx(waiting / (servers - offered), rel=0.06)
    assert mean(wait_s > 0 for wait_s in outcome.waits_s) == pytest.approx(waiting, rel=0.05)


@pytest.mark.parametrize(
    "length_s",
    [lambda _: 1.0, lambda dice: dice.expovariate(1.0), lambda dice: dice.choice((0.1, 1.9))],
    ids=["equal", "exponential", "two kinds"],
)
def test_a_shared_worker_is_insensitive_to_how_lengths_are_spread(
    length_s: Callable[[random.Random], float],
) -> None:
    load = 0.6
    outcome = simulate(poisson(load, length_s), by_delay(1, 1), worker(concurrency=1000))
    assert max(outcome.waits_s) == 0
    assert mean(outcome.totals_s) == pytest.approx(1 / (1 - load), rel=0.05)


def test_by_littles_law_work_and_arrivals_say_how_busy_a_worker_is() -> None:
    trace = poisson(0.6, lambda _: 1.0)
    outcome = simulate(trace, by_delay(1, 1), worker())
    length_s = max(trace.arrivals_s[-1], DAY_S)
    assert outcome.busy_s == pytest.approx(sum(trace.audio_s), rel=1e-6)
    assert outcome.paid_s == pytest.approx(length_s, rel=1e-3)


# Nothing, and limits


def test_no_traffic_costs_nothing_without_a_minimum() -> None:
    outcome = simulate(jobs(), by_delay(), worker(cold_start_s=5))
    assert outcome == Outcome([], [], 0.0, 0.0, 0.0, 0, 0, 0)
    assert simulate(jobs(), by_count(), worker()).paid_s == 0


def test_no_traffic_costs_the_day_of_the_workers_that_are_always_there() -> None:
    outcome = simulate(jobs(), by_delay(2), worker(cold_start_s=5))
    assert outcome.paid_s == outcome.billed_s == 2 * DAY_S
    assert (outcome.starting_s, outcome.busy_s, outcome.starts) == (0.0, 0.0, 0)


def test_an_endpoint_that_runs_nothing_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"workers\.max: 0"):
        simulate(jobs((0.0, 5.0)), by_delay(0, 0), worker())


# By hand


def test_the_first_job_waits_for_a_cold_start_and_the_next_finds_the_worker_warm() -> None:
    outcome = simulate(jobs((0.0, 4.0), (12.0, 4.0)), by_delay(), worker(cold_start_s=3))
    assert times(outcome) == [(3.0, 7.0), (0.0, 4.0)]
    assert outcome.starts == 1
    assert (outcome.starting_s, outcome.busy_s) == (3.0, 8.0)
    assert outcome.idle_s == pytest.approx(5 + 10, abs=0.01)
    assert outcome.billed_s == 27  # 26.001, as the platform rounds up


@pytest.mark.parametrize("endpoint", [by_delay(2), by_count(2)], ids=["by delay", "by count"])
def test_the_workers_that_are_always_there_are_ready_for_the_first_jobs(endpoint: Endpoint) -> None:
    trace = jobs((0.0, 4.0), (0.0, 4.0), (1.0, 4.0))
    outcome = simulate(trace, endpoint, worker(cold_start_s=30))
    assert times(outcome) == [(0.0, 4.0), (0.0, 4.0), (3.0, 7.0)]
    assert (outcome.starting_s, outcome.starts) == (0.0, 0)


def test_after_the_idle_timeout_the_next_job_waits_for_a_cold_start_again() -> None:
    trace = jobs((0.0, 4.0), (18.0, 4.0))
    outcome = simulate(trace, by_delay(idle_timeout_s=10), worker(cold_start_s=3))
    assert times(outcome) == [(3.0, 7.0), (3.0, 7.0)]
    assert outcome.starts == 2


def test_another_worker_starts_once_a_job_has_waited_for_the_delay() -> None:
    trace = jobs((0.0, 60.0), (1.0, 5.0))
    outcome = simulate(trace, by_delay(delay_s=4), worker(cold_start_s=3))
    # The first is ready at 3; the second job has waited for 4 s at 5, when another starts.
    assert times(outcome)[1] == (7.001, 12.001)
    assert outcome.starts == 2


def test_the_maximum_of_workers_holds_and_jobs_wait_in_their_order() -> None:
    trace = jobs((0.0, 10.0), (0.0, 10.0), (0.0, 10.0))
    outcome = simulate(trace, by_delay(1, 1, delay_s=0.5), worker())
    assert times(outcome) == [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    assert outcome.starts == 0


def test_the_number_of_jobs_starts_and_stops_workers_at_once() -> None:
    trace = jobs(*((0.0, 10.0) for _ in range(8)))
    outcome = simulate(trace, by_count(0, 5, jobs=4), worker(concurrency=4, cold_start_s=2))
    assert outcome.starts == 2
    assert set(times(outcome)) == {(2.0, 42.0)}
    assert outcome.idle_s == 0
    assert outcome.billed_s == 2 * 42


def test_a_worker_takes_as_many_jobs_as_it_may() -> None:
    trace = jobs((0.0, 2.0), (0.0, 2.0), (0.0, 2.0))
    outcome = simulate(trace, by_delay(1, 1), worker(concurrency=2))
    assert times(outcome) == [(0.0, 4.0), (0.0, 4.0), (4.0, 6.0)]


def test_who_has_asked_for_the_longest_gets_the_next_job() -> None:
    trace = jobs((1.0, 30.0), (2.0, 30.0), (3.0, 10.0))
    outcome = simulate(trace, by_delay(2, 2), worker(concurrency=2))
    # The first two go to a worker each, and the third to the one whose last job is older.
    assert times(outcome) == [(0.0, 40.0), (0.0, 30.0), (0.0, 20.0)]


def test_jobs_that_run_longer_than_the_endpoint_allows_are_counted() -> None:
    trace = jobs((0.0, 299.0), (0.0, 301.0), (0.0, 900.0))
    assert simulate(trace, by_delay(3), worker()).overdue == 2


def test_batches_make_a_worker_of_many_jobs_faster() -> None:
    trace = jobs(*((0.0, 4.0) for _ in range(8)))
    alone = simulate(trace, by_delay(1, 1), worker(1, points="1=0.25,8=1"))
    together = simulate(trace, by_delay(1, 1), worker(8, points="1=0.25,8=1"))
    assert max(alone.totals_s) == pytest.approx(8 * 16)
    assert max(together.totals_s) == pytest.approx(8 * 4)


# What holds for all


@given(
    pairs=st.lists(st.tuples(st.floats(0, 300), st.floats(0, 60)), max_size=30),
    least=st.integers(0, 2),
    more=st.integers(1, 3),
    count=st.booleans(),
    concurrency=st.integers(1, 4),
    cold_start_s=st.floats(0, 20),
    idle_timeout_s=st.floats(1, 60),
)
def test_every_paid_second_is_one_of_starting_work_or_idling(
    pairs: Sequence[tuple[float, float]],
    least: int,
    more: int,
    count: bool,
    concurrency: int,
    cold_start_s: float,
    idle_timeout_s: float,
) -> None:
    most = least + more
    by_time = by_delay(least, most, idle_timeout_s=idle_timeout_s)
    trace = jobs(*sorted(pairs))
    does = worker(concurrency, cold_start_s=cold_start_s, points="1=0.5,4=1")
    outcome = simulate(trace, by_count(least, most) if count else by_time, does)
    # Rounding up is all that lies between the seconds that pass and those that are billed.
    assert outcome.paid_s - 1e-6 <= outcome.billed_s <= outcome.paid_s + outcome.starts + least
    assert outcome.starting_s == pytest.approx(outcome.starts * cold_start_s)
    work_s = sum(trace.audio_s)
    assert outcome.busy_s <= 2 * work_s + 1e-6  # never slower than half the speed
    assert outcome.busy_s >= work_s - 1e-6
    assert len(outcome.waits_s) == len(pairs)
    for wait_s, total_s, audio_s in zip(
        outcome.waits_s, outcome.totals_s, trace.audio_s, strict=True
    ):
        assert wait_s >= 0
        assert total_s >= wait_s + audio_s - 1e-6


def test_the_longer_a_worker_idles_the_less_jobs_wait_and_the_more_of_it_is_idle() -> None:
    trace = generated(Day(2000))
    outcomes = [
        simulate(
            trace,
            by_delay(idle_timeout_s=timeout_s),
            Service(40, 0.5, ALONE, cold_start_s=8, concurrency=8),
        )
        for timeout_s in (1, 5, 15, 60, 300, 900, 3600)
    ]
    shares = [outcome.idle_s / outcome.paid_s for outcome in outcomes]
    waits_s = [mean(outcome.waits_s) for outcome in outcomes]
    assert shares == sorted(shares)
    assert waits_s == sorted(waits_s, reverse=True)


def test_the_same_input_has_the_same_outcome() -> None:
    does = worker(4, cold_start_s=8)
    assert simulate(generated(Day(500)), by_delay(), does) == simulate(
        generated(Day(500)), by_delay(), does
    )


def test_a_day_of_a_hundred_thousand_jobs_is_within_reach() -> None:
    trace = generated(Day(100_000, audio_s=20))
    outcome = simulate(trace, by_delay(0, 10), Service(40, 0.1, ALONE, 8, 16))
    assert len(outcome.waits_s) == len(trace.arrivals_s)
