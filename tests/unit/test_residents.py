"""Who stays in memory, who goes, and who waits: by order, by use and by room."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

import pytest
from tests.gate import HANG_S, ask

from sotto.engine.batcher import Batcher
from sotto.engine.failures import DeviceLost
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, OutOfMemory
from sotto.residents import Resident, Residents, Wanted, make_room

BUDGET = 100
STILL_S = 0.05
"""Seconds in which something is seen not to happen."""


@dataclass
class Loads:
    """Makes models to ask for, and keeps what was loaded, in order."""

    begun: list[str] = field(default_factory=list)
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    fails: dict[str, Exception] = field(default_factory=dict)
    may_end: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    def model(self, name: str, size: int = 60) -> Wanted:
        def load() -> Batcher:
            self.begun.append(name)
            assert self.may_end.wait(HANG_S)
            if name in self.fails:
                raise self.fails.pop(name)
            self.engines[name] = FakeEngine(model=name)
            return Batcher(self.engines[name])

        return Wanted(name, name, size, load)


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def residents() -> Iterator[Residents]:
    made = Residents(ThreadPoolExecutor(8))
    made.budget_bytes = BUDGET
    yield made
    made.close()


def begun(residents: Residents, wanted: Wanted) -> Resident:
    """A job that has its model, loaded."""
    resident = residents.ask(wanted).result(HANG_S)
    resident.loading.result(HANG_S)
    return resident


def used(residents: Residents, wanted: Wanted) -> Resident:
    """A job that came and went."""
    resident = begun(residents, wanted)
    residents.give_back(resident)
    return resident


def waits(granted: Future[Resident]) -> bool:
    try:
        granted.result(STILL_S)
    except FutureTimeout:
        return True
    return False


def names(residents: Residents) -> list[str]:
    return [batcher.engine.model for batcher in residents._loaded()]


# The policy


def resident(size: int, turn: int, *, jobs: int = 0, loaded: bool = True) -> Resident:
    one = Resident(Wanted(str(turn), str(turn), size, object()), size, turn, jobs=jobs)
    one.batcher = object() if loaded else None
    return one


def test_without_a_bound_nothing_goes() -> None:
    assert make_room([resident(10**15, 0)], 10**15, None) == []


def test_nothing_goes_while_there_is_room() -> None:
    assert make_room([resident(40, 0), resident(30, 1)], 30, 100) == []
    assert make_room([], 100, 100) == []


def test_no_more_go_than_must_and_the_longest_unused_first() -> None:
    old, older, young = resident(30, 1), resident(30, 0), resident(30, 2)
    assert make_room([old, older, young], 40, 100) == [older]
    assert make_room([old, older, young], 41, 100) == [older, old]
    assert make_room([old, older, young], 100, 100) == [older, old, young]


def test_what_is_in_use_or_on_its_way_never_goes() -> None:
    busy, loading = resident(50, 0, jobs=1), resident(30, 1, loaded=False)
    idle = resident(10, 2)
    assert make_room([busy, loading, idle], 20, 100) == [idle]
    assert make_room([busy, loading, idle], 21, 100) is None
    assert make_room([busy], 60, 100) is None


# Loads that fail


def test_a_load_that_fails_gives_its_room_to_the_next(residents: Residents, loads: Loads) -> None:
    loads.fails["a"] = OutOfMemory("no memory left")
    failed = residents.ask(loads.model("a")).result(HANG_S)
    waiting = residents.ask(loads.model("b"))
    with pytest.raises(OutOfMemory, match="no memory left"):
        failed.loading.result(HANG_S)
    residents.give_back(failed)
    assert waiting.result(HANG_S).loading.result(HANG_S).engine.model == "b"
    assert names(residents) == ["b"]


def test_a_load_that_fails_is_begun_anew_by_the_next_who_asks(
    residents: Residents, loads: Loads
) -> None:
    loads.fails["a"] = EngineError("the disk is broken")
    with pytest.raises(EngineError, match="the disk is broken"):
        begun(residents, loads.model("a"))
    assert begun(residents, loads.model("a")).batcher is not None
    assert loads.begun == ["a", "a"]


# Room


def test_models_that_fit_stay(residents: Residents, loads: Loads) -> None:
    for _ in range(3):
        used(residents, loads.model("a", 40))
        used(residents, loads.model("b", 60))
    assert loads.begun == ["a", "b"]
    assert names(residents) == ["a", "b"]


def test_the_least_recently_used_goes_for_one_that_needs_its_room(
    residents: Residents, loads: Loads
) -> None:
    for name in ("a", "b", "a", "c"):
        used(residents, loads.model(name, 40))
    assert loads.engines["b"].closed.is_set()
    assert not loads.engines["a"].closed.is_set()
    assert names(residents) == ["a", "c"]


def test_a_model_is_unloaded_before_the_next_is_loaded(residents: Residents, loads: Loads) -> None:
    used(residents, loads.model("a"))
    closed_before = []

    def load() -> Batcher:
        closed_before.append(loads.engines["a"].closed.is_set())
        return Batcher(FakeEngine())

    used(residents, Wanted("b", "b", 60, load))
    assert closed_before == [True]


def test_room_is_given_to_others_only_when_it_is_free(residents: Residents, loads: Loads) -> None:
    may_close = threading.Event()

    class Slow(FakeEngine):
        def close(self) -> None:
            assert may_close.wait(HANG_S)
            super().close()

    used(residents, Wanted("a", "a", 90, lambda: Batcher(Slow())))
    second = residents.ask(loads.model("b", 50)).result(HANG_S)
    third = residents.ask(loads.model("c", 50))
    assert waits(third)
    assert loads.begun == []
    may_close.set()
    assert second.loading.result(HANG_S).engine.model == "b"
    assert third.result(HANG_S).loading.result(HANG_S).engine.model == "c"


def test_a_model_that_a_job_works_with_stays_and_the_next_waits(
    residents: Residents, loads: Loads
) -> None:
    first, second = (begun(residents, loads.model("a")) for _ in range(2))
    waiting = residents.ask(loads.model("b"))
    assert waits(waiting)
    residents.give_back(first)
    assert waits(waiting)
    assert not loads.engines["a"].closed.is_set()
    residents.give_back(second)
    waiting.result(HANG_S).loading.result(HANG_S)
    assert loads.engines["a"].closed.is_set()


def test_a_model_that_is_on_its_way_for_nobody_goes_when_it_is_there(
    residents: Residents, loads: Loads
) -> None:
    loads.may_end.clear()
    residents.give_back(residents.ask(loads.model("a")).result(HANG_S))
    waiting = residents.ask(loads.model("b"))
    assert waits(waiting)
    loads.may_end.set()
    waiting.result(HANG_S).loading.result(HANG_S)
    assert loads.engines["a"].closed.is_set()


# Turns


def test_nobody_overtakes_one_who_waits_for_room(residents: Residents, loads: Loads) -> None:
    first = begun(residents, loads.model("a"))
    waiting = residents.ask(loads.model("b"))
    later = residents.ask(loads.model("a"))
    assert waits(later)
    residents.give_back(first)
    second = waiting.result(HANG_S)
    second.loading.result(HANG_S)
    assert waits(later)
    residents.give_back(second)
    assert later.result(HANG_S).loading.result(HANG_S).engine.model == "a"
    assert loads.begun == ["a", "b", "a"]


def test_all_who_wait_for_one_model_are_served_by_one_load(
    residents: Residents, loads: Loads
) -> None:
    first = begun(residents, loads.model("a"))
    asked = [residents.ask(loads.model(name)) for name in ("b", "a", "b", "a", "b")]
    residents.give_back(first)
    served = [asked[i].result(HANG_S) for i in (0, 2, 4)]
    assert served == [served[0]] * 3
    served[0].loading.result(HANG_S)
    assert waits(asked[1])
    for one in served:
        residents.give_back(one)
    assert asked[1].result(HANG_S) is asked[3].result(HANG_S)
    asked[1].result().loading.result(HANG_S)
    assert loads.begun == ["a", "b", "a"]


def test_an_engine_that_died_is_not_forgotten_when_it_makes_room(
    residents: Residents, loads: Loads
) -> None:
    dead = begun(residents, loads.model("a"))
    waiting = residents.ask(loads.model("b"))
    assert residents.healthy
    loads.engines["a"].fault = dies
    assert dead.batcher is not None
    with pytest.raises(EngineError):
        dead.batcher.submit("job", ask(1)).result(HANG_S)
    residents.give_back(dead)
    waiting.result(HANG_S).loading.result(HANG_S)
    assert names(residents) == ["b"]
    assert not residents.healthy


def dies(_: object) -> None:
    raise SystemExit


def test_an_engine_that_dies_in_a_call_that_nobody_waits_for_is_not_forgotten(
    residents: Residents, loads: Loads
) -> None:
    begun_call, may_die = threading.Event(), threading.Event()

    def dies_late(_: object) -> None:
        begun_call.set()
        assert may_die.wait(HANG_S)
        raise SystemExit

    doomed = begun(residents, loads.model("a"))
    loads.engines["a"].fault = dies_late
    assert doomed.batcher is not None
    call = doomed.batcher.submit("job", ask(2))
    assert begun_call.wait(HANG_S)
    call.cancel()
    residents.give_back(doomed)
    waiting = residents.ask(loads.model("b"))
    assert waits(waiting.result(HANG_S).loading)
    may_die.set()
    waiting.result(HANG_S).loading.result(HANG_S)
    assert not residents.healthy


@pytest.mark.parametrize(
    ("error", "healthy"), [(DeviceLost("gone"), False), (EngineError("bad weights"), True)]
)
def test_a_device_that_is_lost_while_a_model_loads_is_lost_for_all(
    residents: Residents, loads: Loads, error: EngineError, healthy: bool
) -> None:
    used(residents, loads.model("a", 10))
    loads.fails["b"] = error
    failed = residents.ask(loads.model("b", 10)).result(HANG_S)
    with pytest.raises(type(error)):
        failed.loading.result(HANG_S)
    assert names(residents) == ["a"]
    assert residents.healthy is healthy


def test_a_model_that_cannot_be_unloaded_makes_the_process_unhealthy_and_keeps_no_other(
    residents: Residents, loads: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(FakeEngine):
        def close(self) -> None:
            raise RuntimeError("an illegal memory access")

    used(residents, Wanted("stuck", "stuck", 40, lambda: Batcher(Stuck())))
    used(residents, loads.model("a", 40))
    begun(residents, loads.model("b", 90))
    assert loads.engines["a"].closed.is_set()
    assert not residents.healthy
    assert "model stuck cannot be unloaded" in caplog.text


def test_an_engine_that_has_died_is_known_of_before_it_has_been_unloaded(
    residents: Residents, loads: Loads
) -> None:
    may_close = threading.Event()

    class Dies(FakeEngine):
        def close(self) -> None:
            assert may_close.wait(HANG_S)
            super().close()

    def lost(_: object) -> None:
        raise DeviceLost("gone")

    dead = begun(residents, Wanted("dead", "dead", 60, lambda: Batcher(Dies(fault=lost))))
    assert dead.batcher is not None
    with pytest.raises(EngineError):
        dead.batcher.submit("job", ask(2)).result(HANG_S)
    waiting = residents.ask(loads.model("b", 60))
    residents.give_back(dead)
    assert not residents.healthy
    may_close.set()
    waiting.result(HANG_S).loading.result(HANG_S)
    assert not residents.healthy


def test_who_gives_up_waiting_lets_the_next_go_on(residents: Residents, loads: Loads) -> None:
    begun(residents, loads.model("a"))
    impatient = residents.ask(loads.model("b"))
    behind = residents.ask(loads.model("a"))
    assert waits(behind)
    residents.withdraw(impatient)
    assert behind.result(HANG_S).batcher is not None
    assert loads.begun == ["a"]


def test_who_gives_up_when_it_has_been_served_gives_it_back(
    residents: Residents, loads: Loads
) -> None:
    granted = residents.ask(loads.model("a"))
    granted.result(HANG_S).loading.result(HANG_S)
    residents.withdraw(granted)
    begun(residents, loads.model("b"))
    assert loads.engines["a"].closed.is_set()


# The end


def test_who_waits_when_all_ends_is_told(residents: Residents, loads: Loads) -> None:
    begun(residents, loads.model("a"))
    waiting = residents.ask(loads.model("b"))
    residents.close()
    with pytest.raises(EngineError, match="the worker is stopping"):
        waiting.result(HANG_S)
    residents.withdraw(waiting)
    with pytest.raises(EngineError, match="the worker is stopping"):
        residents.ask(loads.model("a"))
    assert loads.engines["a"].closed.is_set()


# At random


@pytest.mark.parametrize("seed", range(5))
def test_jobs_at_random_are_all_served_and_never_lose_their_model(
    residents: Residents, seed: int
) -> None:
    sizes = {"a": 10, "b": 30, "c": 50, "d": 70, "e": 100}
    lock = threading.Lock()
    held: list[int] = []
    wrong: list[str] = []

    class Charged(FakeEngine):
        def close(self) -> None:
            super().close()
            with lock:
                held.remove(sizes[self.model])

    def model(name: str) -> Wanted:
        def load() -> Batcher:
            with lock:
                held.append(sizes[name])
                if sum(held) > BUDGET:
                    wrong.append(f"too much: {held}")
            return Batcher(Charged(model=name))

        return Wanted(name, name, sizes[name], load)

    def job(number: int) -> None:
        turns = random.Random(seed * 1000 + number)
        for _ in range(20):
            granted = residents.ask(model(turns.choice(list(sizes))))
            if turns.random() < 0.2:
                residents.withdraw(granted)
                continue
            resident = granted.result(HANG_S)
            engine = resident.loading.result(HANG_S).engine
            if engine.closed.wait(turns.random() * 0.002):
                wrong.append(f"{engine.model} was unloaded under a job")
            residents.give_back(resident)

    with ThreadPoolExecutor(8) as jobs:
        list(jobs.map(job, range(8)))
    assert wrong == []
