"""A container as a worker of the platform: ready, alive, answering, and ending when told."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable

import jiwer
from tests.image.engine import Engine
from tests.image.worker import at_work, container
from tests.model.test_transcribe import plain
from tests.platform_stub import Platform
from tests.speech_data import Clip, clip

from sotto.gateway.job import Order, State


def order(spoken: Clip) -> Order:
    return Order({"audio_base64": base64.b64encode(spoken.path.read_bytes()).decode()})


def test_it_asks_for_a_job_tells_that_it_is_alive_and_ends_when_told(
    engine: Engine, image: str, measured: Callable[[str], None]
) -> None:
    async def main() -> None:
        async with (
            Platform() as platform,
            container(engine, image, platform.environment()) as one,
        ):
            await platform.until(lambda: platform.takes)
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            took_s = now_s - await one.started_s()
            measured(f"first request for a job after {took_s:.2f} s, {image}")
            await platform.until(lambda: platform.pings)
            await one.signal("TERM")
            assert await one.ended() == 0
            assert "Traceback" not in await one.log()

    asyncio.run(main())


def test_a_job_in_flight_is_answered_before_it_ends(engine: Engine, cpu: str) -> None:
    spoken = clip("en-long")

    async def main() -> None:
        async with at_work(engine, cpu, SOTTO_STOP_GRACE_S="200") as work:
            job = work.gateway.jobs.submit(order(spoken))
            while job.state is State.IN_QUEUE:
                await work.gateway.jobs.changed.wait(0.05)
            await work.container.signal("TERM")
            assert await work.container.ended() == 0
            assert job.state is State.COMPLETED, job.error
            assert jiwer.wer(plain(spoken.text), plain(job.output["transcription"])) <= 0.1

    asyncio.run(main())


def test_a_bad_job_gets_its_reason_and_the_next_one_its_words(engine: Engine, cpu: str) -> None:
    spoken = clip("es-busy")

    async def main() -> None:
        async with at_work(engine, cpu) as work:
            bad = await work.end({"audio_base64": "bm8gYXVkaW8gYXQgYWxs"})
            assert bad.state is State.FAILED
            assert bad.output["code"] == "audio_undecodable"
            other = await work.end({**order(spoken).input, "model": "large-v3"})
            assert other.state is State.FAILED
            assert other.output["code"] == "unknown_model"
            assert "base" in str(other.error)
            good = await work.end(order(spoken).input)
            assert good.state is State.COMPLETED, good.error
            assert good.output["detected_language"] == "es"
            assert jiwer.wer(plain(spoken.text), plain(good.output["transcription"])) <= 0.1

    asyncio.run(main())


def test_a_model_that_is_not_in_the_image_ends_it_with_the_reason(engine: Engine, cpu: str) -> None:
    done = engine.run(cpu, options=("--env=SOTTO_MODEL=large-v3",))
    assert done.code == 1
    assert "unknown_model: " in done.told
    assert "Traceback" not in done.told


def test_the_test_server_of_the_sdk_starts(engine: Engine, cpu: str) -> None:
    """It needs what FastAPI needs, and no worker does."""
    source = (
        "import sys; from sotto.net import sdk; sdk.load();"
        "from runpod.serverless.modules.rp_fastapi import WorkerAPI;"
        "import uvicorn, asyncio, threading, urllib.request, json, time;"
        "api = WorkerAPI({'handler': lambda job: job['input'], 'rp_args': {}});"
        "server = uvicorn.Server(uvicorn.Config(api.rp_app, port=8123, log_level='error'));"
        "threading.Thread(target=server.run, daemon=True).start();"
        "body = json.dumps({'input': {'said': 'words'}}).encode();"
        "[time.sleep(0.05) for _ in range(400) if not server.started];"
        "request = urllib.request.Request('http://127.0.0.1:8123/runsync', body,"
        " {'Content-Type': 'application/json'});"
        "print(urllib.request.urlopen(request, timeout=30).read().decode())"
    )
    assert '"said":"words"' in engine.python(cpu, source, "--env=PYTHONPATH=/app/src")
