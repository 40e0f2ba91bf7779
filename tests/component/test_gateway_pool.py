"""Workers as real processes: the pool starts, watches and ends them, whatever they do."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from tests.desk import HANDLER, SPOKEN, by_delay, desk
from tests.processes import is_gone

from sotto.endpoint.config import Endpoint, Scaling, Workers
from sotto.gateway.job import Order, Policy, State
from sotto.gateway.pool import Patience
from sotto.gateway.process import LONGEST_LINE_BYTES, WorkerProcess

SPEAKS = """
import json, os, signal, sys, time, urllib.request

ID = os.environ["RUNPOD_POD_ID"]

def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
        return response.status, response.read()

def take():
    status = 204
    while status == 204:
        url = os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", ID)
        status, body = ask(url + "&job_in_progress=0")
    return json.loads(body)

def finish(job, **more):
    url = os.environ["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", ID)
    ask(url.replace("$ID", job["id"]) + "&isStream=false", {"output": {"by": ID}, **more})

def serve():
    while True:
        finish(take())
"""
"""The beginning of a worker without the SDK, which starts in no time and may misbehave."""


def script(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", SPEAKS + code)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "sotto.gateway")
    return caplog


def started(log: pytest.LogCaptureFixture) -> dict[str, int]:
    """The workers that were started, and the process of each."""
    found = re.findall(r"(worker-\d+): started, process (\d+)", log.text)
    return {worker_id: int(process) for worker_id, process in found}


# Workers that misbehave


def test_a_worker_that_exits_at_once_is_not_started_again_and_again(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        async with desk(script("print('no model here'); sys.exit(3)"), by_delay()) as one:
            job = one.submit()
            await one.until(lambda: one.pool.unhealthy == 2)
            assert len(started(log)) == 2
            assert (await one.health())["workers"]["unhealthy"] == 2
            assert job.state is State.IN_QUEUE

    asyncio.run(run())
    assert "worker-1: no model here" in log.text
    assert "worker-1: ended, exit code 3" in log.text
    assert "the next starts in 1 s" in log.text
    assert "the next starts in 2 s" in log.text


def test_a_worker_that_gets_ready_makes_up_for_those_that_failed() -> None:
    async def run() -> None:
        code = "sys.exit(3) if ID == 'worker-1' else serve()"
        async with desk(script(code), by_delay()) as one:
            job = await one.end(one.submit())
            assert job.output == {"by": "worker-2"}
            assert one.pool.unhealthy == 0

    asyncio.run(run())


def test_a_program_that_is_not_there_leaves_the_gateway_up(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with desk((str(tmp_path / "none"),), by_delay()) as one:
            job = one.submit()
            await one.until(lambda: one.pool.unhealthy)
            assert one.gateway.jobs.cancel(job.id).state is State.CANCELLED

    asyncio.run(run())
    assert "worker-1: cannot be started: " in log.text


def test_a_worker_that_never_asks_for_a_job_is_killed(log: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        patience = Patience(start_s=1.0)
        async with desk(script("time.sleep(3600)"), by_delay(least=1), patience) as one:
            await one.until(lambda: one.pool.unhealthy)
            await one.until(lambda: is_gone(started(log)["worker-1"]))

    asyncio.run(run())
    assert "worker-1: killed, it did not ask for a job within 1 s" in log.text
    assert "worker-1: ended, exit code -9" in log.text


def test_the_job_of_a_worker_that_dies_is_run_again() -> None:
    async def run() -> None:
        code = "job = take(); os.kill(os.getpid(), 9) if ID == 'worker-1' else finish(job); serve()"
        async with desk(script(code), by_delay()) as one:
            job = await one.end(one.submit())
            assert job.state is State.COMPLETED
            assert job.output == {"by": "worker-2"}
            assert one.gateway.jobs.retried == 1

    asyncio.run(run())


def test_a_job_that_takes_its_workers_down_with_it_fails() -> None:
    async def run() -> None:
        async with desk(script("take(); os.kill(os.getpid(), 9)"), by_delay()) as one:
            job = await one.end(one.submit())
            assert job.state is State.FAILED

    asyncio.run(run())


def test_a_hung_worker_is_killed_and_the_jobs_behind_it_are_run(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        code = "if ID == 'worker-1': take(); take(); time.sleep(3600)\nserve()"
        async with desk(script(code), by_delay()) as one:
            hung = one.submit(Order({}, Policy(execution_timeout_s=1.0)))
            behind, queued = one.submit(), one.submit()
            assert (await one.end(hung)).state is State.TIMED_OUT
            for job in (behind, queued):
                assert (await one.end(job)).output == {"by": "worker-2"}

    asyncio.run(run())
    assert "worker-1: killed, it did not fetch the order to stop a job" in log.text
    assert is_gone(started(log)["worker-1"])


def test_a_worker_that_ignores_sigterm_is_killed_when_its_time_is_up(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()"
        async with desk(script(code), by_delay(idle_timeout_s=1.0)) as one:
            await one.end(one.submit())
            await one.until(lambda: is_gone(started(log)["worker-1"]))
            assert one.pool.unhealthy == 0

    asyncio.run(run())
    assert "worker-1: killed, still there 0.2 s after SIGTERM" in log.text


def test_a_worker_that_asks_to_be_replaced_is(log: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with desk(script("while True: finish(take(), stopPod=True)"), by_delay()) as one:
            first = await one.end(one.submit())
            second = await one.end(one.submit())
            assert (first.output, second.output) == ({"by": "worker-1"}, {"by": "worker-2"})
            assert one.pool.unhealthy == 0

    asyncio.run(run())
    assert "worker-1: stopped, it asked to be replaced" in log.text


# The end of the pool


def test_the_jobs_in_flight_end_before_the_pool_does() -> None:
    async def run() -> None:
        code = """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
job = take()
while not asked: time.sleep(0.02)
finish(job)
"""
        async with desk(script(code), by_delay(), Patience()) as one:
            job = one.submit()
            await one.until(lambda: job.state is State.IN_PROGRESS)
        assert job.state is State.COMPLETED

    asyncio.run(run())


def test_an_impatient_end_leaves_no_process(log: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); take(); time.sleep(3600)"
        async with desk(script(code), by_delay(), Patience()) as one:
            job = one.submit()
            await one.until(lambda: job.state is State.IN_PROGRESS)
            closing = asyncio.create_task(one.pool.close())
            await one.until(lambda: one.gateway.jobs.workers.is_retired("worker-1"))
            closing.cancel()
            await asyncio.wait([closing])
            assert closing.cancelled()
            await one.until(lambda: is_gone(started(log)["worker-1"]))

    asyncio.run(run())


def test_a_pool_closes_that_has_started_nothing() -> None:
    async def run() -> None:
        async with desk(script("serve()"), by_delay()) as one:
            assert one.workers() == 0

    asyncio.run(run())


# Scaling


def waits_for(path: Path) -> tuple[str, ...]:
    """A worker that holds its job until a file is there."""
    return script(
        "while True:\n    job = take()\n"
        f"    while not os.path.exists({str(path)!r}): time.sleep(0.02)\n"
        "    finish(job)"
    )


def test_jobs_that_wait_start_more_workers_up_to_the_maximum(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with desk(waits_for(tmp_path / "go"), by_delay(most=2)) as one:
            jobs = [one.submit() for _ in range(4)]
            await one.until(lambda: one.gateway.jobs.in_progress() == 2)
            await one.until(lambda: one.gateway.jobs.oldest_wait_s() > 1.5)
            (tmp_path / "go").touch()
            for job in jobs:
                assert (await one.end(job)).state is State.COMPLETED

    asyncio.run(run())
    assert list(started(log)) == ["worker-1", "worker-2"]


def test_the_request_count_starts_as_many_as_the_jobs_need_and_stops_them_after(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(
        name="desk", workers=Workers(max=9), scaling=Scaling(kind="request_count", value=1)
    )

    async def run() -> None:
        async with desk(waits_for(tmp_path / "go"), endpoint) as one:
            jobs = [one.submit() for _ in range(3)]
            await one.until(lambda: one.gateway.jobs.in_progress() == 3)
            (tmp_path / "go").touch()
            for job in jobs:
                assert (await one.end(job)).state is State.COMPLETED
            await one.until(lambda: one.workers() == 0)

    asyncio.run(run())
    assert len(started(log)) == 3


def test_by_request_count_a_job_that_a_worker_died_with_gets_one_for_itself(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """The others do not wait for it behind the one worker that their number is worth."""
    endpoint = Endpoint(
        name="desk", workers=Workers(max=4), scaling=Scaling(kind="request_count", value=4)
    )
    dies = "if ID == 'worker-1':\n    take()\n    sys.exit(3)\n"
    program, flag, code = waits_for(tmp_path / "go")

    async def run() -> None:
        dying = (program, flag, code.replace(SPEAKS, SPEAKS + dies))
        async with desk(dying, endpoint) as one:
            jobs = [one.submit() for _ in range(3)]
            await one.until(lambda: one.gateway.jobs.in_progress() == 2)
            assert [job.workers_lost for job in jobs] == [1, 0, 0]
            (tmp_path / "go").touch()
            for job in jobs:
                assert (await one.end(job)).state is State.COMPLETED

    asyncio.run(run())
    assert len(started(log)) == 3


# The real handler under the real SDK, with its ping process


def test_the_first_job_starts_a_worker_that_answers_and_ends_with_the_pool(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        fake = {"SOTTO_ENGINE": "fake"}
        async with desk(HANDLER, by_delay(), Patience(), fake) as one:
            job = await one.end(one.submit(SPOKEN))
            assert job.state is State.COMPLETED, job.error
            assert job.output["duration"] == 1.0
            await one.until(lambda: re.search(f"worker-1: .*{job.id}", log.text))

    asyncio.run(run())
    assert re.search(r"worker-1: ready after \d", log.text)
    assert "worker-1: ended, exit code 0" in log.text
    assert is_gone(started(log)["worker-1"])


def test_an_idle_worker_is_stopped_and_the_next_job_starts_another(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        fake = {"SOTTO_ENGINE": "fake"}
        async with desk(HANDLER, by_delay(idle_timeout_s=1.0), Patience(), fake) as one:
            await one.end(one.submit(SPOKEN))
            await one.until(lambda: one.workers() == 0)
            assert is_gone(started(log)["worker-1"])
            job = await one.end(one.submit(SPOKEN))
            assert job.worker_id == "worker-2"
            assert job.state is State.COMPLETED, job.error

    asyncio.run(run())


def test_a_killed_worker_takes_its_ping_process_along_and_the_minimum_is_restored(
    log: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        fake = {"SOTTO_ENGINE": "fake"}
        async with desk(HANDLER, by_delay(least=1), Patience(), fake) as one:
            await one.until(lambda: one.gateway.jobs.census().idle)
            first = started(log)["worker-1"]
            os.kill(first, signal.SIGKILL)
            await one.until(lambda: is_gone(first))
            job = await one.end(one.submit(SPOKEN))
            assert job.worker_id == "worker-2"

    asyncio.run(run())


# What a worker writes


def written(code: str, log: pytest.LogCaptureFixture) -> list[str]:
    async def run() -> int:
        worker = await WorkerProcess.start("w", (sys.executable, "-c", code), os.environ)
        return await worker.ended()

    assert asyncio.run(run()) == 0
    lines = [record.getMessage() for record in log.records]
    return [line for line in lines if not re.match(r"w: (started|ended), ", line)]


def test_both_outputs_are_in_the_log_line_by_line_under_the_workers_id(
    log: pytest.LogCaptureFixture,
) -> None:
    code = "import sys; print('one\\n\\ntwo  '); sys.stderr.write('three, unfinished')"
    assert written(code, log) == ["w: one", "w: two", "w: three, unfinished"]


def test_bytes_that_are_no_text_and_endless_lines_are_logged_all_the_same(
    log: pytest.LogCaptureFixture,
) -> None:
    code = (
        "import sys; out = sys.stdout.buffer; out.write(b'\\xff!\\n'); out.flush(); "
        f"out.write(b'x' * {3 * LONGEST_LINE_BYTES})"
    )
    first, *rest = written(code, log)
    assert first == "w: \N{REPLACEMENT CHARACTER}!"
    assert len(rest) > 1
    assert "".join(line.removeprefix("w: ") for line in rest) == "x" * 3 * LONGEST_LINE_BYTES


def test_a_child_that_leaves_the_group_does_not_hold_up_the_end(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    code = (
        "import subprocess, sys; "
        "stray = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'], "
        "start_new_session=True); print(stray.pid)"
    )
    (line,) = written(code, log)
    stray = int(line.removeprefix("w: "))
    assert not is_gone(stray)
    os.killpg(stray, signal.SIGKILL)
