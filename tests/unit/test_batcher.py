"""What runs together, in which order, and what a failure costs whom."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gate import DECODING, HANG_S, Gate, ask, number

from sotto.engine.base import Ask, Decoded
from sotto.engine.batcher import Batcher, Ticket, take_batch
from sotto.engine.failures import DeviceLost
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, OutOfMemory, Overloaded


def alone(number: int) -> Decoded:
    """What a window gives when nothing else runs."""
    return FakeEngine().decode([ask(number)])[0]


def result(future: Future[Decoded]) -> Decoded:
    return future.result(HANG_S)


def error(future: Future[Decoded]) -> BaseException | None:
    return future.exception(HANG_S)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def start(gate: Gate) -> Iterator[Callable[..., Batcher]]:
    """Makes batchers that are closed after the test."""
    started: list[Batcher] = []
    before = set(threading.enumerate())

    def make(engine: FakeEngine, **options: int) -> Batcher:
        started.append(Batcher(engine, **options))
        return started[-1]

    yield make
    gate.open()
    for batcher in started:
        batcher.close()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("sotto-engine")]


@pytest.fixture
def busy(gate: Gate, start: Callable[..., Batcher]) -> Callable[..., Batcher]:
    """Makes a batcher whose engine is at work on window 0 of a job of its own."""

    def make(engine: FakeEngine | None = None, **options: int) -> Batcher:
        engine = engine or FakeEngine()
        engine.fault = gate
        batcher = start(engine, **options)
        batcher.submit("busy", ask(0))
        gate.await_call()
        return batcher

    return make


# The policy.


def tickets(*jobs: str) -> list[list[Ticket]]:
    """Queues from texts: a letter is the key of a ticket, `a` the plain one."""
    return [
        [
            Ticket(job, ask(place, prompt=(0,) * (ord(key) - ord("a"))))
            for place, key in enumerate(s)
        ]
        for job, s in enumerate(jobs)
    ]


@pytest.mark.parametrize(
    ("jobs", "limit", "expected"),
    [
        ([], 8, []),
        (["", ""], 8, []),
        (["a"], 8, ["0.0"]),
        (["aaa"], 2, ["0.0", "0.1"]),
        (["aaa", "a"], 8, ["0.0", "1.0", "0.1", "0.2"]),
        (["aaaa", "aa", "a"], 4, ["0.0", "1.0", "2.0", "0.1"]),
        (["ab", "ba"], 8, ["0.0", "1.1"]),
        (["ba", "aaa"], 8, ["0.0"]),
        (["", "ba", "bb"], 8, ["1.0", "2.0", "2.1"]),
        (["aaaaaaaa", "a", "a"], 1, ["0.0"]),
    ],
)
def test_a_call_takes_from_the_jobs_in_turn_what_has_the_key_of_the_first(jobs, limit, expected):
    batch = take_batch(tickets(*jobs), limit)
    assert [f"{ticket.job}.{number(ticket.ask)}" for ticket in batch] == expected


@pytest.mark.parametrize(
    ("temperatures", "limit", "most"),
    [((0.0, 0.2), 4, 4), ((0.0, 0.2), 16, 16), ((0.2,), 16, 3), ((0.2,), 4, 1), ((0.2,), 1, 1)],
)
def test_a_sampled_window_weighs_as_much_as_its_candidates(temperatures, limit, most):
    waiting = [[Ticket(job, ask(0, temperatures=temperatures)) for _ in range(9)] for job in (1, 2)]
    assert DECODING.best_of == 5
    assert len(take_batch(waiting, limit)) == most


@pytest.mark.parametrize(
    ("decoding", "most"),
    [
        ({"beam_size": 1}, 16),
        ({"beam_size": 5}, 16),
        ({"beam_size": 6}, 8),
        ({"beam_size": 20}, 4),
        ({"suppress_tokens": tuple(range(100))}, 16),
        ({"suppress_tokens": tuple(range(101))}, 8),
        ({"suppress_tokens": tuple(range(5_000))}, 1),
        ({"suppress_tokens": tuple(range(400)), "beam_size": 20}, 4),
    ],
)
def test_many_beams_and_many_suppressed_tokens_weigh_more(decoding, most):
    one = ask(0)
    one = replace(one, decoding=replace(one.decoding, **decoding))
    assert len(take_batch([[Ticket(1, one) for _ in range(20)]], 16)) == most


queues = st.lists(st.text("abc", max_size=6), max_size=6)


@given(queues, st.integers(1, 12))
def test_a_call_is_within_its_limit_has_one_key_and_leaves_nothing_that_fits(jobs, limit):
    waiting = tickets(*jobs)
    batch = take_batch(waiting, limit)
    oldest = [queue[0] for queue in waiting if queue][:1]
    assert batch[:1] == oldest
    assert len(batch) <= limit
    assert len(set(map(id, batch))) == len(batch)
    assert {ticket.ask.key for ticket in batch} == {ticket.ask.key for ticket in oldest}
    fitting = [t for queue in waiting for t in queue if oldest and t.ask.key == oldest[0].ask.key]
    assert len(batch) == min(limit, len(fitting))


@given(queues, st.integers(1, 12))
def test_no_job_gets_more_rows_than_another_that_still_waits_with_the_same_key(jobs, limit):
    waiting = tickets(*jobs)
    batch = take_batch(waiting, limit)
    got = Counter(ticket.job for ticket in batch)
    for queue in waiting:
        left = [t for t in queue if batch and t.ask.key == batch[0].ask.key and t not in batch]
        if left:
            assert max(got.values()) <= got[left[0].job] + 1


@given(queues, st.integers(1, 12))
def test_a_job_is_served_oldest_first_and_the_queues_are_not_touched(jobs, limit):
    waiting = tickets(*jobs)
    before = [list(queue) for queue in waiting]
    batch = take_batch(waiting, limit)
    assert waiting == before
    for job, group in itertools.groupby(sorted(batch, key=lambda t: t.job), key=lambda t: t.job):
        places = [number(ticket.ask) for ticket in group]
        assert places == sorted(places)
        assert job in range(len(jobs))


# Who meets whom.


def test_an_idle_engine_runs_a_window_at_once(start):
    engine = FakeEngine()
    batcher = start(engine)
    for one in range(3):
        assert result(batcher.submit("job", ask(one))) == alone(one)
    assert engine.calls == [1, 1, 1]


def test_windows_of_several_jobs_share_a_call_while_the_engine_is_busy(busy, gate):
    batcher = busy()
    futures = [batcher.submit(job, ask(job)) for job in (1, 2, 3)]
    gate.open()
    assert [result(future) for future in futures] == [alone(job) for job in (1, 2, 3)]
    assert gate.rows == [[0], [1, 2, 3]]


def test_no_call_is_larger_than_the_limit(busy, gate):
    batcher = busy(FakeEngine(batch_limit=4))
    futures = [batcher.submit("job", ask(one)) for one in range(1, 11)]
    gate.open()
    wait(futures, HANG_S)
    assert gate.rows == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_a_short_job_does_not_wait_for_a_long_one(busy, gate):
    batcher = busy(FakeEngine(batch_limit=8))
    long = [batcher.submit("long", ask(one)) for one in range(1, 41)]
    short = [batcher.submit(f"short {one}", ask(100 + one)) for one in range(8)]
    gate.open()
    wait([*long, *short], HANG_S)
    assert set(range(100, 108)) <= set(itertools.chain(*gate.rows[:3]))


def test_two_long_jobs_progress_side_by_side(busy, gate):
    batcher = busy(FakeEngine(batch_limit=4))
    first = [batcher.submit("first", ask(one)) for one in range(1, 13)]
    second = [batcher.submit("second", ask(100 + one)) for one in range(12)]
    gate.open()
    wait([*first, *second], HANG_S)
    assert [sum(row < 100 for row in rows) for rows in gate.rows[1:]] == [2] * 6


def test_a_job_with_another_key_gets_its_turn_before_a_long_job_ends(busy, gate):
    batcher = busy(FakeEngine(batch_limit=2))
    long = [batcher.submit("long", ask(one)) for one in range(1, 21)]
    other = batcher.submit("other", ask(99, translate=True))
    gate.open()
    wait([*long, other], HANG_S)
    assert [99] in gate.rows[:3]


# Failures.


def test_a_bad_window_fails_alone_and_the_others_results_are_unchanged(busy, gate):
    def fault(asks: Sequence[Ask]) -> None:
        gate(asks)
        if any(number(one) == 5 for one in asks):
            raise EngineError("window 5 is bad")

    engine = FakeEngine(batch_limit=8)
    batcher = busy(engine)
    engine.fault = fault
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in range(1, 9)}
    gate.open()
    assert "window 5 is bad" in str(error(futures.pop(5)))
    assert {one: result(future) for one, future in futures.items()} == {
        one: alone(one) for one in futures
    }
    assert batcher.healthy
    assert batcher.limit == 8


def test_an_unforeseen_exception_costs_a_window_and_not_the_thread(start):
    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) == 1:
            raise ZeroDivisionError("surprise")

    batcher = start(FakeEngine(fault=fault))
    assert isinstance(error(batcher.submit("job", ask(1))), ZeroDivisionError)
    assert result(batcher.submit("job", ask(2))) == alone(2)


def test_out_of_memory_halves_the_limit_for_good_and_nobody_notices(busy, gate):
    engine = FakeEngine(batch_limit=8)
    batcher = busy(engine)

    def fault(asks: Sequence[Ask]) -> None:
        gate(asks)
        if len(asks) > 3:
            raise OutOfMemory(f"no room for {len(asks)}")

    engine.fault = fault
    futures = [batcher.submit("job", ask(one)) for one in range(1, 20)]
    gate.open()
    assert [result(future) for future in futures] == [alone(one) for one in range(1, 20)]
    assert [len(rows) for rows in gate.rows[1:5]] == [8, 4, 2, 2]
    assert batcher.limit == 2
    assert {len(rows) for rows in gate.rows[8:]} == {1, 2}


def test_out_of_memory_with_sampled_windows_leaves_the_others_their_room(busy, gate):
    engine = FakeEngine(batch_limit=16)
    batcher = busy(engine)

    def fault(asks: Sequence[Ask]) -> None:
        gate(asks)
        if asks[0].weight * len(asks) > 10:
            raise OutOfMemory(f"no room for the candidates of {len(asks)}")

    engine.fault = fault
    sampled = [batcher.submit("sampled", ask(one, temperatures=(0.2,))) for one in range(1, 4)]
    others = [batcher.submit("plain", ask(one)) for one in range(4, 14)]
    gate.open()
    assert [result(future).draft.temperature for future in sampled] == [0.2] * 3
    assert [result(future) for future in others] == [alone(one) for one in range(4, 14)]
    assert [len(rows) for rows in gate.rows[1:]] == [3, 1, 2, 7, 3]
    assert batcher.limit == 7


def test_out_of_memory_with_one_window_fails_that_window_only(busy, gate):
    engine = FakeEngine(batch_limit=8)
    batcher = busy(engine)

    def fault(asks: Sequence[Ask]) -> None:
        gate(asks)
        if any(number(one) == 3 for one in asks):
            raise OutOfMemory("no room even for window 3")

    engine.fault = fault
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in range(1, 9)}
    gate.open()
    assert isinstance(error(futures.pop(3)), OutOfMemory)
    assert {one: result(f) for one, f in futures.items()} == {one: alone(one) for one in futures}
    assert batcher.healthy


def test_a_lone_window_without_memory_says_nothing_about_how_many_fit(start):
    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) == 1:
            raise OutOfMemory("no room")

    batcher = start(FakeEngine(fault=fault, batch_limit=8))
    assert isinstance(error(batcher.submit("job", ask(1))), OutOfMemory)
    assert batcher.limit == 8


class Forgetful(FakeEngine):
    """Loses the last result of every call."""

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        return super().decode(asks)[:-1]


def test_a_wrong_number_of_results_is_an_error_and_nobody_gets_anothers_words(start):
    batcher = start(Forgetful())
    futures = [batcher.submit(f"job {one}", ask(one)) for one in range(4)]
    assert all(isinstance(error(future), EngineError) for future in futures)


def test_an_idle_engine_holds_no_window_and_no_error(start):
    def fault(asks: Sequence[Ask]) -> None:
        raise EngineError("broken")

    batcher, one = start(FakeEngine(fault=fault)), ask(1)
    assert isinstance(error(batcher.submit("job", one)), EngineError)
    gone = weakref.ref(one.features)
    del one
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt, GeneratorExit, DeviceLost])
def test_when_an_engine_thread_dies_every_window_fails_at_once(busy, gate, death):
    engine = FakeEngine(batch_limit=2)
    batcher = busy(engine)

    def fault(asks: Sequence[Ask]) -> None:
        raise death

    engine.fault = fault
    futures = [batcher.submit(f"job {one}", ask(one)) for one in range(6)]
    assert batcher.healthy
    gate.open()
    for future in futures:
        failure = error(future)
        assert isinstance(failure, EngineError)
        assert death.__name__ in str(failure)
    assert not batcher.healthy
    with pytest.raises(EngineError, match="stopped"):
        batcher.submit("late", ask(9))


def test_when_one_of_two_engine_threads_dies_the_windows_of_the_other_fail_too(start, gate):
    died = threading.Event()

    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) == 1:
            died.set()
            raise SystemExit
        gate(asks)

    batcher = start(FakeEngine(threads=2, fault=fault))
    slow = batcher.submit("slow", ask(2))
    gate.await_call()
    fatal = batcher.submit("fatal", ask(1))
    assert died.wait(HANG_S)
    assert isinstance(error(fatal), EngineError)
    assert isinstance(error(slow), EngineError)
    assert not batcher.healthy


def test_a_window_that_is_tried_again_fails_too_when_the_thread_that_took_it_dies(start, gate):
    taken, die = threading.Event(), threading.Event()

    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) in {8, 9}:
            gate(asks)
        if asks[0].temperature:
            taken.set()
            assert die.wait(HANG_S)
            raise SystemExit

    engine = FakeEngine(threads=2, fault=fault, distrust=lambda one: number(one) == 1)
    batcher = start(engine)
    for one in (8, 9):
        batcher.submit(f"job {one}", ask(one))
        gate.await_call()
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in (1, 2, 3, 4)}
    # The thread that has put window 1 back stays busy with its call's other window meanwhile.
    futures[2].add_done_callback(lambda _: taken.wait(HANG_S))
    gate.open()
    assert taken.wait(HANG_S)
    assert result(batcher.submit("job 5", ask(5))) == alone(5)
    die.set()
    assert isinstance(error(futures[1]), EngineError)


# Memory of the device.


def test_a_lone_window_without_memory_is_tried_once_more_without_other_calls(start, gate):
    running: set[int] = set()
    beside: list[set[int]] = []
    refused = threading.Event()

    def fault(asks: Sequence[Ask]) -> None:
        mine = {number(one) for one in asks}
        running.update(mine)
        beside.append(running - mine)
        try:
            if 1 in mine and running > mine:
                refused.set()
                raise OutOfMemory("another call holds it")
            gate(asks)
        finally:
            running.difference_update(mine)

    batcher = start(FakeEngine(threads=2, fault=fault))
    slow = batcher.submit("slow", ask(2))
    gate.await_call()
    wanted = batcher.submit("wanted", ask(1))
    assert refused.wait(HANG_S)
    late = batcher.submit("late", ask(3))
    gate.open()
    assert [result(one) for one in (slow, wanted, late)] == [alone(2), alone(1), alone(3)]
    assert sorted(map(sorted, beside)) == [[], [], [], [2]]
    assert batcher.limit == 8


def test_a_call_without_memory_beside_another_halves_the_limit_once_and_goes_on_alone(start, gate):
    """What does not fit beside another call is not too large by itself."""
    running: list[int] = []
    refused = threading.Event()
    calls: list[tuple[int, bool]] = []

    def fault(asks: Sequence[Ask]) -> None:
        running.append(len(asks))
        calls.append((len(asks), len(running) > 1))
        try:
            if len(running) > 1:
                refused.set()
                raise OutOfMemory("another call holds it")
            gate(asks)
        finally:
            running.remove(len(asks))

    batcher = start(FakeEngine(threads=2, batch_limit=16, fault=fault))
    slow = batcher.submit("slow", ask(0))
    gate.await_call()
    with batcher._changed:
        many = [batcher.submit("many", ask(one)) for one in range(1, 9)]
    assert refused.wait(HANG_S)
    gate.open()
    assert [result(one) for one in (slow, *many)] == [alone(one) for one in range(9)]
    assert batcher.limit == 8
    beside = [size for size, is_beside in calls if is_beside]
    assert len(beside) == 1
    assert max(size for size, is_beside in calls if not is_beside) == beside[0] // 2


def test_two_calls_that_run_out_of_memory_together_halve_the_limit_once(start):
    both = threading.Barrier(2)
    failed: list[int] = []

    def fault(asks: Sequence[Ask]) -> None:
        if len(failed) < 2 and len(asks) > 1:
            failed.append(len(asks))
            both.wait(HANG_S)
            raise OutOfMemory("not for both")

    batcher = start(FakeEngine(threads=2, batch_limit=8, fault=fault))
    with batcher._changed:
        futures = [batcher.submit("job", ask(one)) for one in range(16)]
    assert [result(one) for one in futures] == [alone(one) for one in range(16)]
    assert len(failed) == 2
    assert batcher.limit == 4


def test_two_lone_windows_without_memory_take_turns_and_fail_each_by_itself(start):
    both = threading.Barrier(2)
    calls: list[int] = []

    def fault(asks: Sequence[Ask]) -> None:
        calls.append(number(asks[0]))
        if number(asks[0]) in {1, 2}:
            if len(calls) <= 2:
                both.wait(HANG_S)
            raise OutOfMemory("never enough")

    batcher = start(FakeEngine(threads=2, fault=fault))
    futures = [batcher.submit(f"job {one}", ask(one)) for one in (1, 2)]
    assert all(isinstance(error(future), OutOfMemory) for future in futures)
    assert sorted(calls) == [1, 1, 2, 2]
    assert result(batcher.submit("next", ask(3))) == alone(3)


class Holding(FakeEngine):
    """Fails with out of memory for more than one window, and knows what failed calls still hold."""

    held: ClassVar[list[weakref.ref[Ask]]] = []
    alive: ClassVar[list[int]] = []

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        self.alive.append(sum(ref() is not None for ref in self.held))
        encoded = np.zeros(4)
        self.held.append(weakref.ref(encoded))
        if len(asks) > 1:
            raise OutOfMemory("no room")
        return super().decode(asks)


def test_a_call_that_failed_holds_no_memory_while_its_windows_are_tried_again(busy, gate):
    engine = Holding()
    batcher = busy(engine)
    futures = [batcher.submit(f"job {one}", ask(one)) for one in range(1, 5)]
    gate.open()
    assert [result(future) for future in futures] == [alone(one) for one in range(1, 5)]
    assert set(engine.alive) == {0}


# Taking windows back.


def test_windows_cancelled_while_their_call_fails_are_not_tried_again(busy, gate):
    batcher = busy()
    engine = batcher.engine

    def fault(asks: Sequence[Ask]) -> None:
        gate(asks)
        if len(asks) > 2:
            raise EngineError("too many")

    engine.fault = fault
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in (1, 2, 3, 4)}
    gate.let(1)
    gate.await_call()
    assert futures[1].cancel()
    assert futures[2].cancel()
    assert futures[4].cancel()
    gate.open()
    assert result(futures[3]) == alone(3)
    assert gate.rows == [[0], [1, 2, 3, 4], [3]]


def test_a_cancelled_window_is_never_decoded(busy, gate):
    batcher = busy()
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in (1, 2, 3)}
    assert futures[2].cancel()
    gate.open()
    assert result(futures[1]) == alone(1)
    assert result(futures[3]) == alone(3)
    assert gate.rows == [[0], [1, 3]]


def test_cancelling_a_window_that_runs_does_not_disturb_the_others(busy, gate):
    batcher = busy()
    futures = {one: batcher.submit(f"job {one}", ask(one)) for one in (1, 2, 3)}
    gate.let(1)
    gate.await_call()
    assert futures[2].cancel()
    gate.open()
    assert result(futures[1]) == alone(1)
    assert result(futures[3]) == alone(3)
    with pytest.raises(CancelledError):
        result(futures[2])
    assert result(batcher.submit("next", ask(4))) == alone(4)


def test_a_window_cancelled_while_it_runs_is_not_tried_at_the_next_temperature(busy, gate):
    batcher = busy(FakeEngine(distrust=lambda one: number(one) == 1))
    future = batcher.submit("job", ask(1))
    gate.let(1)
    gate.await_call()
    future.cancel()
    after = batcher.submit("next", ask(2))
    gate.open()
    assert result(after) == alone(2)
    assert gate.rows == [[0], [1], [2]]


# How much may wait.


def test_too_many_waiting_windows_are_refused_until_there_is_room(busy, gate):
    batcher = busy(max_waiting=3)
    futures = [batcher.submit(f"job {one}", ask(one)) for one in (1, 2, 3)]
    with pytest.raises(Overloaded, match="3 windows wait"):
        batcher.submit("one too many", ask(4))
    gate.open()
    assert [result(future) for future in futures] == [alone(one) for one in (1, 2, 3)]
    assert result(batcher.submit("again", ask(5))) == alone(5)


def test_a_cancelled_window_makes_room_at_once(busy):
    batcher = busy(max_waiting=2)
    first, _ = [batcher.submit("job", ask(one)) for one in (1, 2)]
    first.cancel()
    batcher.submit("job", ask(3))
    with pytest.raises(Overloaded):
        batcher.submit("job", ask(4))


# Another try.


def test_a_distrusted_window_is_tried_again_at_the_next_temperatures(start):
    seen: list[float] = []
    batcher = start(
        FakeEngine(
            fault=lambda asks: seen.extend(one.temperature for one in asks),
            distrust=lambda one: one.temperature < 0.4,
        )
    )
    assert result(batcher.submit("job", ask(1))).draft.temperature == 0.4
    assert seen == [0.0, 0.2, 0.4]


def test_others_do_not_wait_for_the_next_try_of_a_distrusted_window(busy, gate):
    batcher = busy(FakeEngine(distrust=lambda one: number(one) == 1))
    distrusted = batcher.submit("bad", ask(1))
    trusted = batcher.submit("good", ask(2))
    gate.let(2)
    assert result(trusted) == alone(2)
    gate.await_call()
    assert not distrusted.done()
    gate.open()
    assert result(distrusted).draft.temperature == 0.4


def test_the_next_try_comes_before_the_rest_of_its_job(busy, gate):
    batcher = busy(FakeEngine(batch_limit=1, distrust=lambda one: number(one) == 1))
    futures = [batcher.submit("job", ask(one)) for one in (1, 2, 3)]
    gate.open()
    wait(futures, HANG_S)
    assert gate.rows == [[0], [1], [1], [1], [2], [3]]


# The end.


def test_close_lets_the_running_window_finish_and_fails_those_that_wait(busy, gate):
    engine = FakeEngine()
    batcher = busy(engine)
    gate.let(1)
    running = batcher.submit("running", ask(1))
    gate.await_call()
    waiting = batcher.submit("waiting", ask(2))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while True:
        try:
            batcher.submit("late", ask(3))
        except EngineError:
            break
    gate.open()
    closing.join(HANG_S)
    assert not closing.is_alive()
    assert result(running) == alone(1)
    assert isinstance(error(waiting), EngineError)
    assert engine.closed.is_set()
    assert [2] not in gate.rows


def test_close_of_an_idle_batcher_returns_and_nothing_is_taken_afterwards():
    engine = FakeEngine(threads=3)
    batcher = Batcher(engine)
    batcher.close()
    assert engine.closed.is_set()
    with pytest.raises(EngineError):
        batcher.submit("late", ask(1))


# All of it at once.


def is_bad(number: int) -> bool:
    return number % 17 == 3


def needs_another_try(number: int) -> bool:
    return number % 5 == 1


def is_taken_back(number: int) -> bool:
    return number % 11 == 4


def check_outcome(one: int, future: Future[Decoded]) -> None:
    if future.cancelled():
        assert is_taken_back(one)
    elif is_bad(one):
        assert isinstance(error(future), EngineError)
    else:
        assert result(future).draft.text == alone(one).draft.text
        assert result(future).draft.temperature == (0.2 if needs_another_try(one) else 0.0)


@pytest.mark.parametrize("threads", [1, 3])
def test_under_random_load_every_window_gets_its_own_result_or_its_own_failure(start, threads):
    def fault(asks: Sequence[Ask]) -> None:
        if any(is_bad(number(one)) for one in asks):
            raise EngineError("bad window")
        if len(asks) > 6:
            raise OutOfMemory("too many")

    def distrust(one: Ask) -> bool:
        return needs_another_try(number(one)) and not one.drafts

    batcher = start(FakeEngine(threads=threads, batch_limit=16, fault=fault, distrust=distrust))
    futures: dict[int, Future[Decoded]] = {}

    def work(job: int) -> None:
        for one in range(job, 300, 6):
            future = batcher.submit(job, ask(one, prompt=(0,) * (one % 3)))
            if is_taken_back(one):
                future.cancel()
            futures[one] = future

    with ThreadPoolExecutor(6) as jobs:
        list(jobs.map(work, range(6)))
    assert sorted(futures) == list(range(300))
    for one, future in futures.items():
        check_outcome(one, future)
