"""Several models on one device: leases, room for all, and jobs that wait for theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gate import HANG_S
from tests.model_files import put_model
from tests.unit.test_engines import OPTIONS, leased

from sotto.engine.devices import CPU
from sotto.engine.fake import FakeEngine
from sotto.engines import Engines
from sotto.errors import EngineError, OutOfMemory, UnknownModel
from sotto.models.fetch import Hub
from sotto.models.memory import need_bytes
from sotto.models.shapes import SHAPES
from sotto.models.store import Store

NAMES = ("tiny", "base", "small")
NEED = {
    name: need_bytes(SHAPES[name], "int8", encode=CPU.encode, decode=CPU.decode, sample=CPU.sample)
    for name in (*NAMES, "large-v3")
}

Open = Callable[..., Engines]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeEngine]:
    """The engines that were made last, by their model's name."""
    made: dict[str, FakeEngine] = {}

    def build(name: str, *_: object) -> FakeEngine:
        made[name] = FakeEngine(model=name)
        return made[name]

    monkeypatch.setattr("sotto.engines.build", build)
    return made


@pytest.fixture
def open_engines(tmp_path: Path, loaded: dict[str, FakeEngine]) -> Iterator[Open]:
    opened: list[Engines] = []
    for name in (*NAMES, "large-v3"):
        put_model(tmp_path / name, SHAPES[name])

    def make(budget: int = 0, **changes: object) -> Engines:
        options = replace(
            OPTIONS,
            engine="whisper",
            model_workers=1,
            model_memory_bytes=budget,
            model_fallback="none",
        )
        store = Store(tmp_path, (), download=False, hub=Hub("http://127.0.0.1:9"))
        opened.append(Engines(store, replace(options, **changes)))
        return opened[-1]

    yield make
    for engines in opened:
        engines.close()


def alive(loaded: dict[str, FakeEngine]) -> set[str]:
    return {name for name, engine in loaded.items() if not engine.closed.is_set()}


# What cannot be


def test_a_model_that_can_never_fit_is_told_and_takes_nothing_from_the_others(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["tiny"])
    asyncio.run(leased(engines, "tiny"))
    with pytest.raises(OutOfMemory, match=r"'large-v3' needs \d+\.\d+ GB on the cpu device"):
        asyncio.run(leased(engines, "large-v3"))
    assert alive(loaded) == {"tiny"}


def test_weights_that_are_no_weights_are_an_engine_error(
    open_engines: Open, tmp_path: Path
) -> None:
    (tmp_path / "base" / "model.bin").write_bytes(b"x")
    with pytest.raises(EngineError, match="model 'base' cannot be loaded"):
        asyncio.run(leased(open_engines(), "base"))


def test_a_model_that_is_not_here_is_told_with_those_that_are(open_engines: Open) -> None:
    with pytest.raises(UnknownModel, match="here are: base, large-v3, small, tiny"):
        asyncio.run(leased(open_engines(), "huge"))


def test_the_baked_model_may_stand_in_and_the_warning_says_so(open_engines: Open) -> None:
    engines = open_engines(model="tiny", model_fallback="baked")

    async def lease() -> tuple[str, tuple[str, ...]]:
        async with engines.lease("huge") as (batcher, warnings):
            return batcher.engine.model, warnings

    told = "model: 'huge' is not on this worker; 'tiny' was used"
    assert asyncio.run(lease()) == ("tiny", (told,))


# Room


def test_by_itself_a_machine_with_memory_keeps_what_it_has_loaded(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines()
    for name in ("tiny", "base", "tiny"):
        asyncio.run(leased(engines, name))
    assert alive(loaded) == {"tiny", "base"}


def test_the_least_recently_used_model_goes(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["tiny"] + NEED["base"] + NEED["small"] - 1)
    for name in ("tiny", "base", "tiny", "small"):
        asyncio.run(leased(engines, name))
    assert alive(loaded) == {"tiny", "small"}


def test_a_job_waits_until_another_gives_its_model_back(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["small"])

    async def jobs() -> None:
        async with engines.lease("small"):
            waiting = asyncio.create_task(leased(engines, "base"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert alive(loaded) == {"small"}
        await asyncio.wait_for(waiting, HANG_S)

    asyncio.run(jobs())
    assert alive(loaded) == {"base"}


def test_a_job_whose_time_is_over_while_it_waits_leaves_no_trace(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["small"])

    async def jobs() -> None:
        async with engines.lease("small"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), engines.lease("base"):
                    pytest.fail("there is no room")
            await asyncio.wait_for(leased(engines, "small"), HANG_S)

    asyncio.run(jobs())
    assert alive(loaded) == {"small"}


def test_a_job_that_fails_gives_its_model_back(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["small"])

    async def fails() -> None:
        async with engines.lease("small"):
            raise EngineError("the job failed")

    with pytest.raises(EngineError, match="the job failed"):
        asyncio.run(fails())
    asyncio.run(asyncio.wait_for(leased(engines, "base"), HANG_S))
    assert alive(loaded) == {"base"}


def test_jobs_for_one_model_that_is_not_there_share_its_load(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines(NEED["small"])

    async def jobs() -> list[object]:
        return await asyncio.gather(*(leased(engines, "small") for _ in range(10)))

    batchers = asyncio.run(jobs())
    assert batchers == [batchers[0]] * 10


def test_a_model_is_one_by_whatever_name_it_is_called(
    open_engines: Open, loaded: dict[str, FakeEngine]
) -> None:
    engines = open_engines()
    assert asyncio.run(leased(engines, "large")) is asyncio.run(leased(engines, "large-v3"))
    assert list(loaded) == ["large"]


def test_jobs_for_all_models_at_once_are_all_served_where_one_fits_at_a_time(
    open_engines: Open,
) -> None:
    engines = open_engines(NEED["small"])
    served: list[str] = []

    async def job(name: str) -> None:
        async with engines.lease(name) as (batcher, _):
            assert not batcher.engine.closed.is_set()  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
            assert not batcher.engine.closed.is_set()  # type: ignore[attr-defined]
            served.append(batcher.engine.model)

    async def jobs() -> None:
        async with asyncio.timeout(HANG_S):
            await asyncio.gather(*(job(name) for _ in range(10) for name in NAMES))

    asyncio.run(jobs())
    assert sorted(served) == sorted(NAMES * 10)
