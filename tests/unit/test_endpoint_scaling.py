"""When workers start and stop: the policy alone, on a clock that the tests hold."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st
from tests.endpoints import by_count, by_delay

from sotto.endpoint.config import Endpoint
from sotto.endpoint.scaling import Load, Phase, Plan, Worker, due_s, plan

NOW_S = 1000.0
QUIET = Load(waiting=0, oldest_wait_s=0.0, in_progress=0)
NOTHING = Plan(0, ())


def waiting(jobs: int, oldest_wait_s: float = 0.0, in_progress: int = 0) -> Load:
    return Load(jobs, oldest_wait_s, in_progress)


def starting(worker_id: str) -> Worker:
    return Worker(worker_id, Phase.STARTING, NOW_S)


def running(worker_id: str) -> Worker:
    return Worker(worker_id, Phase.RUNNING, NOW_S)


def stopping(worker_id: str) -> Worker:
    return Worker(worker_id, Phase.STOPPING, NOW_S)


def idle(worker_id: str, for_s: float) -> Worker:
    return Worker(worker_id, Phase.IDLE, NOW_S - for_s)


# Minimum and maximum


def test_the_minimum_is_started_without_any_job() -> None:
    assert plan(by_delay(2), QUIET, [], NOW_S) == Plan(2, ())
    assert plan(by_count(2), QUIET, [starting("a")], NOW_S) == Plan(1, ())


def test_the_minimum_is_kept_however_long_it_is_idle() -> None:
    assert plan(by_delay(1), QUIET, [idle("a", 9999)], NOW_S) == NOTHING
    assert plan(by_count(1), QUIET, [idle("a", 9999)], NOW_S) == NOTHING


def test_nothing_is_started_above_the_maximum() -> None:
    crowd = [running("a"), running("b")]
    assert plan(by_delay(0, 2), waiting(9, 60.0), crowd, NOW_S) == NOTHING
    assert plan(by_count(0, 2), waiting(99), crowd, NOW_S) == NOTHING


def test_a_maximum_of_none_starts_none() -> None:
    assert plan(by_delay(0, 0), waiting(9, 60.0), [], NOW_S) == NOTHING
    assert plan(by_count(0, 0), waiting(9, 60.0), [], NOW_S) == NOTHING


def test_a_worker_that_is_still_stopping_holds_its_place() -> None:
    assert plan(by_delay(0, 1), waiting(1, 60.0), [stopping("a")], NOW_S) == NOTHING
    assert plan(by_delay(0, 2), waiting(1, 60.0), [stopping("a")], NOW_S) == Plan(1, ())


def test_a_worker_that_is_stopping_is_not_one_of_the_minimum() -> None:
    assert plan(by_delay(1, 2), QUIET, [stopping("a")], NOW_S) == Plan(1, ())


# The queue delay


def test_the_first_job_starts_the_first_worker_at_once() -> None:
    assert plan(by_delay(), waiting(5), [], NOW_S) == Plan(1, ())


def test_one_more_is_started_once_a_job_has_waited_longer_than_the_delay() -> None:
    assert plan(by_delay(), waiting(5, 4.0), [running("a")], NOW_S) == NOTHING
    assert plan(by_delay(), waiting(5, 4.1), [running("a")], NOW_S) == Plan(1, ())


def test_while_one_starts_no_other_is_started() -> None:
    assert plan(by_delay(), waiting(5, 60.0), [running("a"), starting("b")], NOW_S) == NOTHING


def test_jobs_in_progress_start_nothing() -> None:
    assert plan(by_delay(), waiting(0, in_progress=50), [running("a")], NOW_S) == NOTHING


# The request count


def test_there_is_a_worker_for_every_so_many_jobs() -> None:
    assert plan(by_count(), waiting(1), [], NOW_S) == Plan(1, ())
    assert plan(by_count(), waiting(4), [], NOW_S) == Plan(1, ())
    assert plan(by_count(), waiting(5), [], NOW_S) == Plan(2, ())
    assert plan(by_count(), waiting(1, in_progress=8), [running("a")], NOW_S) == Plan(2, ())


def test_what_starts_already_is_counted() -> None:
    assert plan(by_count(), waiting(5), [starting("a")], NOW_S) == Plan(1, ())


def test_the_longest_idle_are_stopped_as_soon_as_the_jobs_are_too_few() -> None:
    crowd = [idle("a", 1), idle("b", 3), idle("c", 2)]
    assert plan(by_count(), waiting(1), crowd, NOW_S) == Plan(0, ("b", "c"))
    assert plan(by_count(), QUIET, crowd, NOW_S) == Plan(0, ("b", "c", "a"))


# The idle timeout


def test_a_worker_is_stopped_after_the_idle_timeout_and_not_before() -> None:
    assert plan(by_delay(), QUIET, [idle("a", 9.9)], NOW_S) == NOTHING
    assert plan(by_delay(), QUIET, [idle("a", 10.0)], NOW_S) == Plan(0, ("a",))


def test_the_longest_idle_goes_first() -> None:
    crowd = [idle("a", 20), idle("b", 30), running("c")]
    assert plan(by_delay(2), QUIET, crowd, NOW_S) == Plan(0, ("b",))


def test_no_worker_is_stopped_while_jobs_wait() -> None:
    assert plan(by_delay(), waiting(1), [idle("a", 20)], NOW_S) == NOTHING


def test_a_worker_that_starts_or_runs_is_never_stopped() -> None:
    crowd = [starting("a"), running("b")]
    assert plan(by_delay(), QUIET, crowd, NOW_S + 9999) == NOTHING
    assert plan(by_count(), QUIET, crowd, NOW_S + 9999) == NOTHING


# What time makes due


def test_without_workers_and_jobs_nothing_becomes_due() -> None:
    assert due_s(by_delay(), QUIET, [], NOW_S) == math.inf
    assert due_s(by_delay(), QUIET, [running("a"), starting("b")], NOW_S) == math.inf


def test_the_end_of_the_idle_timeout_is_due() -> None:
    assert due_s(by_delay(), QUIET, [idle("a", 2), idle("b", 7)], NOW_S) == NOW_S + 3
    assert due_s(by_delay(1), QUIET, [idle("a", 12)], NOW_S) == math.inf


def test_the_end_of_the_queue_delay_is_due() -> None:
    assert due_s(by_delay(), waiting(2, 1.5), [running("a")], NOW_S) == NOW_S + 2.5
    assert due_s(by_delay(), waiting(2, 5.0), [running("a")], NOW_S) == math.inf


def test_by_the_number_of_jobs_time_makes_nothing_due() -> None:
    assert due_s(by_count(), waiting(2, 1.5), [idle("a", 0.5)], NOW_S) == math.inf


# Always


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    most = draw(st.integers(0, 5))
    least = draw(st.integers(0, most))
    if draw(st.booleans()):
        return by_count(least, most, jobs=draw(st.integers(1, 5)))
    return by_delay(least, most, delay_s=draw(st.floats(0.5, 10)))


@st.composite
def crowds(draw: st.DrawFn) -> list[Worker]:
    kinds = draw(st.lists(st.tuples(st.sampled_from(Phase), st.floats(0, 100)), max_size=5))
    return [Worker(str(n), phase, NOW_S - for_s) for n, (phase, for_s) in enumerate(kinds)]


@given(
    endpoints(),
    st.builds(Load, st.integers(0, 20), st.floats(0, 100), st.integers(0, 20)),
    crowds(),
)
def test_whatever_happens_the_limits_hold_and_no_job_is_cut_off(
    endpoint: Endpoint, load: Load, crowd: list[Worker]
) -> None:
    made = plan(endpoint, load, crowd, NOW_S)
    idle_ids = {worker.worker_id for worker in crowd if worker.phase is Phase.IDLE}
    present = sum(worker.phase is not Phase.STOPPING for worker in crowd)
    assert made.start >= 0
    assert set(made.stop) <= idle_ids
    assert len(set(made.stop)) == len(made.stop)
    assert not (made.start and made.stop)
    assert made.start == 0 or len(crowd) + made.start <= endpoint.workers.max
    if made.stop:
        assert present - len(made.stop) >= endpoint.workers.min


@given(
    endpoints(),
    st.builds(Load, st.integers(0, 20), st.floats(0, 100), st.integers(0, 20)),
    crowds(),
    st.floats(0, 0.9),
)
def test_until_something_is_due_time_alone_changes_nothing(
    endpoint: Endpoint, load: Load, crowd: list[Worker], part: float
) -> None:
    due = due_s(endpoint, load, crowd, NOW_S)
    assert due > NOW_S
    assume(due > NOW_S + 0.01)  # closer by, a sum of floats may be the due time itself
    later_s = part * (min(due, NOW_S + 1e6) - NOW_S)
    aged = replace(load, oldest_wait_s=load.oldest_wait_s + later_s)
    now = plan(endpoint, load, crowd, NOW_S)
    assert plan(endpoint, aged, crowd, NOW_S + later_s) == now
