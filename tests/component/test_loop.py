"""The loop under the SDK's real start, in a process of its own, against a platform on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from tests.loop_worker import ODD
from tests.platform_stub import KEY, Platform, job

from sotto.worker.loop import LAST_CALL_S, Loop

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 45
SPOKEN = "the quick brown fox is said here"


class Worker:
    """A running worker and what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process, loaded: Path) -> None:
        self._process = process
        self._loaded = loaded
        self._written = asyncio.Condition()
        self.log = ""

    def terminate(self) -> None:
        self._process.terminate()

    async def ended(self) -> int:
        """The exit code, once it has ended."""
        return await self._process.wait()

    async def logged(self, text: str) -> None:
        """Return when it has written `text`."""
        async with self._written:
            await self._written.wait_for(lambda: text in self.log)

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._written:
                self.log += line.decode()
                self._written.notify_all()

    def loads(self) -> int:
        """How often its main part was begun."""
        return len(self._loaded.read_text(encoding="utf-8").splitlines())


Scenario = Callable[[Platform, Worker], Awaitable[None]]


@asynccontextmanager
async def started(
    platform: Platform, folder: Path, *args: str, **environ: str
) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests" / "loop_worker.py"),
        *args,
        env={
            **os.environ,
            **platform.environment(),
            "PYTHONPATH": str(ROOT / "src"),
            "LOADED": str(folder / "loaded"),
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    worker = Worker(process, folder / "loaded")
    reading = asyncio.create_task(worker.read())
    try:
        yield worker
    except BaseException as error:
        error.add_note(worker.log)
        raise
    finally:
        # The process that pings outlives a worker that is killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reading


Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Play a scenario with one worker."""

    def play(
        scenario: Scenario, *args: str, concurrency: int = 1, grace_s: float = 20, **environ: str
    ) -> None:
        environ |= {"CONCURRENCY": str(concurrency), "GRACE_S": str(grace_s)}

        async def main() -> None:
            async with Platform() as platform, started(platform, tmp_path, *args, **environ) as one:
                async with asyncio.timeout(HANG_S):
                    await scenario(platform, one)

        asyncio.run(main())

    return play


# Results that JSON cannot say, handlers that fail


def test_a_result_that_is_not_json_ends_as_an_internal_error(run: Run) -> None:
    odd = set(ODD) - {"nothing"}

    async def scenario(platform: Platform, worker: Worker) -> None:
        for kind in odd:
            platform.offer(job(kind, ("return odd", kind)))
            await platform.answered(kind)
        for kind, result in platform.results().items():
            assert result["error"].startswith("internal: "), kind
            assert kind in result["error"]
            assert result["output"]["code"] == "internal"
            await worker.logged(f"job {kind} failed: internal: its result is not JSON")

    run(scenario)


def test_what_a_handler_returns_is_the_output_also_if_it_is_nothing(run: Run) -> None:
    outputs = {"text": "café \U0001f642", "list": [1, 2.5], "no": False, "none": None, "zero": 0}

    async def scenario(platform: Platform, _: Worker) -> None:
        platform.offer(job("nothing", ("return odd", "nothing")))
        await platform.answered("nothing")
        for name, output in outputs.items():
            platform.offer(job(name, ("return", output)))
            await platform.answered(name)
        results = platform.results()
        assert results.pop("nothing") == {"output": {}}
        assert results == {name: {"output": output} for name, output in outputs.items()}

    run(scenario)


def test_an_error_is_told_beside_its_details(run: Run) -> None:
    async def scenario(platform: Platform, _: Worker) -> None:
        platform.offer(job("bare", ("return", {"error": "timeout: too slow"})))
        await platform.answered("bare")
        detailed = {"error": {"message": "no"}, "code": "x", "refresh_worker": False}
        platform.offer(job("detailed", ("return", detailed)))
        await platform.answered("detailed")
        assert platform.results() == {
            "bare": {"error": "timeout: too slow"},
            "detailed": {"error": {"message": "no"}, "output": {"code": "x"}},
        }

    run(scenario)


@pytest.mark.parametrize("step", [("fail", "a fault"), ("give up", None)], ids=lambda s: s[0])
def test_a_handler_that_fails_ends_the_job_as_an_internal_error(
    run: Run, step: tuple[str, object]
) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.offer(job("bad", step))
        await platform.answered("bad")
        await worker.logged("job bad failed: internal")
        platform.offer(job("good", ("return", 1)))
        await platform.answered("good")
        assert platform.results()["bad"]["output"]["code"] == "internal"
        assert "a fault" not in platform.results()["bad"]["error"]

    run(scenario)


# A platform that fails


def test_an_outage_at_the_result_is_outlasted_and_each_request_bears_its_own_job(run: Run) -> None:
    refused = {"a": [500, 0, 503], "b": [0, 429, 502], "c": [504, 408, 0], "d": [503, 0, 500]}

    async def scenario(platform: Platform, _: Worker) -> None:
        platform.refusals.update({job_id: list(statuses) for job_id, statuses in refused.items()})
        platform.offer(*(job(job_id, ("return", job_id)) for job_id in refused))
        await platform.answered(*refused)
        assert platform.results() == {job_id: {"output": job_id} for job_id in refused}
        for job_id, statuses in refused.items():
            tried = platform.of(job_id, "result")
            assert [message.status for message in tried] == [*statuses, 200]
            assert {message.request_id for message in tried} == {job_id}

    run(scenario, concurrency=4)


@pytest.mark.parametrize("status", [400, 413])
def test_a_result_that_the_platform_finds_too_large_becomes_an_error(run: Run, status: int) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.refusals["big"] = [status]
        platform.offer(job("big", ("return", "long" * 500_000)))
        await platform.answered("big")
        result = platform.results()["big"]
        assert result["output"]["code"] == "result_too_large"
        for way_out in ("2000014 bytes", "upload_url", "s3Config", "SOTTO_S3_"):
            assert way_out in result["error"]
        await worker.logged(f"job big: HTTP {status} to a result of 2000014 bytes")

    run(scenario)


def test_a_result_that_is_refused_for_good_is_logged_and_the_worker_goes_on(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.refusals["gone"] = [404]
        platform.offer(job("gone", ("return", 1)))
        await worker.logged("job gone: its result did not arrive: HTTP 404")
        platform.offer(job("next", ("return", 2)))
        await platform.answered("next")
        assert len(platform.of("gone", "result")) == 1

    run(scenario)


BAD_ANSWERS = {
    "error": lambda: web.Response(status=500),
    "refused": lambda: web.Response(status=401),
    "too many": lambda: web.Response(status=429),
    "nothing": lambda: web.Response(status=204),
    "frozen": lambda: web.Response(status=400),
    "a page": lambda: web.Response(text="<html>", content_type="text/html"),
    "broken": lambda: web.Response(text='[{"id": "x", ', content_type="application/json"),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_a_queue_that_gives_no_jobs_is_asked_again_after_a_pause(run: Run, bad: str) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.answer(BAD_ANSWERS[bad]())
        await platform.until(lambda: len(platform.takes) == 2)
        first, second = platform.takes
        assert second.at_s - first.at_s > 0.9
        platform.offer(job("good", ("return", 1)))
        await platform.answered("good")

    run(scenario)


def test_a_queue_that_keeps_failing_is_asked_less_and_less(run: Run) -> None:
    async def scenario(platform: Platform, _: Worker) -> None:
        for _ in range(3):
            platform.answer(web.Response(status=503))
        platform.offer(job("good", ("return", 1)))
        await platform.answered("good")
        at_s = [take.at_s for take in platform.takes[:4]]
        pauses_s = [after - before for before, after in pairwise(at_s)]
        assert all(
            pause_s > 0.9 * least for pause_s, least in zip(pauses_s, (1, 2, 4), strict=True)
        )

    run(scenario)


def test_jobs_that_are_none_do_not_keep_their_neighbours_from_running(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.offer({"input": []}, job("good", ("return", 1)), {"id": 7, "input": []})
        await platform.answered("good")
        await worker.logged("without an id")

    run(scenario)


def test_a_job_that_cannot_be_read_is_answered_and_costs_no_other(run: Run) -> None:
    bad = f'{{"id": "bad", "input": {{"beam_size": {"7" * 5000}}}}}'

    async def scenario(platform: Platform, worker: Worker) -> None:
        good = json.dumps(job("good", ("return", 1)))
        platform.answer(web.Response(text=f"[{good},{bad}]", content_type="application/json"))
        await platform.answered("good", "bad")
        platform.answer(web.Response(text=bad.replace("bad", "alone")))
        await platform.answered("alone")
        for name in ("bad", "alone"):
            (result,) = platform.of(name, "result")
            assert "invalid_request: input: no JSON that can be read" in str(result.body)
            await worker.logged(f"job {name} failed: invalid_request")

    run(scenario, concurrency=3)


# Places


def test_a_free_place_takes_a_job_at_once_and_a_full_worker_asks_for_none(run: Run) -> None:
    names = [f"j{number}" for number in range(4)]

    async def scenario(platform: Platform, _: Worker) -> None:
        for name in names:  # each starts while all those before it still run
            platform.offer(job(name, ("tell", "runs"), ("gate", name), ("return", name)))
            await platform.told(name)
        assert [take.jobs for take in platform.takes] == [4, 3, 2, 1]
        assert [take.in_progress for take in platform.takes] == [False, True, True, True]
        platform.open("j2")
        await platform.answered("j2")
        platform.offer(job("more", ("return", 5)))
        await platform.answered("more")
        for name in names:
            platform.open(name)
        await platform.answered(*names)

    run(scenario, concurrency=4)


def test_a_job_that_comes_twice_is_run_and_answered_once(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        twin = job("twin", ("tell", "runs"), ("gate", "end"), ("return", 1))
        platform.offer(twin)
        await platform.told("twin")
        platform.offer(twin)
        await worker.logged("job twin is on this worker already")
        platform.open("end")
        await platform.answered("twin")
        platform.offer(job("next", ("return", 2)))
        await platform.answered("next")
        assert len(platform.of("twin", "progress")) == 1

    run(scenario, concurrency=2)


# Stop signals


def test_a_running_and_a_queued_job_can_be_stopped_and_give_their_places_back(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.offer(
            job("running", ("tell", "runs"), ("gate", "never"), ("return", 1)),
            job("queued", ("tell", "runs"), ("return", 2)),
        )
        await platform.told("running")
        platform.stop("queued", "unknown")
        await worker.logged("job queued stopped by the platform")
        platform.stop("running")
        await worker.logged("job running stopped by the platform")
        platform.offer(job("next", ("return", 3)))
        await platform.answered("next")
        assert list(platform.results()) == ["next"]
        assert platform.of("queued", "progress") == []

    run(scenario)


async def given_anew(platform: Platform, worker: Worker) -> None:
    """Stop the job "again", and give it once more while its first run tidies up."""
    again = job("again", ("tell", "runs"), ("tidy", "tidied"), ("return", 1))
    platform.offer(again)
    await platform.told("again")
    platform.stop("again")
    await worker.logged("job again stopped by the platform")
    platform.offer(again, job("next", ("return", 2)))
    await platform.answered("next")


def test_a_job_that_is_given_anew_while_its_stopped_run_tidies_up_runs_after_it(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        await given_anew(platform, worker)
        assert len(platform.of("again", "progress")) == 1
        platform.open("go")
        platform.open("tidied")
        await platform.answered("again")
        assert len(platform.of("again", "progress")) == 2

    run(scenario, concurrency=3)


def test_a_job_that_is_given_anew_and_stopped_before_it_begins_anew_does_not(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        await given_anew(platform, worker)
        platform.stop("again")
        await worker.logged("job again stopped by the platform before it began anew")
        platform.open("go")
        platform.open("tidied")
        platform.offer(job("last", ("return", 3)))
        await platform.answered("last")
        assert len(platform.of("again", "progress")) == 1
        assert "again" not in platform.results()

    run(scenario, concurrency=3)


def test_a_job_that_is_stopped_before_its_first_step_gives_its_place_back() -> None:
    async def never(_: object) -> None:
        raise AssertionError("a stopped job was started")

    async def main() -> None:
        loop = Loop({"handler": never}, concurrency=1, stop_grace_s=1)
        loop._begin({"id": "early", "input": {}})
        task = loop._tasks["early"]
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
        assert loop._tasks == {}
        assert loop._told_to_ping.get_job_count() == 0

    asyncio.run(main())


def test_a_stop_channel_that_fails_leaves_the_jobs_alone_and_works_again(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.stop_status = 500
        platform.offer(job("running", ("tell", "runs"), ("gate", "never"), ("return", 1)))
        await platform.told("running")
        await worker.logged("the stop channel does not answer: 500")
        platform.stop_status = 200
        platform.stop("running")
        await worker.logged("job running stopped by the platform")

    run(scenario)


# The end of the worker


def test_an_idle_worker_hangs_up_and_ends_when_it_is_told(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        await platform.until(lambda: platform.listening)
        worker.terminate()
        assert await worker.ended() == 0
        assert len(platform.takes) == 1

    run(scenario)


def test_what_runs_is_finished_and_what_was_on_its_way_is_run_after_the_signal(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.offer(job("first", ("tell", "runs"), ("gate", "end"), ("return", 1)))
        await platform.told("first")
        await platform.until(lambda: platform.listening)
        worker.terminate()
        await worker.logged("stop signal")
        await asyncio.sleep(2 * LAST_CALL_S)  # now the poll is kept for the job's sake
        platform.offer(job("late", ("return", 2)))
        await platform.answered("late")
        platform.open("end")
        assert await worker.ended() == 0
        assert platform.results() == {"late": {"output": 2}, "first": {"output": 1}}
        assert len(platform.takes) == 2

    run(scenario, concurrency=3)


def test_a_result_whose_way_is_broken_still_arrives_after_the_signal(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.refusals["first"] = [503, 0]
        platform.offer(job("first", ("tell", "runs"), ("gate", "end"), ("return", 1)))
        await platform.told("first")
        worker.terminate()
        await worker.logged("stop signal")
        platform.open("end")
        assert await worker.ended() == 0
        assert platform.results() == {"first": {"output": 1}}

    run(scenario)


def test_what_outlasts_the_grace_is_left_unanswered_and_logged(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        endless = ("tell", "runs"), ("gate", "never"), ("return", 1)
        platform.offer(job("first", *endless))
        await platform.told("first")
        await platform.until(lambda: platform.listening)
        worker.terminate()
        await worker.logged("stop signal")
        platform.offer(job("late", *endless))
        assert await worker.ended() == 0
        await worker.logged("job first did not end within 3 s; left to the platform")
        await worker.logged("job late did not end within 3 s; left to the platform")
        assert platform.results() == {}

    run(scenario, concurrency=2, grace_s=3)


def test_a_job_that_comes_when_the_grace_is_over_is_not_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def never(_: object) -> None:
        raise AssertionError("the job was started")

    async def main() -> None:
        loop = Loop({"handler": never}, concurrency=1, stop_grace_s=1)
        loop._give_up()
        loop._begin({"id": "late", "input": {}})
        assert loop._tasks == {}

    asyncio.run(main())
    assert "job late came too late; left to the platform" in caplog.text


# A worker that asks to be replaced


def test_the_platform_is_asked_to_stop_the_worker_when_its_other_jobs_are_answered(
    run: Run,
) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.offer(job("sibling", ("tell", "runs"), ("gate", "end"), ("return", 1)))
        await platform.told("sibling")
        platform.offer(job("last", ("return", {"error": "engine_failed", "refresh_worker": True})))
        await worker.logged("job last asks for a fresh worker")
        platform.offer(job("on its way", ("return", 2)))
        await platform.answered("on its way")
        platform.open("end")
        assert await worker.ended() == 0
        assert list(platform.results().items()) == [
            ("on its way", {"output": 2}),
            ("sibling", {"output": 1}),
            ("last", {"stopPod": True, "error": "engine_failed"}),
        ]

    run(scenario, concurrency=3)


def test_of_several_jobs_that_ask_for_a_fresh_worker_the_last_answered_stops_it(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        refresh = {"error": "engine_failed", "refresh_worker": True}
        names = ["a", "b", "c"]
        platform.offer(*(job(n, ("tell", n), ("gate", "end"), ("return", refresh)) for n in names))
        for name in names:
            await platform.told(name)
        platform.open("end")
        assert await worker.ended() == 0
        results = list(platform.results().values())
        assert [result.get("stopPod") for result in results] == [None, None, True]

    run(scenario, concurrency=3)


def test_a_job_that_asks_for_a_fresh_worker_after_the_signal_is_answered(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        refresh = {"error": "engine_failed", "refresh_worker": True}
        platform.offer(job("a", ("tell", "runs"), ("gate", "end"), ("return", refresh)))
        await platform.told("a")
        worker.terminate()
        await worker.logged("stop signal")
        await asyncio.sleep(2 * LAST_CALL_S)  # from here on only the jobs are waited for
        platform.open("end")
        assert await worker.ended() == 0
        assert platform.results() == {"a": {"error": "engine_failed"}}

    run(scenario)


# Progress and streams


def test_progress_never_comes_after_the_result(run: Run) -> None:
    async def scenario(platform: Platform, _: Worker) -> None:
        platform.progress_takes_s = 0.3  # a platform that is slow to note it
        platform.open("pass")
        platform.offer(
            job(
                "a",
                ("tell", 1),
                ("tell and go on", 2),
                ("gate", "pass"),  # by now the second update is under way
                ("tell and go on", 3),
                ("tell after", "the result"),
                ("return", "end"),
            )
        )
        await platform.answered("a")
        platform.open("the result")
        platform.offer(job("b", ("tell", 1), ("return", "end")))
        await platform.answered("b")
        of_a = [message for message in platform.messages if message.job_id == "a"]
        assert [message.body for message in of_a] == [
            {"status": "IN_PROGRESS", "output": {"stage": 1}},
            {"status": "IN_PROGRESS", "output": {"stage": 2}},
            {"output": "end"},
        ]
        assert {message.request_id for message in of_a} == {"a"}

    run(scenario)


def test_a_stream_arrives_in_order_and_the_final_output_is_the_normal_one(run: Run) -> None:
    async def scenario(platform: Platform, _: Worker) -> None:
        platform.stream_refusals["a"] = [200, 503, 0]
        items = [{"text": f"número {number}"} for number in range(5)]
        platform.offer(job("a", *(("stream", item) for item in items), ("return", {"all": 5})))
        await platform.answered("a")
        arrived = [message for message in platform.of("a", "stream") if message.status == 200]
        assert [message.body for message in arrived] == [{"output": item} for item in items]
        (result,) = platform.of("a", "result")
        assert result.body == {"output": {"all": 5}}
        assert result.is_stream == "false"

    run(scenario)


def test_a_stream_that_breaks_ends_without_holes_and_the_job_goes_on(run: Run) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.stream_refusals["a"] = [200, 413]
        platform.offer(job("a", *(("stream", number) for number in range(4)), ("return", "all")))
        await platform.answered("a")
        await worker.logged("job a: its stream broke: HTTP 413")
        assert [message.body["output"] for message in platform.of("a", "stream")] == [0, 1]
        assert platform.results() == {"a": {"output": "all"}}

    run(scenario)


# The log, and the process that pings


@pytest.mark.parametrize(
    ("method", "args"),
    [("fork", ["--rp_log_level", "DEBUG"]), ("spawn", [])],
    ids=["by argument", "by environment, inherited by a process that imports the SDK anew"],
)
def test_no_transcript_and_no_key_is_logged_at_any_level(
    run: Run, method: str, args: list[str]
) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        platform.stop_status = 500
        platform.answer(web.Response(status=500))
        platform.refusals.update({"a": [500], "b": [404], "c": [413]})
        platform.stream_refusals["a"] = [413]
        steps = [("tell", SPOKEN), ("stream", SPOKEN), ("return", {"text": SPOKEN})]
        platform.offer(*(job(name, *steps) for name in ("a", "b", "c")))
        await platform.answered("a", "c")
        await worker.logged("job b: its result did not arrive")
        await platform.until(lambda: platform.pings)
        worker.terminate()
        assert await worker.ended() == 0
        assert SPOKEN not in worker.log
        assert KEY not in worker.log

    run(scenario, *args, concurrency=3, RUNPOD_LOG_LEVEL="DEBUG", START_METHOD=method)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pings_name_the_jobs_in_flight_and_nothing_is_loaded_twice(run: Run, method: str) -> None:
    async def scenario(platform: Platform, worker: Worker) -> None:
        for name in ("a", "b"):
            platform.offer(job(name, ("tell", "runs"), ("gate", name), ("return", 1)))
            await platform.told(name)
        await platform.until(lambda: {"a,b", "b,a"} & set(platform.pings))
        platform.open("a")
        await platform.answered("a")
        await platform.until(lambda: platform.pings[-1] == "b")
        platform.open("b")
        await platform.answered("b")
        assert worker.loads() == 1

    run(scenario, concurrency=2, START_METHOD=method)
