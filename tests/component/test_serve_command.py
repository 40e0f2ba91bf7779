"""`sotto serve` in a process of its own, as a person starts and stops it."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
from tests.processes import is_gone
from tests.sound import wav

COMMAND = [sys.executable, "-m", "sotto", "serve"]
HANG_S = 90
FAKE = """
name = "desk"
workers.max = 1
env.SOTTO_ENGINE = "fake"
"""
SOUND = wav(np.random.default_rng(0).normal(0, 0.1, 16_000).clip(-1, 1))
SPOKEN = {"input": {"audio_base64": base64.b64encode(SOUND).decode()}}


@pytest.fixture
def endpoint(tmp_path: Path) -> Path:
    path = tmp_path / "endpoint.toml"
    path.write_text(FAKE, encoding="utf-8")
    return path


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> dict[str, str]:
    """What it was started with."""
    entries = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


class Serving:
    """The command while it runs; `errors`: what it logs."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors

    def greeting(self) -> tuple[str, str]:
        """The address of the endpoint and its key, from the line to try."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "curl" in line:
                found = re.search(r'curl -s (\S+)/runsync -H "Authorization: Bearer (\S+)"', line)
                assert found is not None, line
                return found[1], found[2]
        pytest.fail(self.log())

    def stop(self, number: int) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(HANG_S)

    def await_log(self, text: str) -> None:
        """Return once `text` has been logged."""
        wait_until(lambda: text in self.log())

    def log(self) -> str:
        return self._errors.read_text(encoding="utf-8")


@contextmanager
def serving(endpoint: Path, *args: str, **environ: str) -> Iterator[Serving]:
    errors = endpoint.with_name("log.txt")
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "--endpoint", str(endpoint), "--port", "0", *args],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield Serving(process, errors)
        finally:
            process.kill()


def wait_until(look: Callable[[], bool]) -> None:
    """Return once `look` says so."""
    until = time.monotonic() + HANG_S
    while not look():
        assert time.monotonic() < until
        time.sleep(0.05)


def refused(*args: str) -> str:
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


# What cannot be served


def test_all_faults_of_the_endpoint_are_told_before_anything_starts(endpoint: Path) -> None:
    endpoint.write_text('name = "x"\ntype = "load-balancer"\n', encoding="utf-8")
    rows = refused("--endpoint", str(endpoint)).splitlines()
    assert [row.split(": ")[:2] for row in rows] == [
        [f"{endpoint}:1", "name"],
        [f"{endpoint}:2", "type"],
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    told = refused("--endpoint", str(tmp_path / "none.toml"))
    assert told.startswith(f"{tmp_path}/none.toml: cannot be read: ")


def test_a_port_that_is_taken_is_told(endpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refused("--endpoint", str(endpoint), "--port", port)
    assert told.startswith(f"--host, --port: 127.0.0.1 port {port}: ")


@pytest.mark.parametrize("port", ["65536", "-1", "http", "", "٣"])
def test_what_is_no_port_is_refused(endpoint: Path, port: str) -> None:
    done = subprocess.run(
        [*COMMAND, f"--port={port}"], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 2
    assert "is no port; use a number from 0 to 65535" in done.stderr


@pytest.mark.parametrize("args", [["--host", "0.0.0.0"], ["--key", ""]])
def test_an_endpoint_that_others_may_reach_needs_a_key(endpoint: Path, args: list[str]) -> None:
    assert refused("--endpoint", str(endpoint), *args).startswith("--key: give one")


# What can


def test_the_line_to_try_works_and_an_interrupt_ends_it_all(endpoint: Path) -> None:
    with serving(endpoint) as one:
        url, key = one.greeting()
        assert url.endswith("/v2/desk")
        answer = requests.post(
            f"{url}/runsync",
            json=SPOKEN,
            headers={"Authorization": f"Bearer {key}"},
            timeout=HANG_S,
        ).json()
        assert answer["status"] == "COMPLETED", answer
        assert answer["output"]["duration"] == 1.0
        assert one.stop(signal.SIGINT) == 0, one.log()
    assert "worker-1: ended, exit code 0" in one.log()
    assert "Traceback" not in one.log()


def test_the_environment_of_the_command_goes_before_that_of_the_file(endpoint: Path) -> None:
    with serving(endpoint, "--key", "sesame", SOTTO_ENGINE="nonsense") as one:
        url, key = one.greeting()
        headers = {"Authorization": "Bearer sesame"}
        job = requests.post(f"{url}/run", json=SPOKEN, headers=headers, timeout=HANG_S).json()
        assert job["status"] == "IN_QUEUE"
        one.await_log("worker-1: SOTTO_ENGINE: 'nonsense' is not allowed")
        assert one.stop(signal.SIGTERM) == 0, one.log()
    assert key == "$API_KEY"
    assert "sesame" not in one.log()
    assert "Traceback" not in one.log()


@pytest.mark.parametrize(
    ("filed", "given"),
    [
        ("timeout_s = 3600", "3585"),
        ("timeout_s = 20", "5"),
        ("timeout_s = 10", None),
        ('timeout_s = 3600\nenv.SOTTO_JOB_TIMEOUT_S = "7"', "7"),
    ],
)
def test_the_workers_stop_a_job_before_the_endpoint_does(
    endpoint: Path, filed: str, given: str | None
) -> None:
    endpoint.write_text(f"{FAKE}\nworkers.min = 1\n{filed}\n", encoding="utf-8")
    with serving(endpoint) as one:
        one.greeting()
        one.await_log("worker-1: ready")
        environments = [environment(pid) for pid in children(one.process.pid)]
        found = [env.get("SOTTO_JOB_TIMEOUT_S") for env in environments if "RUNPOD_POD_ID" in env]
        assert found == [given]
        assert one.stop(signal.SIGTERM) == 0, one.log()


@pytest.mark.parametrize(
    ("filed", "given"), [("0.25", {}), ("600", {"SOTTO_STOP_GRACE_S": " 0.25 "})]
)
def test_a_worker_that_must_stop_is_killed_only_after_its_own_grace(
    endpoint: Path, filed: str, given: dict[str, str]
) -> None:
    endpoint.write_text(
        f'{FAKE}\nworkers.min = 1\nenv.SOTTO_STOP_GRACE_S = "{filed}"\n', encoding="utf-8"
    )
    with serving(endpoint, **given) as one:
        one.greeting()
        one.await_log("worker-1: ready")
        worker = int(re.findall(r"worker-1: started, process (\d+)", one.log())[0])
        os.kill(worker, signal.SIGSTOP)  # it cannot end by itself now
        assert one.stop(signal.SIGINT) == 0, one.log()
    assert "worker-1: killed, still there 5.25 s after SIGTERM" in one.log()


def test_a_grace_that_is_no_number_is_the_workers_to_refuse(endpoint: Path) -> None:
    endpoint.write_text(f"{FAKE}\nworkers.min = 1\n", encoding="utf-8")
    with serving(endpoint, SOTTO_STOP_GRACE_S="soon") as one:
        one.greeting()
        one.await_log("worker-1: SOTTO_STOP_GRACE_S: 'soon' is not allowed")
        assert one.stop(signal.SIGTERM) == 0, one.log()
    assert "Traceback" not in one.log()


def test_a_second_interrupt_ends_it_at_once_and_leaves_no_worker(endpoint: Path) -> None:
    endpoint.write_text(f"{FAKE}\nworkers.min = 1\n", encoding="utf-8")
    with serving(endpoint) as one:
        one.greeting()
        one.await_log("worker-1: ready")
        worker = int(re.findall(r"worker-1: started, process (\d+)", one.log())[0])
        os.kill(worker, signal.SIGSTOP)  # it cannot end by itself now
        one.process.send_signal(signal.SIGINT)
        assert one.process.stdout is not None
        assert any("Stopping" in line for line in one.process.stdout)
        assert one.stop(signal.SIGINT) == 130, one.log()
    wait_until(lambda: is_gone(worker))
