"""How a worker comes to its first job, or does not: `handler.py` under the real SDK."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.platform_stub import KEY, Platform
from tests.speech_data import clip

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 60
FAKE = {"SOTTO_ENGINE": "fake"}
UNDER = """
import multiprocessing, runpy, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    runpy.run_path("handler.py", run_name="__main__")
"""


class Worker:
    """A worker's process and what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


Scenario = Callable[[Platform, Worker], Awaitable[None]]


@asynccontextmanager
async def started(
    platform: Platform, folder: Path, program: tuple[str, ...], environ: dict[str, str]
) -> AsyncIterator[Worker]:
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            cwd=ROOT,
            env={**os.environ, **platform.environment(), **environ},
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Worker(process, log)
    finally:
        # The SDK's ping process outlives its parent.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def play(
    scenario: Scenario,
    folder: Path,
    *,
    program: tuple[str, ...] = ("handler.py",),
    **environ: str,
) -> None:
    """Run a scenario between a platform and a worker."""

    async def played() -> None:
        async with (
            asyncio.timeout(HANG_S),
            Platform() as platform,
            started(platform, folder, program, environ) as worker,
        ):
            await scenario(platform, worker)

    asyncio.run(played())


def speech_job(job_id: str, **options: object) -> dict[str, object]:
    data = base64.b64encode(clip("en-young-man").path.read_bytes()).decode()
    return {"id": job_id, "input": {"audio_base64": data, **options}}


# Workers that must not take a job


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"SOTTO_MODEL": "large-v9", "SOTTO_WEIGHTS_DIR": "/none"},
            "Fitness check failed: model | UnknownModel: model: 'large-v9' is not on this worker",
        ),
        (
            {**FAKE, "SOTTO_TEMP_DIR": "/none"},
            "Fitness check failed: disk | Unfit: no audio can be written to /none: No such file",
        ),
        (
            {**FAKE, "SOTTO_MAX_AUDIO_BYTES": str(10**18)},
            "Fitness check failed: disk | Unfit: ",
        ),
        ({**FAKE, "SOTTO_S3_BUCKET": "answers"}, "SOTTO_S3_ENDPOINT_URL: is missing"),
    ],
    ids=["model", "temp_dir", "room", "store"],
)
def test_a_worker_that_is_not_fit_ends_with_the_reason_and_takes_no_job(
    tmp_path: Path, environ: dict[str, str], told: str
) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        assert await worker.process.wait() == 1
        assert told in worker.log
        assert "Traceback" not in worker.log
        assert platform.takes == []

    play(scenario, tmp_path, **environ)


def test_a_worker_that_is_told_to_stop_as_it_starts_ends_at_once(tmp_path: Path) -> None:
    """It has to listen for that: by itself, the first process of a container is not stopped."""

    async def scenario(platform: Platform, worker: Worker) -> None:
        await asyncio.to_thread(wait_until_listening, worker.process.pid, signal.SIGTERM)
        worker.process.terminate()
        assert await worker.process.wait() == 128 + signal.SIGTERM
        assert platform.takes == []

    play(scenario, tmp_path)


def wait_until_listening(pid: int, number: signal.Signals) -> None:
    """Return when the process has a handler of its own for that signal."""
    status = Path(f"/proc/{pid}/status")
    while True:
        lines = status.read_text(encoding="ascii").splitlines()
        [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt")]
        if int(caught, 16) >> (number - 1) & 1:
            return
        time.sleep(0.005)


def test_a_model_that_is_broken_ends_the_worker(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / "base" / name).write_bytes(b"x")

    async def scenario(platform: Platform, worker: Worker) -> None:
        assert await worker.process.wait() == 1
        told = "Fitness check failed: model | EngineError: model 'base' cannot be loaded: "
        assert told in worker.log
        assert platform.takes == []

    play(scenario, tmp_path, SOTTO_WEIGHTS_DIR=str(tmp_path), SOTTO_DEVICE="cpu")


# Workers that are fit


def test_jobs_are_asked_for_when_the_model_is_warm_and_as_many_as_the_engine_feeds(
    tmp_path: Path,
) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        await platform.until(lambda: platform.takes)
        assert worker.log.count("model base is warm on cpu after ") == 1
        assert platform.takes[0].jobs == 8
        assert KEY not in worker.log

    play(scenario, tmp_path, **FAKE)


def test_as_many_jobs_are_asked_for_as_the_operator_says(tmp_path: Path) -> None:
    async def scenario(platform: Platform, _: Worker) -> None:
        await platform.until(lambda: platform.takes)
        assert platform.takes[0].jobs == 3

    play(scenario, tmp_path, **FAKE, SOTTO_CONCURRENCY="3")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_heartbeat_lives_and_the_model_is_loaded_once_however_processes_are_started(
    tmp_path: Path, method: str
) -> None:
    program = tmp_path / "under.py"
    program.write_text(UNDER, encoding="utf-8")

    async def scenario(platform: Platform, worker: Worker) -> None:
        await platform.until(lambda: platform.takes and len(platform.pings) > 1)
        assert worker.log.count("is warm on cpu") == 1

    play(scenario, tmp_path, program=(str(program), method), PYTHONPATH=str(ROOT / "src"), **FAKE)


def test_a_job_that_streams_has_sent_all_its_segments_before_its_answer(tmp_path: Path) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        await platform.until(lambda: platform.takes)
        platform.offer(speech_job("job-1", stream=True))
        await platform.answered("job-1")
        output = platform.results()["job-1"]["output"]
        items = [message.body["output"] for message in platform.of("job-1", "stream")]
        assert [one for item in items for one in item["segments"]] == output["segments"]
        assert platform.messages[-1].kind == "result"
        assert output["segments"][0]["text"] not in worker.log

    play(scenario, tmp_path, **FAKE)


def test_a_job_that_outlasts_its_time_is_answered_and_leaves_no_file(tmp_path: Path) -> None:
    transit = tmp_path / "transit"
    transit.mkdir()

    async def scenario(platform: Platform, _: Worker) -> None:
        await platform.until(lambda: platform.takes)
        platform.offer(speech_job("job-1"))
        await platform.answered("job-1")
        result = platform.results()["job-1"]
        assert result["error"].startswith("timeout: SOTTO_JOB_TIMEOUT_S: the 0.001 s ")
        assert result["output"] == {"code": "timeout", "retryable": True}
        assert list(transit.iterdir()) == []

    play(scenario, tmp_path, **FAKE, SOTTO_TEMP_DIR=str(transit), SOTTO_JOB_TIMEOUT_S="0.001")
