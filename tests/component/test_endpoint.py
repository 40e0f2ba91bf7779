"""A whole endpoint: the client library, the gateway, and real workers with the fake engine.

Several jobs at once, good ones and hostile ones, and what is done to a worker under load.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tests.component.test_gateway import Receiver
from tests.component.test_storage import moto, s3  # noqa: F401 - fixtures
from tests.desk import HANDLER, OPTIONS, ROOT, SPOKEN, Desk, by_delay, desk
from tests.sound import wav

from sotto.gateway.job import Job, Order, Policy, State
from sotto.gateway.pool import Patience

FAKE = {"SOTTO_ENGINE": "fake"}
PATIENT = Patience(start_s=60.0, heed_s=5.0, stop_s=30.0)
WORDY = (sys.executable, str(ROOT / "tests" / "wordy_handler.py"))
MANY = 64

HOSTILE = {
    "no audio": ({}, "invalid_request"),
    "no base64": ({"audio_base64": "%%%"}, "invalid_request"),
    "no sound": ({"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}, "audio_undecodable"),
    "a wrong option": ({**SPOKEN.input, "langauge": "en"}, "invalid_request"),
    "metadata": ({"audio": "http://169.254.169.254/latest"}, "source_forbidden"),
    "a file": ({"audio_path": "/etc/passwd"}, "invalid_request"),
    "a wrong type": ({**SPOKEN.input, "beam_size": "five"}, "invalid_request"),
}


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of noise: seconds of work for a worker, whatever its engine."""
    return noise(tmp_path_factory.mktemp("volume") / "long.wav", minutes=20)


def noise(path: Path, *, minutes: int) -> Path:
    """Write so much noise to `path`."""
    minute = np.random.default_rng(0).normal(0, 0.1, 16_000 * 60).clip(-1, 1)
    path.write_bytes(wav(np.tile(minute, minutes)))
    return path


def long_order(path: Path, **policy: Any) -> Order:
    return Order({"audio_path": str(path), "enable_vad": False}, Policy(**policy))


def endpoint_of(path: Path, **more: str) -> dict[str, str]:
    return {**FAKE, "SOTTO_AUDIO_ROOTS": str(path.parent), **more}


def run(
    check: Callable[[Desk], Awaitable[None]],
    environ: dict[str, str],
    handler: tuple[str, str] = HANDLER,
    **options: Any,
) -> None:
    """Have `check` use an endpoint of one worker."""

    async def whole() -> None:
        async with desk(handler, by_delay(), PATIENT, environ, **options) as opened:
            await check(opened)

    asyncio.run(whole())


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def running(opened: Desk, job: Job) -> int:
    """Wait until the job runs; the process that runs it."""
    await opened.until(lambda: job.state is State.IN_PROGRESS)
    (process,) = opened.processes()
    return process


def test_many_jobs_in_flight_are_each_answered_and_the_hostile_ones_with_their_code() -> None:
    async def check(opened: Desk) -> None:
        good = [opened.submit(SPOKEN) for _ in range(MANY)]
        bad = {name: opened.submit(Order(given)) for name, (given, _) in HOSTILE.items()}
        texts = [(await opened.end(job)).output["transcription"] for job in good]
        assert len(texts[0]) > 5
        assert texts == [texts[0]] * MANY
        for name, job in bad.items():
            ended = await opened.end(job)
            assert ended.state is State.FAILED
            assert ended.output["code"] == HOSTILE[name][1], name
            assert str(ended.error).startswith(HOSTILE[name][1]), name
        assert opened.workers() == 1

    run(check, {**FAKE, "SOTTO_CONCURRENCY": str(MANY)})


def test_the_jobs_of_a_worker_that_is_killed_are_run_again(long_file: Path) -> None:
    async def check(opened: Desk) -> None:
        long = opened.submit(long_order(long_file))
        short = [opened.submit(SPOKEN) for _ in range(4)]
        process = await running(opened, long)
        os.kill(process, signal.SIGKILL)
        for job in (long, *short):
            assert (await opened.end(job)).state is State.COMPLETED
        assert process not in opened.processes()

    run(check, endpoint_of(long_file))


def test_a_worker_that_is_told_to_stop_under_load_loses_nothing(long_file: Path) -> None:
    async def check(opened: Desk) -> None:
        jobs = [opened.submit(long_order(long_file)), *(opened.submit(SPOKEN) for _ in range(MANY))]
        process = await running(opened, jobs[0])
        os.kill(process, signal.SIGTERM)
        for job in jobs:
            assert (await opened.end(job)).state is State.COMPLETED

    run(check, endpoint_of(long_file, SOTTO_CONCURRENCY="4"))


def test_a_cancelled_job_makes_room_at_once(long_file: Path, tmp_path: Path) -> None:
    async def check(opened: Desk) -> None:
        jobs = [opened.submit(long_order(long_file)) for _ in range(20)]
        for job in jobs:
            await opened.until(lambda job=job: job.state is State.IN_PROGRESS)
        behind = opened.submit(SPOKEN)
        for job in jobs:
            opened.gateway.jobs.cancel(job.id)
        assert (await opened.end(behind)).state is State.COMPLETED
        assert all(job.state is State.CANCELLED for job in jobs)
        assert left(tmp_path) == []

    run(check, endpoint_of(long_file, SOTTO_CONCURRENCY="20", SOTTO_TEMP_DIR=str(tmp_path)))


def test_a_job_that_would_outlast_its_limit_gets_a_timeout_and_leaves_no_file(
    long_file: Path, tmp_path: Path
) -> None:
    async def check(opened: Desk) -> None:
        ended = await opened.end(opened.submit(long_order(long_file)))
        assert ended.state is State.FAILED
        assert ended.output["code"] == "timeout"
        assert "SOTTO_JOB_TIMEOUT_S" in str(ended.error)
        assert left(tmp_path) == []
        assert (await opened.end(opened.submit(SPOKEN))).state is State.COMPLETED

    run(check, endpoint_of(long_file, SOTTO_JOB_TIMEOUT_S="1", SOTTO_TEMP_DIR=str(tmp_path)))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("s3")
def test_a_result_of_fifty_megabytes_comes_as_a_link_to_the_store(
    tmp_path: Path,
    moto: str,  # noqa: F811
) -> None:
    path = noise(tmp_path / "minute.wav", minutes=1)

    async def check(opened: Desk) -> None:
        ended = await opened.end(opened.submit(long_order(path)), hang_s=240)
        assert ended.state is State.COMPLETED
        assert "transcription" not in ended.output
        stored = await asyncio.to_thread(requests.get, ended.output["result_url"], timeout=60)
        assert len(stored.content) == ended.output["result_bytes"] > 50_000_000
        answer = json.loads(stored.content)
        assert answer["duration"] == 60
        assert len(answer["segments"]) == ended.output["segments"]
        assert (await opened.end(opened.submit(SPOKEN))).state is State.COMPLETED

    store = {
        "SOTTO_S3_ENDPOINT_URL": moto,
        "SOTTO_S3_BUCKET": "bucket",
        "SOTTO_S3_ACCESS_ID": "id",
        "SOTTO_S3_ACCESS_SECRET": "secret",
    }
    run(check, endpoint_of(path, **store), WORDY)


def test_a_result_that_is_too_large_names_the_ways_out() -> None:
    async def check(opened: Desk) -> None:
        ended = await opened.end(opened.submit(SPOKEN))
        assert ended.state is State.FAILED
        assert ended.output["code"] == "result_too_large"
        for way in ("upload_url", "s3Config", "SOTTO_S3_"):
            assert way in str(ended.error)

    run(check, {**FAKE, "SOTTO_RESULT_LIMIT_BYTES": "100"})


def test_a_webhook_that_fails_twice_gets_the_answer_of_a_real_job() -> None:
    async def check(opened: Desk) -> None:
        with Receiver([500, 503, 200]) as receiver:
            job = opened.submit(Order(SPOKEN.input, webhook=receiver.url))
            await opened.end(job)
            told = [await asyncio.to_thread(receiver.next) for _ in range(3)]
        assert [body["id"] for _, body in told] == [job.id] * 3
        assert told[-1][1]["output"]["transcription"] == job.output["transcription"]

    run(check, FAKE, gateway=replace(OPTIONS, webhook_interval_s=0.05))


def test_a_stream_has_the_segments_and_the_output_is_the_normal_answer() -> None:
    async def check(opened: Desk) -> None:
        job = await opened.end(opened.submit(Order({**SPOKEN.input, "stream": True})))
        parts = await opened.gateway.jobs.stream(job, 0)
        texts = [segment["text"] for part in parts for segment in part["segments"]]
        assert texts == [segment["text"] for segment in job.output["segments"]]
        assert texts

    run(check, FAKE)
