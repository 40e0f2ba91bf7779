"""One job's windows: several in flight, in file order, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
from tests.gate import HANG_S, Gate, ask, number
from tests.one_job import collected, finish, numbers, ordered, request, until, windows

from sotto.asking import Asker
from sotto.engine.base import Ask
from sotto.engine.fake import FakeEngine
from sotto.errors import AudioUndecodable, EngineError, Overloaded
from sotto.meter import Meter
from sotto.ordering import Featured, in_order
from sotto.transcript.parts import Part


def test_no_windows_give_no_results_and_no_call(decode):
    engine = FakeEngine()
    assert decode([], engine) == ([], None)
    assert engine.calls == []


def test_results_are_those_of_the_windows_alone(decode):
    results, _ = decode(windows(20), FakeEngine())
    assert numbers(results) == list(range(20))
    for index, result in results:
        assert result == FakeEngine().decode([ask(index, language="en")])[0]


def test_a_job_in_which_nobody_speaks_leaves_the_thread_to_others(threads, start):
    """One thread for both: the silent job ends only once the other one has its words."""
    spoken = threading.Event()

    def silence() -> Iterator[Featured | None]:
        while not spoken.is_set():
            yield None

    async def both() -> list[list[Part]]:
        batcher = start(FakeEngine())
        silent = asyncio.create_task(collected(ordered(silence(), batcher, threads)))
        await asyncio.sleep(0)
        heard = await collected(ordered(windows(3), batcher, threads))
        spoken.set()
        assert await silent == []
        return heard

    assert [part.window.index for (part,) in finish(both())] == [0, 1, 2]


def test_a_job_that_waits_for_a_thread_is_cancelled_at_once(threads, start):
    held = threading.Event()
    pulled = []

    def counted() -> Iterator[Featured]:
        for one in windows(3):
            pulled.append(one)
            yield one

    async def cancelled() -> None:
        job = asyncio.create_task(collected(ordered(counted(), start(FakeEngine()), threads)))
        await asyncio.sleep(0.05)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    threads.submit(held.wait, HANG_S)
    try:
        finish(cancelled())
        assert not held.is_set()
    finally:
        held.set()
    threads.submit(int).result(HANG_S)
    assert pulled == []


def test_file_order_is_kept_though_windows_finish_out_of_order(decode):
    last_is_done = threading.Event()

    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) == 0:
            assert last_is_done.wait(HANG_S)
        if number(asks[0]) == 3:
            last_is_done.set()

    results, _ = decode(windows(4), FakeEngine(threads=2, batch_limit=1, fault=fault))
    assert numbers(results) == [0, 1, 2, 3]


def test_windows_of_a_job_meet_in_a_call(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate, cost_s=lambda _: 0.02)
    decode(windows(30), engine, ahead=16)
    assert max(engine.calls) == 8


# Errors.


def test_an_error_in_a_window_is_raised_when_its_turn_comes(decode):
    def fault(asks: Sequence[Ask]) -> None:
        if any(number(one) == 3 for one in asks):
            raise EngineError("window 3 is bad")

    results, error = decode(windows(8), FakeEngine(fault=fault))
    assert numbers(results) == [0, 1, 2]
    assert isinstance(error, EngineError)


def test_an_error_in_the_first_window_is_the_jobs_error(decode):
    def fault(asks: Sequence[Ask]) -> None:
        raise EngineError(f"bad window {number(asks[0])}")

    results, error = decode(windows(8), FakeEngine(fault=fault), language=None)
    assert results == []
    assert str(error) == "bad window 0"


def test_an_error_in_the_front_end_is_raised_behind_the_windows_before_it(decode):
    def broken() -> Iterator[Featured]:
        yield from windows(3)
        raise AudioUndecodable("the file breaks off")

    results, error = decode(broken(), FakeEngine())
    assert numbers(results) == [0, 1, 2]
    assert isinstance(error, AudioUndecodable)


def test_an_engine_that_has_died_is_the_jobs_error(decode):
    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) >= 2:
            raise SystemExit

    results, error = decode(windows(8), FakeEngine(fault=fault, batch_limit=1))
    assert numbers(results) == [0, 1]
    assert isinstance(error, EngineError)


def test_an_overloaded_engine_is_the_jobs_error(threads, start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate), max_waiting=2)
    results: list[int] = []

    async def job() -> None:
        batcher.submit("busy", ask(99))
        await asyncio.to_thread(gate.await_call)
        asyncio.get_running_loop().call_later(0.2, gate.open)
        async with aclosing(ordered(windows(8), batcher, threads)) as decoded:
            async for (part,) in decoded:
                results.append(part.window.index)

    with pytest.raises(Overloaded):
        finish(job())
    assert results == [0, 1]


# Bounds, and how it ends.


@pytest.mark.parametrize("ahead", [3, 4, 16])
@pytest.mark.parametrize("engine_s", [0.0, 0.005], ids=["slow consumer", "slow engine"])
def test_never_more_windows_are_held_than_allowed(threads, start, ahead: int, engine_s: float):
    engine = FakeEngine(batch_limit=1, cost_s=lambda _: engine_s)
    pulled = given = most = 0

    def counted() -> Iterator[Featured]:
        nonlocal pulled, most
        for item in windows(60):
            pulled += 1
            most = max(most, pulled - given)
            yield item

    async def job() -> None:
        nonlocal given
        results = ordered(counted(), start(engine), threads, ahead=ahead)
        async with aclosing(results):
            async for _ in results:
                given += 1
                await asyncio.sleep(0.002)

    finish(job())
    assert given == 60
    assert 1 < most <= ahead


def test_a_bound_that_changes_acts_from_the_next_window_on(threads, start):
    pulled = given = 0
    held = []

    def counted() -> Iterator[Featured]:
        nonlocal pulled
        for item in windows(60):
            pulled += 1
            held.append(pulled - given)
            yield item

    async def job() -> None:
        nonlocal given
        asker = Asker(request(), start(FakeEngine(batch_limit=1)), threads, "job")
        results = in_order(counted(), asker, threads, lambda: 4 if given < 20 else 12, Meter().stop)
        async with aclosing(results):
            async for _ in results:
                given += 1
                await asyncio.sleep(0.002)

    finish(job())
    assert 1 < max(held[:20]) <= 4 < max(held) <= 12


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_smallest_bounds_still_work(decode, ahead: int):
    results, error = decode(windows(12), FakeEngine(), ahead=ahead)
    assert (numbers(results), error) == (list(range(12)), None)


class Slow:
    """An endless front end that takes its time over each window, and says where it stands."""

    def __init__(self, meter: Meter) -> None:
        self.count = 0
        self.windows = meter.watch("features", self._endless())

    def _endless(self) -> Iterator[Featured]:
        for index in itertools.count():
            self.count += 1
            time.sleep(0.01)
            yield from itertools.islice(windows(index + 1), index, index + 1)


async def consume(results: AsyncGenerator[list[Part], None], most: int) -> None:
    async with aclosing(results):
        async for parts in results:
            if parts[0].window.index + 1 == most:
                return


def assert_let_go(slow: Slow, threads: ThreadPoolExecutor) -> None:
    """The thread is free again, and the front end where it was."""
    stood = slow.count
    threads.submit(lambda: None).result(HANG_S)
    assert slow.count == stood


@pytest.mark.parametrize("options", [{}, {"language": None}, {"condition_on_previous_text": True}])
def test_cancelling_takes_back_queued_windows_and_frees_the_thread(threads, start, options):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate))
    meter = Meter()
    slow = Slow(meter)

    async def scenario() -> None:
        results = ordered(slow.windows, batcher, threads, stop=meter.stop, ahead=1000, **options)
        job = asyncio.create_task(consume(results, most=1000))
        await asyncio.to_thread(gate.await_call)
        await until(lambda: slow.count >= 10)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(scenario())
    assert_let_go(slow, threads)
    gate.open()
    batcher.submit("probe", ask(999)).result(HANG_S)
    assert gate.rows == [[0], [999]]


def test_a_consumer_that_leaves_early_leaves_nothing_behind(threads, start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate, batch_limit=2))
    meter = Meter()
    slow = Slow(meter)

    async def scenario() -> None:
        gate.let(1)
        await consume(ordered(slow.windows, batcher, threads, stop=meter.stop, ahead=1000), most=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(scenario())
    assert_let_go(slow, threads)
    gate.open()
    batcher.submit("probe", ask(999)).result(HANG_S)
    assert gate.rows[-1] == [999]
    assert len(gate.rows) <= 3


def test_cancelling_one_job_does_not_disturb_another(start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate))
    meter = Meter()

    async def scenario(pool: ThreadPoolExecutor) -> list[int]:
        doomed = ordered(Slow(meter).windows, batcher, pool, stop=meter.stop)
        job = asyncio.create_task(consume(doomed, most=1000))
        await asyncio.to_thread(gate.await_call)
        results: list[int] = []

        async def other() -> None:
            async with aclosing(ordered(windows(10), batcher, pool, language="es")) as decoded:
                async for (part,) in decoded:
                    results.append(part.window.index)

        beside = asyncio.create_task(other())
        await asyncio.sleep(0.05)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        gate.open()
        await beside
        return results

    with ThreadPoolExecutor(2) as pool:
        assert finish(scenario(pool)) == list(range(10))
