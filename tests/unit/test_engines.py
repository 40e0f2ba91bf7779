"""Each model is loaded once, whoever asks for it, and serves when it is warm."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gate import HANG_S, ask
from tests.hub_server import Fault, HubServer

from sotto import engines as under_test
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.engines import Engines, device
from sotto.errors import EngineError, OutOfMemory, UnknownModel
from sotto.models import sources
from sotto.models.fetch import Hub
from sotto.models.store import Store
from sotto.plan import EngineOptions
from sotto.residents import Wanted

OPTIONS = EngineOptions(
    engine="fake",
    model="base",
    model_fallback="none",
    model_memory_bytes=0,
    device="cpu",
    compute_type="auto",
    model_workers=0,
    encode_batch=0,
    decode_batch=0,
    max_waiting=100,
)


class Recording(FakeEngine):
    """Notes what is done with it, and may fail to warm up."""

    def __init__(self, fails: Exception | None = None) -> None:
        super().__init__()
        self.notes: list[str] = []
        self._fails = fails

    def warm_up(self) -> None:
        self.notes.append("warm_up")
        if self._fails is not None:
            raise self._fails

    def close(self) -> None:
        self.notes.append("close")
        super().close()


class Builder:
    """Stands for `build`: gives the engines it has, in turn, when it may."""

    def __init__(self, *engines: FakeEngine | Exception) -> None:
        self._engines = list(engines)
        self.names: list[str] = []
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, name: str, *_: object) -> FakeEngine:
        self.names.append(name)
        self.begun.set()
        assert self.may_end.wait(HANG_S)
        engine = self._engines.pop(0)
        if isinstance(engine, Exception):
            raise engine
        return engine


@pytest.fixture
def build_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Builder]:
    def install(*engines: FakeEngine | Exception) -> Builder:
        builder = Builder(*engines)
        monkeypatch.setattr(under_test, "build", builder)
        return builder

    return install


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    made = Engines(Store(tmp_path, (), download=False, hub=Hub("http://127.0.0.1:9")), OPTIONS)
    yield made
    made.close()


def got(engines: Engines, name: str | None = None) -> Batcher:
    return asyncio.run(leased(engines, name))


async def leased(engines: Engines, name: str | None = None) -> Batcher:
    async with engines.lease(name) as (batcher, warnings):
        assert warnings == ()
        return batcher


# Loads that fail


def test_a_load_that_fails_is_told_and_the_next_who_asks_begins_another(
    engines: Engines, build_with
) -> None:
    engine = FakeEngine()
    builder = build_with(EngineError("the disk is broken"), engine)
    with pytest.raises(EngineError, match="the disk is broken"):
        engines.load().result(HANG_S)
    assert got(engines).engine is engine
    assert builder.names == ["base", "base"]


def test_an_engine_that_cannot_warm_up_is_closed_and_serves_nobody(
    engines: Engines, build_with
) -> None:
    engine = Recording(fails=OutOfMemory("no memory for one window"))
    build_with(engine)
    with pytest.raises(OutOfMemory, match="no memory for one window"):
        got(engines)
    assert engine.notes == ["warm_up", "close"]


def test_a_model_that_is_not_here_is_told_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path, (), download=False, hub=Hub("http://127.0.0.1:9"))
    engines = Engines(store, replace(OPTIONS, engine="whisper"))
    with pytest.raises(UnknownModel, match="base"):
        engines.load()
    engines.close()


def test_a_gpu_that_is_asked_for_and_not_there_is_told() -> None:
    from sotto.engine import whisper

    if whisper.cuda_devices():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match="SOTTO_DEVICE: 'cuda' has no GPU to run on"):
        device("cuda")


# One load for all


def test_a_load_begun_before_there_is_an_event_loop_is_the_one_that_jobs_wait_for(
    engines: Engines, build_with
) -> None:
    builder = build_with(FakeEngine())
    builder.may_end.clear()
    load = engines.load()

    async def jobs() -> list[Batcher]:
        waiting = [asyncio.create_task(leased(engines)) for _ in range(5)]
        await asyncio.sleep(0)
        builder.may_end.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(jobs()) == [load.result()] * 5
    assert builder.names == ["base"]


def test_one_loop_after_another_gets_the_same_model(engines: Engines, build_with) -> None:
    builder = build_with(FakeEngine())
    assert got(engines) is got(engines)
    assert builder.names == ["base"]


def test_loads_begun_in_many_threads_at_once_are_one(engines: Engines, build_with) -> None:
    builder = build_with(FakeEngine())
    builder.may_end.clear()
    loads: list[Future[Batcher]] = []
    threads = [threading.Thread(target=lambda: loads.append(engines.load())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    builder.may_end.set()
    assert loads == [loads[0]] * 8
    assert loads[0].result(HANG_S).healthy
    assert builder.names == ["base"]


def test_a_job_that_gives_up_waiting_leaves_the_load_to_the_others(
    engines: Engines, build_with
) -> None:
    builder = build_with(FakeEngine())
    builder.may_end.clear()

    async def jobs() -> Batcher:
        impatient = asyncio.create_task(leased(engines))
        patient = asyncio.create_task(leased(engines))
        assert await asyncio.to_thread(builder.begun.wait, HANG_S)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        builder.may_end.set()
        return await patient

    assert asyncio.run(jobs()).healthy
    assert builder.names == ["base"]


def test_who_waits_for_a_download_keeps_nobody_from_a_model_that_is_here(
    engines: Engines, build_with, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [f"model {number}" for number in range(10)]
    build_with(*(FakeEngine() for _ in range(11)))
    wanted, sought, arrived = engines._wanted, [], threading.Event()

    def seek(name: str) -> Wanted:
        sought.append(name)
        assert name == "base" or arrived.wait(HANG_S)
        return wanted(name)

    monkeypatch.setattr(engines, "_wanted", seek)

    async def jobs() -> None:
        waiting = [asyncio.create_task(leased(engines, name)) for name in absent * 5]
        await asyncio.sleep(0)
        async with asyncio.timeout(HANG_S):
            await leased(engines)
        waiting[0].cancel()
        arrived.set()
        got = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(got[0], asyncio.CancelledError)
        assert all(isinstance(one, Batcher) for one in got[1:])

    asyncio.run(jobs())
    assert sorted(sought) == sorted([*absent, "base"])


# Warm, healthy, closed


def test_an_engine_is_warm_before_it_decodes(engines: Engines, build_with) -> None:
    engine = Recording()
    engine.fault = lambda _: engine.notes.append("decode")
    build_with(engine)
    got(engines).submit("job", ask(1)).result(HANG_S)
    assert engine.notes == ["warm_up", "decode"]


def test_they_are_healthy_until_an_engine_dies(engines: Engines, build_with) -> None:
    def dies(_: object) -> None:
        raise SystemExit

    build_with(FakeEngine(fault=dies))
    assert engines.healthy
    batcher = got(engines)
    assert engines.healthy
    with pytest.raises(EngineError):
        batcher.submit("job", ask(1)).result(HANG_S)
    assert not engines.healthy


def test_close_waits_for_a_load_and_closes_what_came_of_it(engines: Engines, build_with) -> None:
    engine = FakeEngine()
    builder = build_with(engine)
    builder.may_end.clear()
    engines.load()
    assert builder.begun.wait(HANG_S)
    closing = threading.Thread(target=engines.close)
    closing.start()
    assert not engine.closed.is_set()
    builder.may_end.set()
    closing.join(HANG_S)
    assert engine.closed.is_set()


def test_close_ends_a_download_that_a_job_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RETRY_WAIT_S", HANG_S)
    with HubServer(faults={"model.bin": [Fault(status=503)]}) as hub:
        store = Store(tmp_path, (), download=True, hub=Hub(hub.endpoint))
        engines = Engines(store, replace(OPTIONS, engine="whisper", model="base.en"))
        with ThreadPoolExecutor(1) as jobs:
            waiting = jobs.submit(got, engines)
            while not hub.seen:
                threading.Event().wait(0.01)
            engines.close()
            with pytest.raises(EngineError, match="the download was stopped"):
                waiting.result()
    assert len(hub.seen) == 1


def test_a_load_that_fails_when_nobody_waits_for_it_any_more_is_no_oversight(
    engines: Engines, build_with, caplog: pytest.LogCaptureFixture
) -> None:
    builder = build_with(EngineError("the disk is broken"))
    builder.may_end.clear()

    async def job() -> None:
        waiting = asyncio.create_task(leased(engines))
        assert await asyncio.to_thread(builder.begun.wait, HANG_S)
        waiting.cancel()
        await asyncio.wait([waiting])
        builder.may_end.set()
        engines.close()

    asyncio.run(job())
    gc.collect()
    assert caplog.records == []


def test_the_fake_engine_is_the_default_model_by_name(engines: Engines) -> None:
    assert engines.available() == ("base",)
    assert got(engines).engine.model == "base"


def test_the_models_that_are_here_are_those_of_the_store(tmp_path: Path) -> None:
    for name in ("small", "base"):
        (tmp_path / name).mkdir()
        for part in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
            (tmp_path / name / part).touch()
    store = Store(tmp_path, (), download=False, hub=Hub("http://127.0.0.1:9"))
    engines = Engines(store, replace(OPTIONS, engine="whisper"))
    assert engines.available() == ("base", "small")
    engines.close()
