"""What jobs share, and how it is made ready before there is one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.speech_data import clip

from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, InternalError, UnknownModel
from sotto.request import parse
from sotto.settings import Settings
from sotto.workshop import Workshop, windows_ahead

SRC = Path(__file__).resolve().parents[2] / "src"
FIRST_JOB = """
import asyncio, json, os, sys
from sotto.net import sdk
sdk.load()
from sotto.settings import Settings
from sotto.worker import job as jobs
service = jobs.open_service(Settings.from_env(os.environ))
service.workshop.warm_up()
before = set(sys.modules)
answer = asyncio.run(jobs.run({"id": "1", "input": json.loads(sys.argv[1])}, service))
service.workshop.close()
assert answer["segments"], answer
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture
def open_workshop(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    opened: list[Workshop] = []

    def make(**changes: Any) -> Workshop:
        settings = Settings(**{"engine": "fake", "temp_dir": str(tmp_path), **changes})
        opened.append(Workshop(settings))
        return opened[-1]

    yield make
    for workshop in opened:
        workshop.close()


def imported_by_first_job(**environ: str) -> list[str]:
    """The modules that the first job of a worker imports after its warm-up."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_JOB, json.dumps({"audio_path": str(speech())})],
        env={
            **os.environ,
            "PYTHONPATH": str(SRC),
            "SOTTO_AUDIO_ROOTS": str(speech().parent),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def speech() -> Path:
    return clip("en-young-man").path


# Warm-ups that fail


def test_a_model_that_is_not_here_is_told_by_the_warm_up(
    open_workshop: Callable[..., Workshop], tmp_path: Path
) -> None:
    workshop = open_workshop(engine="whisper", weights_dir=str(tmp_path), model="large-v9")
    with pytest.raises(UnknownModel, match="large-v9"):
        workshop.warm_up()


def test_a_model_that_cannot_be_loaded_is_told_by_the_warm_up(
    open_workshop: Callable[..., Workshop], tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / "base" / name).write_bytes(b"x")
    workshop = open_workshop(engine="whisper", weights_dir=str(tmp_path), device="cpu")
    with pytest.raises(EngineError, match="model 'base' cannot be loaded"):
        workshop.warm_up()


def test_a_folder_that_takes_no_audio_is_told_by_the_warm_up(
    open_workshop: Callable[..., Workshop], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lost"
    with pytest.raises(InternalError):
        open_workshop(temp_dir=str(folder)).warm_up()
    assert f"SOTTO_TEMP_DIR: no audio can be written to {folder}: No such file" in caplog.text


# Warm-ups that succeed


def test_the_warm_up_gives_the_default_engine_and_leaves_nothing_behind(
    open_workshop: Callable[..., Workshop], tmp_path: Path
) -> None:
    engine = open_workshop(model="small").warm_up()
    assert isinstance(engine, FakeEngine)
    assert engine.model == "small"
    assert engine.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("threads", "batch", "jobs", "each"),
    [(2, 16, 0, 80), (2, 16, 1, 80), (2, 16, 2, 80), (2, 16, 4, 40), (2, 16, 48, 3), (2, 1, 1, 5)],
)
def test_the_more_jobs_the_fewer_windows_each_of_them_has_cut(
    threads: int, batch: int, jobs: int, each: int
) -> None:
    assert windows_ahead(FakeEngine(threads=threads, batch_limit=batch), jobs) == each


def test_jobs_that_are_over_leave_their_share_to_the_others(
    open_workshop: Callable[..., Workshop],
) -> None:
    workshop = open_workshop()
    job = parse({"audio_base64": "UklGRg=="})

    async def share() -> list[int]:
        async with AsyncExitStack() as others, workshop.open(job) as (tools, _):
            alone = tools.windows_ahead()
            for _ in range(40):
                await others.enter_async_context(workshop.open(job))
            shared = tools.windows_ahead()
            await others.aclose()
            return [alone, shared, tools.windows_ahead()]

    alone, shared, again = asyncio.run(share())
    assert shared < alone == again


def test_the_first_job_has_nothing_left_to_import() -> None:
    assert imported_by_first_job(SOTTO_ENGINE="fake") == []


@pytest.mark.model
def test_the_first_job_of_a_real_model_has_nothing_left_to_import(weights: Path) -> None:
    assert imported_by_first_job(SOTTO_WEIGHTS_DIR=str(weights)) == []
