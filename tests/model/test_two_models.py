"""Two real models on one device: each job gets the words of the model it asked for."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.speech_data import clip

from sotto.engine.devices import CPU
from sotto.engine.memory import used_bytes
from sotto.models import weights as header
from sotto.models.memory import need_bytes
from sotto.settings import Settings
from sotto.worker import job as jobs
from sotto.worker.job import Service

pytestmark = pytest.mark.model

SPOKEN = clip("en-dashwood")
Open = Callable[..., Service]
MEASURED = """
import sys
from tests.model.test_two_models import held_bytes

print(*held_bytes(sys.argv[1]))
"""


@pytest.fixture
def open_service(weights: Path, tmp_path: Path) -> Iterator[Open]:
    opened: list[Service] = []

    def make(**changes: Any) -> Service:
        opened.append(service_of(weights, temp_dir=str(tmp_path), **changes))
        return opened[-1]

    yield make
    for service in opened:
        service.workshop.close()


def service_of(weights: Path, **changes: Any) -> Service:
    values = {"weights_dir": str(weights), "device": "cpu", "model_workers": 1, **changes}
    return jobs.open_service(Settings(**values))


async def answer(service: Service, model: str | None) -> dict[str, Any]:
    audio = base64.b64encode(SPOKEN.path.read_bytes()).decode()
    job_input = {"audio_base64": audio, "language": "en", "model": model}
    told: dict[str, Any] = await jobs.run({"id": str(model), "input": job_input}, service)
    assert "error" not in told, told
    return told


def answers(service: Service, *models: str | None) -> list[dict[str, Any]]:
    async def together() -> list[dict[str, Any]]:
        return await asyncio.gather(*(answer(service, model) for model in models))

    return asyncio.run(together())


def need(weights: Path, name: str) -> int:
    shape = header.read(weights / name / "model.bin").shape
    return need_bytes(shape, "int8", encode=CPU.encode, decode=CPU.decode, sample=CPU.sample)


def test_where_both_fit_jobs_of_both_run_side_by_side(open_service: Open) -> None:
    service = open_service()
    base, tiny, again = answers(service, "base", "tiny.en", "base")
    assert (base["model"], tiny["model"]) == ("base", "tiny.en")
    assert again["segments"] == base["segments"]
    assert base["transcription"] != tiny["transcription"] or tiny["segments"] != base["segments"]


def test_where_one_fits_at_a_time_the_words_are_the_same(
    open_service: Open, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = ("base", "tiny.en", "base")
    with_room = answers(open_service(), *models)
    caplog.set_level("INFO", logger="sotto")
    narrow = open_service(model_memory_bytes=need(weights, "base"))
    without = answers(narrow, *models)
    # Whichever of the two was loaded last: one after the other, each has to go for the other.
    for model in ("base", "tiny.en", "base"):
        without += answers(narrow, model)
    assert [one["segments"] for one in without[:3]] == [one["segments"] for one in with_room]
    assert without[3]["segments"] == with_room[0]["segments"]
    assert "model base is unloaded to make room" in caplog.text
    assert "model tiny.en is unloaded to make room" in caplog.text


def test_a_model_that_is_unloaded_gives_its_memory_back(weights: Path) -> None:
    """In a process of its own: what other tests left behind would be counted, too."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(weights)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    held = [int(number) for number in done.stdout.split()]
    # The first turns fill pools and caches; four more that kept a model would hold 160 MB more.
    assert min(held[-2:]) - held[0] < 100_000_000, held


def held_bytes(weights: str) -> list[int]:
    """What the process holds after each of six turns of two models, one of which fits."""
    narrow = service_of(Path(weights), model_memory_bytes=need(Path(weights), "base"))
    held = []
    for _ in range(6):
        answers(narrow, "base")
        answers(narrow, "tiny.en")
        held.append(used_bytes("cpu") or 0)
    narrow.workshop.close()
    return held


def test_a_baked_model_is_the_default_by_the_name_of_its_repository(open_service: Open) -> None:
    service = open_service(model="Systran/faster-whisper-tiny.en")
    [told] = answers(service, None)
    assert told["model"] == "Systran/faster-whisper-tiny.en"
    assert "dashwood" in told["transcription"].lower()


def test_a_model_too_large_for_its_share_is_told_at_once(open_service: Open) -> None:
    service = open_service(model_memory_bytes=50_000_000)
    job_input = {"audio_base64": base64.b64encode(SPOKEN.path.read_bytes()).decode()}
    told = asyncio.run(jobs.run({"id": "1", "input": job_input}, service))
    assert told["code"] == "out_of_memory"
    assert told["retryable"] is False
    assert "SOTTO_MODEL_MEMORY_BYTES" in told["error"]
