"""The gateway over real HTTP: a client and a worker by hand, then the SDK's own of both."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests

from sotto.gateway.app import Gateway, GatewayOptions
from sotto.net import sdk

KEY = "sesame"
PATIENCE_S = 60.0
MIB = 1024**2

HANDLER = '''
import asyncio
import os
from pathlib import Path

import runpod


async def answer(job):
    """Say how far it is, wait for a file, answer as told; leave a file when stopped."""
    given = job["input"]
    if "progress" in given:
        runpod.serverless.progress_update(job, given["progress"])
    try:
        while "wait_for" in given and not Path(given["wait_for"]).exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        Path(given["stopped"]).touch()
        raise
    return given["answer"]


async def parts(job):
    for part in job["input"]["parts"]:
        yield part


if __name__ == "__main__":
    runpod.serverless.start(
        {
            "handler": parts if "STREAMS" in os.environ else answer,
            "concurrency_modifier": lambda _: 4,
            "return_aggregate_stream": True,
        }
    )
'''


@contextmanager
def serving(**options: Any) -> Iterator[Gateway]:
    """A gateway in a thread of its own, so that clients may block as users' clients do."""
    gateway = Gateway(GatewayOptions(api_key=KEY, **{"poll_s": 0.5, **options}))
    opened: queue.Queue[Callable[[], object]] = queue.Queue()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        async with gateway:
            opened.put(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    stop = opened.get(timeout=PATIENCE_S)
    try:
        yield gateway
    finally:
        stop()
        thread.join()


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` finds once it is true."""
    until = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)
    return found


@dataclass
class Desk:
    """A gateway with a client and a worker by hand."""

    gateway: Gateway
    http: requests.Session = field(default_factory=requests.Session)

    def ask(self, method: str, path: str, **given: Any) -> requests.Response:
        """As a client, with its key unless other headers are given."""
        given = {"headers": {"Authorization": f"Bearer {KEY}"}, "timeout": PATIENCE_S, **given}
        return self.http.request(method, self.gateway.endpoint_url + path, **given)

    def run(self, **job: Any) -> str:
        response = self.ask("POST", "/run", json={"input": {}, **job})
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/status/{job_id}").json())

    def url(self, variable: str, worker: str = "w", job: str = "") -> str:
        """An address of the worker's side, filled in as the SDK does."""
        template = self.gateway.worker_environment(worker)[f"RUNPOD_WEBHOOK_{variable}"]
        if variable == "GET_JOB":
            return template.replace("$ID", worker)
        return template.replace("$RUNPOD_POD_ID", worker).replace("$ID", job)

    def poll(self, worker: str = "w") -> requests.Response:
        return self.http.get(self.url("GET_JOB", worker), timeout=PATIENCE_S)

    def take(self, worker: str = "w") -> dict[str, Any]:
        """The next job, for which the worker polls again and again."""
        response = eventually(lambda: (r := self.poll(worker)).status_code == 200 and r)
        return dict(response.json())

    def post(self, variable: str, job_id: str, body: Any, worker: str = "w") -> requests.Response:
        """A result or a part of one: JSON that calls itself a form, as the SDK sends it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(
            f"{self.url(variable, worker, job_id)}&isStream=false",
            data=data,
            headers={"Content-Type": "application/x-www-form-urlencoded", "charset": "utf-8"},
            timeout=PATIENCE_S,
        )

    def done(self, job_id: str, **result: Any) -> None:
        response = self.post("POST_OUTPUT", job_id, result)
        assert response.status_code == 200, response.text


@contextmanager
def at_desk(**options: Any) -> Iterator[Desk]:
    with serving(**options) as gateway:
        desk = Desk(gateway)
        with desk.http:
            yield desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    with at_desk() as desk:
        yield desk


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """For calls that only return when this thread does something."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextmanager
def raw_request(url: str, method: str = "GET", **headers: str) -> Iterator[socket.socket]:
    """A request of which nothing is read; leaving hangs up."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


# Bad requests


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "body: "),
        (b"{", "body: "),
        (b"[]", "body: Expected `object`"),
        (b"null", "body: Expected `object`"),
        (b"{}", "input"),
        (b'{"input": null}', "$.input"),
        (b'{"input": "x"}', "$.input"),
        (b'{"input": [1]}', "$.input"),
        (b'{"input": {"x": NaN}}', "body: "),
        (b'{"input": {"x": "\xff"}}', "body: "),
        (b'{"input": {"x": ' + b"[" * 100_000, "body: nested too deeply"),
        (b'{"input": {}, "webhook": "ftp://example.org"}', "$.webhook"),
        (b'{"input": {}, "webhook": 5}', "$.webhook"),
        (b'{"input": {}, "s3Config": "x"}', "$.s3Config"),
        (b'{"input": {}, "policy": []}', "$.policy"),
        (b'{"input": {}, "policy": {"executionTimeout": 4999}}', "$.policy.executionTimeout"),
        (b'{"input": {}, "policy": {"executionTimeout": 604800001}}', "$.policy.executionTimeout"),
        (b'{"input": {}, "policy": {"executionTimeout": "1e9"}}', "$.policy.executionTimeout"),
        (b'{"input": {}, "policy": {"ttl": 9999}}', "$.policy.ttl"),
        (b'{"input": {}, "policy": {"lowPriority": 1}}', "$.policy.lowPriority"),
    ],
)
@pytest.mark.parametrize("path", ["/run", "/runsync"])
def test_a_body_that_is_no_job_is_refused_with_its_fault(
    desk: Desk, path: str, body: bytes, told: str
) -> None:
    response = desk.ask("POST", path, data=body)
    assert response.status_code == 400
    assert told in response.json()["error"]
    assert desk.gateway.jobs.in_queue() == 0


@pytest.mark.parametrize("wait", ["", "0", "999", "300001", "-1", "1e4", "nan", "9" * 5000, "٣٣٣٣"])
def test_a_wait_that_is_no_number_of_milliseconds_is_refused(desk: Desk, wait: str) -> None:
    response = desk.ask("POST", "/runsync", params={"wait": wait}, json={"input": {}})
    assert response.status_code == 400
    assert "use 1000 to 300000 milliseconds" in response.json()["error"]
    assert desk.gateway.jobs.in_queue() == 0


@pytest.mark.parametrize(
    ("path", "mib", "code"), [("/run", 11, 413), ("/runsync", 11, 200), ("/runsync", 21, 413)]
)
def test_a_body_over_the_limit_of_its_route_is_refused(
    desk: Desk, path: str, mib: int, code: int
) -> None:
    body = json.dumps({"input": {"audio_base64": "A" * mib * MIB}})
    assert desk.ask("POST", path, params={"wait": 1000}, data=body).status_code == code


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/run", "/runsync", "/openai/v1/audio/transcriptions"])
def test_a_body_that_is_not_in_the_encoding_it_claims_is_refused(
    desk: Desk, path: str, encoding: str
) -> None:
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Encoding": encoding,
        "Content-Type": "application/json",
    }
    response = desk.ask("POST", path, data=b'{"input": {}}', headers=headers)
    assert response.status_code == 400
    assert "body: cannot be read in its Content-Encoding" in str(response.json()["error"])
    assert desk.gateway.jobs.in_queue() == 0


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": b"\xff\xfe"}],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/run"), ("GET", "/status/x"), ("GET", "/health"), ("POST", "/openai/v1/models")],
)
def test_without_the_key_nothing_is_answered(
    desk: Desk, method: str, path: str, headers: dict[str, str]
) -> None:
    response = desk.ask(method, path, headers=headers, json={"input": {}})
    assert response.status_code == 401
    assert "API key" in response.json()["error"]


def test_the_key_is_taken_without_the_word_before_it(desk: Desk) -> None:
    assert desk.ask("GET", "/health", headers={"Authorization": KEY}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/status/no"),
        ("GET", "/stream/no"),
        ("POST", "/cancel/no"),
        ("POST", "/retry/no"),
        ("GET", "/status/"),
        ("GET", "/status/no/more"),
        ("GET", "/nothing"),
        ("POST", "/../other/run"),
    ],
)
def test_what_is_not_here_is_not_found(desk: Desk, method: str, path: str) -> None:
    response = desk.ask(method, path)
    assert response.status_code == 404
    assert response.json()["error"]


def test_a_job_that_did_not_fail_is_not_retried(desk: Desk) -> None:
    job_id = desk.run()
    response = desk.ask("POST", f"/retry/{job_id}")
    assert response.status_code == 409
    assert "only FAILED or TIMED_OUT" in response.json()["error"]


# Bad workers


@pytest.mark.parametrize("key", ["", "?key=wrong", "?key=" + KEY])
def test_a_worker_without_its_own_key_gets_nothing(desk: Desk, key: str) -> None:
    job_id = desk.run()
    url = desk.url("GET_JOB").partition("?")[0] + key
    assert desk.http.get(url, timeout=PATIENCE_S).status_code == 401
    assert desk.status(job_id)["status"] == "IN_QUEUE"


@pytest.mark.parametrize("size", ["", "0", "-1", "many", "9" * 5000])
def test_a_batch_needs_a_size(desk: Desk, size: str) -> None:
    url = desk.url("GET_JOB").replace("/job-take/", "/job-take-batch/")
    response = desk.http.get(f"{url}&batch_size={size}", timeout=PATIENCE_S)
    assert response.status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"output": NaN}', b'{"status": "DONE"}'])
def test_a_result_that_cannot_be_read_is_refused_and_may_come_again(
    desk: Desk, body: bytes
) -> None:
    job_id = desk.run()
    desk.take()
    assert desk.post("POST_OUTPUT", job_id, body).status_code == 400
    assert desk.status(job_id)["status"] == "IN_PROGRESS"
    desk.done(job_id, output="answer")
    assert desk.status(job_id)["output"] == "answer"


@pytest.mark.parametrize("mib", [11, 65])
def test_a_result_over_the_limit_is_refused_and_an_error_may_come_instead(
    desk: Desk, mib: int
) -> None:
    job_id = desk.run()
    desk.take()
    response = desk.post("POST_OUTPUT", job_id, {"output": "A" * mib * MIB})
    assert response.status_code in (400, 413)
    assert desk.status(job_id)["status"] == "IN_PROGRESS"
    desk.done(job_id, error="too large")
    assert desk.status(job_id)["status"] == "FAILED"


@pytest.mark.parametrize("variable", ["POST_OUTPUT", "POST_STREAM"])
def test_what_is_posted_for_a_job_of_another_worker_is_refused(desk: Desk, variable: str) -> None:
    job_id = desk.run()
    desk.take()
    assert desk.post(variable, job_id, {"output": 1}, worker="other").status_code == 409
    assert desk.post(variable, "no", {"output": 1}).status_code == 404
    desk.done(job_id, output="mine")
    assert desk.post(variable, job_id, {"output": "again"}).status_code == 409
    assert desk.status(job_id)["output"] == "mine"


def test_a_worker_that_hangs_up_before_its_job_comes_loses_none(desk: Desk) -> None:
    with raw_request(desk.url("GET_JOB", "gone")):
        eventually(lambda: desk.ask("GET", "/health").json()["workers"]["idle"])
    job_id = desk.run()
    assert desk.take("other")["id"] == job_id


def test_a_job_that_a_worker_gets_in_part_only_goes_to_another() -> None:
    with at_desk() as desk:
        job_id = desk.run(input={"audio_base64": "A" * 9 * MIB})
        with raw_request(desk.url("GET_JOB", "gone")):
            eventually(lambda: desk.status(job_id)["status"] == "IN_PROGRESS")
        assert desk.take("other")["id"] == job_id


# A job's life, as clients see it


def test_a_job_has_its_shape_in_every_state(desk: Desk) -> None:
    answer = desk.ask("POST", "/run", json={"input": {"audio": "x"}, "webhook": None}).json()
    job_id = answer["id"]
    assert re.fullmatch(r"[0-9a-f-]{36}-u1", job_id)
    assert answer == {"id": job_id, "status": "IN_QUEUE"}
    assert desk.status(job_id) == answer
    assert desk.take() == {"id": job_id, "input": {"audio": "x"}}
    status = desk.status(job_id)
    assert status.pop("delayTime") >= 0
    assert status == {"id": job_id, "status": "IN_PROGRESS", "workerId": "w"}
    desk.done(job_id, output={"text": "grüß ✓"})
    status = desk.status(job_id)
    assert status.pop("delayTime") >= 0
    assert status.pop("executionTime") >= 0
    assert status == {
        "id": job_id,
        "status": "COMPLETED",
        "output": {"text": "grüß ✓"},
        "workerId": "w",
    }


def test_a_failure_keeps_its_details_and_can_be_retried(desk: Desk) -> None:
    job_id = desk.run(input={"audio": "x"})
    desk.take()
    desk.done(job_id, error="internal: it broke", output={"code": "internal"})
    status = desk.status(job_id)
    assert (status["status"], status["error"]) == ("FAILED", "internal: it broke")
    assert status["output"] == {"code": "internal"}
    again = desk.ask("POST", f"/retry/{job_id}").json()
    assert again == {"id": job_id, "status": "IN_QUEUE"} == desk.status(job_id)
    assert desk.take() == {"id": job_id, "input": {"audio": "x"}}
    assert desk.ask("GET", "/health").json()["jobs"]["retried"] == 1


def test_progress_is_shown_until_the_result_comes(desk: Desk) -> None:
    job_id = desk.run()
    desk.take()
    desk.done(job_id, status="IN_PROGRESS", output={"stage": "decode"})
    status = desk.status(job_id)
    assert (status["status"], status["output"]) == ("IN_PROGRESS", {"stage": "decode"})
    desk.done(job_id, output="answer")
    assert desk.status(job_id)["output"] == "answer"


def test_a_store_is_the_workers_business_and_no_clients(desk: Desk) -> None:
    config = {"accessId": "a", "accessSecret": "s3cret", "bucketName": "b", "endpointUrl": "u"}
    job_id = desk.run(s3Config=config)
    assert desk.take()["s3Config"] == config
    desk.done(job_id, output=1)
    assert "s3cret" not in json.dumps(desk.status(job_id))


def test_a_policy_rules_over_the_endpoints(desk: Desk) -> None:
    policy = {"executionTimeout": 5000, "ttl": 10000, "lowPriority": True}
    job = desk.gateway.jobs.get(desk.run(policy=policy))
    assert job.order.policy.execution_timeout_s == 5
    assert job.order.policy.ttl_s == 10
    assert job.order.policy.low_priority
    other = desk.gateway.jobs.get(desk.run(policy={"ttl": 60_000}))
    assert other.order.policy.execution_timeout_s == 600
    assert not other.order.policy.low_priority


@pytest.mark.parametrize(
    "given",
    [
        {"webhook": None, "policy": None, "s3Config": None},
        {"policy": {"executionTimeout": None, "ttl": None, "lowPriority": None}},
    ],
)
def test_null_is_the_same_as_not_given(desk: Desk, given: dict[str, Any]) -> None:
    plain, nulls = (desk.gateway.jobs.get(desk.run(**job)).order for job in ({}, given))
    assert nulls == plain


def test_runsync_answers_with_the_result(desk: Desk, elsewhere: ThreadPoolExecutor) -> None:
    asked = elsewhere.submit(desk.ask, "POST", "/runsync", json={"input": {}})
    job_id = desk.take()["id"]
    desk.done(job_id, output=[1])
    answer = asked.result(PATIENCE_S).json()
    assert answer["id"].startswith("sync-")
    assert answer == desk.status(job_id)
    assert answer["output"] == [1]


@pytest.mark.parametrize(("is_taken", "state"), [(False, "IN_QUEUE"), (True, "IN_PROGRESS")])
def test_runsync_answers_without_it_when_its_wait_is_over(
    desk: Desk, elsewhere: ThreadPoolExecutor, is_taken: bool, state: str
) -> None:
    asked = elsewhere.submit(desk.ask, "POST", "/runsync?wait=1000", json={"input": {}})
    if is_taken:
        desk.take()
    answer = asked.result(PATIENCE_S).json()
    assert answer["status"] == state
    assert desk.status(answer["id"])["status"] == state


def test_a_stream_gives_each_part_once(desk: Desk) -> None:
    job_id = desk.run()
    desk.take()
    for part in ("one", {"start": 0.5}):
        assert desk.post("POST_STREAM", job_id, {"output": part}).status_code == 200
    assert desk.ask("GET", f"/stream/{job_id}").json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": "one"}, {"output": {"start": 0.5}}],
    }
    assert desk.ask("GET", f"/stream/{job_id}").json()["stream"] == []
    desk.done(job_id, output="whole")
    assert desk.ask("GET", f"/stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}
    assert desk.status(job_id)["output"] == "whole"


def test_the_worker_of_a_cancelled_job_is_told(desk: Desk) -> None:
    job_id = desk.run()
    desk.take()
    stop_url = desk.url("GET_JOB").replace("/job-take/", "/job-stop/")
    assert desk.http.get(stop_url, timeout=PATIENCE_S).status_code == 204
    answer = desk.ask("POST", f"/cancel/{job_id}").json()
    assert answer == {"id": job_id, "status": "CANCELLED"}
    assert desk.http.get(stop_url, timeout=PATIENCE_S).json() == {"jobsToStop": [job_id]}
    assert desk.post("POST_OUTPUT", job_id, {"output": 1}).status_code == 409
    assert desk.ask("POST", f"/cancel/{job_id}").json() == answer


def test_purging_leaves_what_runs(desk: Desk) -> None:
    held = desk.run()
    desk.take()
    waiting = [desk.run() for _ in range(2)]
    assert desk.ask("POST", "/purge-queue").json() == {"removed": 2, "status": "completed"}
    states = [desk.status(job_id)["status"] for job_id in [held, *waiting]]
    assert states == ["IN_PROGRESS", "CANCELLED", "CANCELLED"]


def test_health_counts_jobs_and_workers(desk: Desk) -> None:
    desk.gateway.jobs.workers.expect("starting")
    ids = [desk.run() for _ in range(4)]
    for job_id, result in zip(ids, ({"output": 1}, {"error": "no"}), strict=False):
        assert desk.take()["id"] == job_id
        desk.done(job_id, **result)
    desk.take()
    assert desk.ask("GET", "/health").json() == {
        "jobs": {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {
            "idle": 0,
            "running": 1,
            "initializing": 1,
            "ready": 1,
            "throttled": 0,
            "unhealthy": 0,
        },
    }


# What workers get


def test_a_poll_waits_for_a_job_and_ends_without(desk: Desk, elsewhere: ThreadPoolExecutor) -> None:
    assert desk.poll().status_code == 204
    with at_desk(poll_s=PATIENCE_S) as patient:
        polled = elsewhere.submit(patient.poll)
        eventually(lambda: patient.ask("GET", "/health").json()["workers"]["idle"])
        job_id = patient.run()
        assert polled.result(PATIENCE_S).json() == {"id": job_id, "input": {}}


def test_a_batch_is_a_list_of_what_there_is_up_to_its_size(desk: Desk) -> None:
    ids = [desk.run() for _ in range(3)]
    url = desk.url("GET_JOB").replace("/job-take/", "/job-take-batch/")
    batches = [
        desk.http.get(f"{url}&batch_size=2&job_in_progress=0", timeout=PATIENCE_S).json()
        for _ in range(2)
    ]
    assert [[job["id"] for job in batch] for batch in batches] == [ids[:2], ids[2:]]


def test_a_worker_that_wants_to_be_replaced_gets_no_more_jobs(desk: Desk) -> None:
    first, second = desk.run(), desk.run()
    desk.take()
    desk.done(first, output=1, stopPod=True)
    assert desk.status(first)["status"] == "COMPLETED"
    assert desk.poll().status_code == 204
    assert desk.take("other")["id"] == second


def test_a_ping_is_answered_and_makes_nobody_a_worker(desk: Desk) -> None:
    url = f"{desk.url('PING', 'ghost')}&job_id=a,b&runpod_version=1.12.0"
    assert desk.http.get(url, timeout=PATIENCE_S).status_code == 200
    assert desk.ask("GET", "/health").json()["workers"]["ready"] == 0


# Webhooks


@dataclass
class Receiver:
    """An address for webhooks: gives the codes in turn, then 200; keeps what it was sent."""

    codes: list[int]
    received: queue.Queue[tuple[str, dict[str, Any]]] = field(default_factory=queue.Queue)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = receiver.codes.pop(0) if receiver.codes else 200
                self.send_response(code)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.received.put((self.path, json.loads(body)))

            def do_GET(self) -> None:
                """Where a redirect would lead."""
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook?token=t0ken"

    def next(self) -> tuple[str, dict[str, Any]]:
        return self.received.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("codes", [[], [500], [204, 302]])
def test_a_webhook_is_called_until_it_answers_200(codes: list[int]) -> None:
    calls = len(codes) + 1
    with at_desk(webhook_interval_s=0.01) as desk, Receiver(codes) as receiver:
        job_id = desk.run(webhook=receiver.url)
        desk.take()
        desk.done(job_id, output={"text": "ü"})
        expected = ("/hook?token=t0ken", desk.status(job_id))
        assert [receiver.next() for _ in range(calls)] == [expected] * calls
        follow_up = desk.run(webhook=receiver.url)
        desk.ask("POST", f"/cancel/{follow_up}")
        assert receiver.next()[1]["id"] == follow_up


def test_a_webhook_that_takes_no_call_is_given_up_and_its_address_kept_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with at_desk(webhook_interval_s=0.01) as desk, Receiver([500] * 9) as receiver:
        job_id = desk.run(webhook=receiver.url)
        desk.ask("POST", f"/cancel/{job_id}")
        assert [receiver.next()[1]["status"] for _ in range(3)] == ["CANCELLED"] * 3
        eventually(lambda: caplog.records)
    assert receiver.received.empty()
    assert caplog.messages == [f"job {job_id}: its webhook took none of 3 calls"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::", "http://a..b/", "http://x:99999/", "http://\u0001"]
)
def test_a_webhook_that_cannot_be_called_hurts_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with at_desk(webhook_interval_s=0.01) as desk:
        job_id = desk.run(webhook=url)
        desk.ask("POST", f"/cancel/{job_id}")
        eventually(lambda: caplog.records)
    assert caplog.messages == [f"job {job_id}: its webhook took none of 3 calls"]


def test_a_webhook_that_never_answers_holds_nothing_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, at_desk() as desk:
        job_id = desk.run(webhook=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        desk.take()
        desk.done(job_id, output=1)
        assert desk.status(job_id)["status"] == "COMPLETED"


# The OpenAI route


TRANSCRIPTIONS = "/openai/v1/audio/transcriptions"


def call(desk: Desk, threads: ThreadPoolExecutor, **given: Any) -> Future[requests.Response]:
    given = {"json": {"file": "https://example.org/a.wav"}, **given}
    return threads.submit(desk.ask, "POST", TRANSCRIPTIONS, **given)


def test_an_upload_as_a_form_is_refused_in_that_apis_shape(desk: Desk) -> None:
    response = desk.ask("POST", TRANSCRIPTIONS, files={"file": ("a.wav", b"RIFF")})
    assert response.status_code == 415
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "multipart/form-data" in error["message"]
    assert "application/json" in error["message"]
    assert desk.gateway.jobs.in_queue() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", 400), (b"[]", 400), (b"null", 400), (b"{", 400), (b'"' + b"A" * 21 * MIB, 413)],
)
def test_a_call_that_is_no_object_is_refused_in_that_apis_shape(
    desk: Desk, body: bytes, code: int
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    response = desk.ask("POST", TRANSCRIPTIONS, data=body, headers=headers)
    assert response.status_code == code
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("output", "content_type", "text"),
    [
        ({"text": "ja ✓"}, "application/json", '{"text":"ja ✓"}'),
        ("WEBVTT\n\nja ✓", "text/plain", "WEBVTT\n\nja ✓"),
        ("", "text/plain", ""),
    ],
)
def test_the_output_of_a_call_is_its_answer(
    desk: Desk, elsewhere: ThreadPoolExecutor, output: Any, content_type: str, text: str
) -> None:
    asked = call(desk, elsewhere)
    job = desk.take()
    assert job["input"] == {
        "openai_route": "/v1/audio/transcriptions",
        "openai_input": {"file": "https://example.org/a.wav"},
    }
    desk.done(job["id"], output=output)
    response = asked.result(PATIENCE_S)
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == content_type
    assert response.content.decode() == text


def test_a_call_without_a_body_has_no_input(desk: Desk, elsewhere: ThreadPoolExecutor) -> None:
    asked = elsewhere.submit(desk.ask, "GET", "/openai/v1/models")
    job = desk.take()
    assert job["input"] == {"openai_route": "/v1/models"}
    desk.done(job["id"], output={"object": "list", "data": []})
    assert asked.result(PATIENCE_S).json() == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("kind", "code"),
    [("invalid_request_error", 400), ("server_error", 500), (None, 500), ([], 500)],
)
def test_an_error_in_that_apis_shape_is_answered_as_it_is(
    desk: Desk, elsewhere: ThreadPoolExecutor, kind: Any, code: int
) -> None:
    error = {"message": "no such file", "type": kind, "param": "file", "code": None}
    asked = call(desk, elsewhere)
    desk.done(desk.take()["id"], error=error)
    response = asked.result(PATIENCE_S)
    assert response.status_code == code
    assert response.json() == {"error": error}


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_any_other_end_of_a_call_is_a_server_error(
    desk: Desk, elsewhere: ThreadPoolExecutor, how: str
) -> None:
    asked = call(desk, elsewhere)
    job_id = desk.take()["id"]
    if how == "failed":
        desk.done(job_id, error="internal: it broke")
    else:
        desk.ask("POST", f"/cancel/{job_id}")
    response = asked.result(PATIENCE_S)
    assert response.status_code == 500
    error = response.json()["error"]
    assert error["type"] == "server_error"
    assert error["message"] == ("internal: it broke" if how == "failed" else "the job is CANCELLED")


def test_a_call_whose_caller_hangs_up_is_cancelled(desk: Desk) -> None:
    url = f"{desk.gateway.endpoint_url}/openai/v1/models"
    with raw_request(url, Authorization=KEY):
        job_id = desk.take()["id"]
    eventually(lambda: desk.status(job_id)["status"] == "CANCELLED")


# Opening and closing


def test_a_port_that_is_taken_is_an_os_error() -> None:
    async def open_on(port: int) -> None:
        async with Gateway(GatewayOptions(api_key=KEY, port=port)):
            raise AssertionError("it cannot listen there")

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        asyncio.run(open_on(taken.getsockname()[1]))


def test_closing_does_not_wait_for_open_polls(elsewhere: ThreadPoolExecutor) -> None:
    with at_desk(poll_s=10 * PATIENCE_S) as desk:
        polled = elsewhere.submit(desk.poll)
        eventually(lambda: desk.ask("GET", "/health").json()["workers"]["idle"])
    with pytest.raises(requests.ConnectionError):
        polled.result(PATIENCE_S)


class Recorder:
    """A pool that writes down when it is opened and closed, and whether the gateway answers."""

    unhealthy = 2

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.seen: list[tuple[str, int]] = []

    async def start(self) -> None:
        self.seen.append(("start", await self._answers()))

    async def close(self) -> None:
        self.seen.append(("close", await self._answers()))

    async def _answers(self) -> int:
        headers = {"Authorization": KEY}
        url = f"{self.gateway.endpoint_url}/health"
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
            unhealthy: int = (await response.json())["workers"]["unhealthy"]
            return unhealthy


@pytest.mark.parametrize("fails", [False, True])
def test_workers_find_the_gateway_from_their_first_to_their_last_moment(fails: bool) -> None:
    pools: list[Recorder] = []

    def pool(gateway: Gateway) -> Recorder:
        pools.append(Recorder(gateway))
        return pools[0]

    async def use() -> None:
        async with Gateway(GatewayOptions(api_key=KEY), pool):
            if fails:
                raise LookupError

    if fails:
        with pytest.raises(LookupError):
            asyncio.run(use())
    else:
        asyncio.run(use())
    assert pools[0].seen == [("start", 2), ("close", 2)]


# The SDK's own client and its own worker


@contextmanager
def sdk_worker(folder: Path, **environ: str) -> Iterator[Gateway]:
    """A gateway with a worker that the SDK runs, in a process of its own."""
    (folder / "handler.py").write_text(HANDLER, encoding="utf-8")
    with serving() as gateway:
        worker = subprocess.Popen(
            [sys.executable, "handler.py"],
            cwd=folder,
            env={**os.environ, **gateway.worker_environment("sdk"), **environ},
            start_new_session=True,
        )
        try:
            eventually(lambda: gateway.jobs.workers.is_ready("sdk"))
            yield gateway
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with sdk_worker(tmp_path_factory.mktemp("answering")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with sdk_worker(tmp_path_factory.mktemp("streaming"), STREAMS="1") as gateway:
        yield gateway


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Gateway], Any]]:
    """The SDK's client of a gateway."""
    runpod, opened = sdk.load(), []

    def of(gateway: Gateway, key: str = KEY) -> Any:
        monkeypatch.setattr(runpod, "endpoint_url_base", gateway.client_url)
        opened.append(runpod.Endpoint("local", api_key=key))
        return opened[-1]

    yield of
    for client in opened:
        client.rp_client.rp_session.close()


def test_the_client_is_told_of_a_wrong_key(answering: Gateway, endpoint: Any) -> None:
    with pytest.raises(RuntimeError, match="401"):
        endpoint(answering, key="wrong").health()


def test_the_client_runs_a_job_and_waits_for_it(answering: Gateway, endpoint: Any) -> None:
    assert endpoint(answering).run_sync({"answer": {"text": "ü"}}) == {"text": "ü"}


def test_the_client_runs_a_job_and_asks_for_it(answering: Gateway, endpoint: Any) -> None:
    job = endpoint(answering).run({"input": {"answer": [1, None]}})
    assert job.output(timeout=60) == [1, None]
    assert job.status() == "COMPLETED"


def test_the_client_sees_progress_and_the_failure_after_it(
    answering: Gateway, endpoint: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    failure = {"error": "invalid_request: no", "code": "invalid_request"}
    job = endpoint(answering).run({"progress": "half", "wait_for": str(go), "answer": failure})
    eventually(lambda: job._fetch_job().get("output") == "half")
    assert job.status() == "IN_PROGRESS"
    go.touch()
    assert job.output(timeout=60) == {"code": "invalid_request"}
    assert job.status() == "FAILED"
    assert job._fetch_job()["error"] == "invalid_request: no"


def test_the_client_cancels_a_job_that_runs_and_its_worker_lives_on(
    answering: Gateway, endpoint: Any, tmp_path: Path
) -> None:
    client, stopped = endpoint(answering), tmp_path / "stopped"
    job = client.run({"progress": "begun", "wait_for": "never", "stopped": str(stopped)})
    # The SDK's worker is deaf to the stop of a job that it has not begun yet.
    eventually(lambda: job._fetch_job().get("output") == "begun")
    assert job.status() == "IN_PROGRESS"
    assert job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    eventually(stopped.exists)
    assert job.status() == "CANCELLED"
    assert client.run_sync({"answer": "still here"}) == "still here"


def test_the_client_reads_health_and_empties_the_queue(answering: Gateway, endpoint: Any) -> None:
    client = endpoint(answering)
    assert client.run_sync({"answer": 1}) == 1
    health = client.health()
    assert health["jobs"]["completed"] >= 1
    assert health["workers"]["ready"] == 1
    assert client.purge_queue() == {"removed": 0, "status": "completed"}


def test_many_jobs_at_once_are_each_answered(
    answering: Gateway, endpoint: Any, elsewhere: ThreadPoolExecutor
) -> None:
    client = endpoint(answering)
    answers = elsewhere.map(lambda number: client.run_sync({"answer": number}), range(1, 13))
    assert list(answers) == list(range(1, 13))


def test_the_client_follows_a_stream(streaming: Gateway, endpoint: Any) -> None:
    job = endpoint(streaming).run({"parts": ["one", {"start": 2}, "three"]})
    assert list(job.stream()) == ["one", {"start": 2}, "three"]
    assert job.output() == ["one", {"start": 2}, "three"]


def test_the_async_client_runs_streams_and_cancels(
    streaming: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    runpod = sdk.load()
    monkeypatch.setattr(runpod, "endpoint_url_base", streaming.client_url)

    async def use() -> tuple[list[Any], Any, dict[str, Any]]:
        async with aiohttp.ClientSession() as http:
            client = runpod.AsyncioEndpoint("local", http, api_key=KEY)
            job = await client.run({"parts": [1, 2]})
            parts = [part async for part in job.stream()]
            return parts, await job.output(timeout=60), await job.cancel()

    parts, output, cancelled = asyncio.run(use())
    assert parts == output == [1, 2]
    assert cancelled["status"] == "COMPLETED"
