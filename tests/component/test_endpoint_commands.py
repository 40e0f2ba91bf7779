"""`sotto endpoint plan`, `apply`, `status`, `destroy` as a person and a script use them."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.platform_api import PlatformApi, Trouble
from tests.processes import run_unread

from sotto import cli
from sotto.endpoint import api, apply, waiting

ENDPOINTS = "/v2/serverless"
HANG_S = 90
FILE = """
name = "sotto"
image = "me/sotto:1"
gpu = {pools = ["ADA_24"], excluded_types = ["NVIDIA GeForce RTX 4090"]}
env_from = ["SOTTO_HUB_TOKEN"]
[workers]
min = 1
max = 3
[secrets]
SOTTO_S3_ACCESS_SECRET = "store"
[env]
SOTTO_MODEL = "opensesame-model"
"""
SECRETS = (PlatformApi.key, "opensesame")
COMMAND = [sys.executable, "-m", "sotto", "endpoint"]


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlatformApi]:
    """The platform, with a key to it in the environment and no pauses on the way."""
    monkeypatch.setattr(api, "PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(apply, "LOOKS_S", (0.0,))
    monkeypatch.setattr(waiting, "POLL_S", 0.01)
    with PlatformApi() as platform:
        for name, value in platform.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SOTTO_HUB_TOKEN", "opensesame-token")
        yield platform


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "endpoint.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


class Command:
    """Runs a command in this process; keeps what it says, and sees that it tells no secret."""

    def __init__(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = file
        self._capsys = capsys

    def __call__(self, *args: str) -> int:
        code = cli.main(["endpoint", args[0], "--endpoint", str(self._file), *args[1:]])
        self.out, self.err = self._capsys.readouterr()
        assert not any(secret in self.out + self.err for secret in SECRETS)
        return code


@pytest.fixture
def run(file: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(file, capsys)


# Refused before any call


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_all_faults_of_the_file_are_told_and_nothing_is_asked(
    platform: PlatformApi, run: Command, file: Path, command: str
) -> None:
    file.write_text('name = "x"\ntype = "load-balancer"\ngpu.count = 2\n', encoding="utf-8")
    assert run(command) == 1
    assert [row.split(": ")[:2] for row in run.err.splitlines()] == [
        [f"{file}:1", "gpu.pools"],
        [f"{file}:1", "image"],
        [f"{file}:1", "name"],
        [f"{file}:2", "type"],
        [f"{file}:3", "gpu.count"],
    ]
    assert (run.out, platform.requests) == ("", [])


@pytest.mark.parametrize("command", ["plan", "apply", "status", "destroy"])
def test_without_a_key_nothing_is_asked(
    platform: PlatformApi, run: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    assert run(command) == 1
    assert run.err.startswith("RUNPOD_API_KEY: not set; ")
    assert platform.requests == []


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_variable_that_is_to_come_from_here_must_be_set(
    platform: PlatformApi, run: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("SOTTO_HUB_TOKEN")
    assert run(command) == 1
    assert run.err == "env_from: SOTTO_HUB_TOKEN: not set here; set it\n"
    assert platform.requests == []


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_variable_that_is_to_come_from_here_must_be_text(
    platform: PlatformApi, run: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SOTTO_HUB_TOKEN", os.fsdecode(b"opensesame-\xff"))
    assert run(command) == 1
    assert run.err == "env_from: SOTTO_HUB_TOKEN: not text in UTF-8; set it to some\n"
    assert platform.requests == []


@pytest.mark.parametrize("command", ["plan", "apply", "status", "destroy"])
@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_what_the_api_refuses_is_one_line(
    platform: PlatformApi, run: Command, command: str, status: int
) -> None:
    platform.fail("GET", ENDPOINTS, status, times=4, body={"detail": PlatformApi.key})
    assert run(command) == 1
    assert run.err.count("\n") == 1
    assert run.err.startswith("GET /v2/serverless: ")
    assert run.out == ""


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", "86401", ""])
def test_a_wait_that_is_none_is_a_wrong_command_line(run: Command, seconds: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("apply", f"--wait-s={seconds}")
    assert caught.value.code == 2


# Plan


def test_a_plan_shows_each_change_with_its_cost(platform: PlatformApi, run: Command) -> None:
    platform.add_endpoint(image="me/sotto:0", env={"OLD": "opensesame-old"})
    assert run("plan") == 0
    assert run.out.splitlines() == [
        "'sotto' (endpoint1) is to change in 8 things:",
        "  ~ image: me/sotto:0 -> me/sotto:1",
        "      costs: nothing by itself; workers are replaced, and each start is billed like work",
        "  ~ gpu.excluded_types: none -> NVIDIA GeForce RTX 4090",
        "      costs: a worker costs $0.60 an hour, where it was $0.60 to $1.20",
        "  ~ workers.min: 0 -> 1",
        "      costs: an idle minute costs $0.01 ($14.40 a day), with 1 worker always there",
        "  - env.OLD: removed",
        "  + env.SOTTO_HUB_TOKEN: set",
        "  + env.SOTTO_JOB_TIMEOUT_S: set",
        "  + env.SOTTO_MODEL: set",
        "  + env.SOTTO_S3_ACCESS_SECRET: set",
        "      costs: nothing by itself; workers are replaced, and each start is billed like work",
        "At these settings:",
        "  a worker: $0.60 an hour, RunPod's list price",
        "  an idle minute: $0.01, with 1 worker always there; $14.40 a day",
        "  a worker's stay of 10 s after its last job: $0.0017",
        "  at most: $1.80 an hour, with 3 workers at work",
    ]


def test_a_plan_for_a_program_has_the_same_in_json(platform: PlatformApi, run: Command) -> None:
    platform.add_endpoint(image="me/sotto:0")
    assert run("plan", "--json") == 0
    told = json.loads(run.out)
    assert (told["name"], told["id"], told["notes"]) == ("sotto", "endpoint1", [])
    assert told["changes"][0] == {
        "key": "image",
        "action": "change",
        "before": "me/sotto:0",
        "after": "me/sotto:1",
        "cost": "nothing by itself; workers are replaced, and each start is billed like work",
    }
    assert told["costs_usd"]["idle_minute"] == {"low": 0.01, "high": 0.01}
    assert told["costs_usd"]["pools_without_price"] == []
    variables = [one for one in told["changes"] if one["key"].startswith("env.")]
    assert variables
    assert all(one["before"] is one["after"] is None for one in variables)


def test_the_exit_code_tells_of_changes_if_it_is_to(platform: PlatformApi, run: Command) -> None:
    assert run("plan") == 0
    assert run("plan", "--exit-code") == 3
    assert run("apply") == 0
    assert run("plan", "--exit-code") == 0
    assert run.out.startswith("'sotto' (endpoint1) is as the file says.\n")


# Apply


def test_an_endpoint_is_made_and_waited_for(platform: PlatformApi, run: Command) -> None:
    assert run("apply") == 0
    assert "'sotto' (endpoint1) is as the file says now.\n" in run.out
    assert run.out.endswith("Ready: 1 of 1 workers ready; workers: 1 idle.\n")
    assert run.err == "   0 s  0 of 1 workers ready; workers: 1 initializing\n"
    assert platform.endpoints["endpoint1"]["env"] == {
        "SOTTO_HUB_TOKEN": "opensesame-token",
        "SOTTO_JOB_TIMEOUT_S": "285",
        "SOTTO_MODEL": "opensesame-model",
        "SOTTO_S3_ACCESS_SECRET": "{{ RUNPOD_SECRET_store }}",
    }


def test_a_second_apply_only_looks(platform: PlatformApi, run: Command) -> None:
    assert run("apply") == 0
    before = len(platform.requests)
    assert run("apply") == 0
    assert {method for method, _, _ in platform.requests[before:]} == {"GET"}
    assert run.out.endswith("Ready: 1 of 1 workers ready; workers: 1 idle.\n")


def test_workers_that_never_come_are_told_after_the_wait(
    platform: PlatformApi, run: Command
) -> None:
    platform.polls_until_ready = 1_000_000
    assert run("apply", "--wait-s", "0.05") == 1
    assert "the endpoint endpoint1 is there as the file says, but after 0.05 s 0 of 1" in run.err
    assert list(platform.endpoints) == ["endpoint1"]


def test_nobody_waits_who_does_not_want_to(platform: PlatformApi, run: Command) -> None:
    platform.polls_until_ready = 1_000_000
    assert run("apply", "--wait-s", "0") == 0
    assert run.out.endswith("is as the file says now.\n")


def test_a_failure_on_the_way_says_what_exists(platform: PlatformApi, run: Command) -> None:
    platform.fail("GET", f"{ENDPOINTS}/endpoint1", 503, times=4, body={"detail": "down"})
    assert run("apply") == 1
    assert run.err.splitlines() == [
        "GET /v2/serverless/endpoint1: the API fails (503): down; try again later",
        "the endpoint 'sotto' exists (endpoint1); apply again to finish it",
    ]
    platform.endpoints.clear()
    platform.drop("POST", ENDPOINTS)
    assert run("apply") == 1
    address = platform.url.removeprefix("http://")
    assert run.err.splitlines() == [
        "there is no 'sotto' 0 s after its creation was sent, which was not answered: "
        f"POST /v2/serverless: {address} broke the connection off",
        "the creation of 'sotto' was sent, but not answered: it may exist or appear soon; "
        "look with `sotto endpoint plan` before you apply again",
    ]
    platform.fail("POST", ENDPOINTS, 503, body={"detail": "down"})
    assert run("apply") == 1
    assert run.err.splitlines() == [
        "there is no 'sotto' 0 s after its creation was sent, which was not confirmed: "
        "POST /v2/serverless: the API fails (503): down; try again later",
        "the creation of 'sotto' was sent, but not confirmed: it may exist or appear soon; "
        "look with `sotto endpoint plan` before you apply again",
    ]
    platform.fail("POST", ENDPOINTS, 422, body={"detail": "no"})
    assert run("apply") == 1
    assert run.err == "POST /v2/serverless: is refused (422): no\n"
    platform.add_endpoint()
    platform.fail("PATCH", ENDPOINTS, 422, body={"detail": "no"})
    assert run("apply") == 1
    assert run.err.splitlines() == [
        "PATCH /v2/serverless/endpoint2: is refused (422): no",
        "the endpoint 'sotto' exists (endpoint2), but not as the file says",
    ]


# Status


def test_the_status_says_what_idling_costs_now(platform: PlatformApi, run: Command) -> None:
    platform.add_endpoint(workers={"min": 0, "max": 5})
    platform.worker("endpoint1", "IDLE")
    platform.worker("endpoint1", "IDLE", isStale=True)
    platform.worker("endpoint1", "RUNNING")
    platform.jobs["endpoint1"] = {"inQueue": 4, "inProgress": 1, "completed": 7, "failed": 2}
    assert run("status") == 0
    assert run.out.splitlines() == [
        "endpoint  sotto (endpoint1)",
        "image     me/sotto:1",
        "release   1 of 2026-06-01T12:00:00Z; 2 of 3 workers run it",
        "workers   1 running, 2 idle; from 0 to 5",
        "jobs      4 waiting, 1 running, 7 completed, 2 failed",
        "cost      an idle minute costs $0.02 now, with 2 idle, by RunPod's list price",
    ]
    assert run("status", "--json") == 0
    told = json.loads(run.out)
    assert told["idle_minute_usd"] == pytest.approx(0.02)
    assert told["jobs"] == {"waiting": 4, "running": 1, "completed": 7, "failed": 2}
    assert [one["is_stale"] for one in told["workers"]["now"]] == [False, True, False]


def test_a_status_without_an_endpoint_fails(platform: PlatformApi, run: Command) -> None:
    assert run("status") == 1
    assert run.err == "there is no endpoint called 'sotto'\n"


def test_a_status_tells_what_it_cannot_know(platform: PlatformApi, run: Command) -> None:
    platform.add_endpoint()
    platform.worker("endpoint1", "IDLE", gpuTypeId=None)
    platform.fail("GET", "/v2/endpoint1/health", 404)
    platform.fail("GET", "/v2/catalog", 503, times=4)
    platform.fail("GET", f"{ENDPOINTS}/endpoint1/releases", 200, body={"releases": None})
    assert run("status") == 0
    assert "release   none\n" in run.out
    assert "jobs      unknown\n" in run.out
    assert "an idle minute costs an unknown amount" in run.out
    assert run.out.count("note      ") == 2


@pytest.mark.parametrize("odd", [{}, {"jobs": None, "workers": None}, {"jobs": {"inQueue": "x"}}])
def test_a_health_that_lacks_something_is_shown_as_far_as_it_goes(
    platform: PlatformApi, run: Command, odd: dict[str, Any]
) -> None:
    platform.add_endpoint()
    platform.fail("GET", "/v2/endpoint1/health", 200, body=odd)
    platform.fail("GET", f"{ENDPOINTS}/endpoint1/releases", 200, body={"releases": [{}]})
    assert run("status") == 0
    assert "jobs      unknown waiting, unknown running" in run.out
    assert "release   unknown of an unknown time" in run.out
    assert "no worker is idle" in run.out


# Destroy


def test_nothing_is_destroyed_unasked(
    platform: PlatformApi, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.add_endpoint()
    monkeypatch.setattr(sys, "stdin", io.StringIO("sotto\n"))
    assert run("destroy") == 1
    assert "there is no terminal to ask at; give --yes" in run.err
    assert list(platform.endpoints) == ["endpoint1"]


def test_a_script_destroys_with_a_flag_and_may_do_it_twice(
    platform: PlatformApi, run: Command
) -> None:
    platform.add_endpoint()
    platform.add_endpoint(name="sotto-2")
    platform.jobs["endpoint1"] = {"inQueue": 2}
    assert run("destroy", "--yes") == 0
    assert run.out == "'sotto' (endpoint1) is destroyed.\n"
    assert "jobs: 2 waiting and 0 running. Destroying it stops its workers" in run.err
    assert list(platform.endpoints) == ["endpoint2"]
    assert run("destroy", "--yes") == 0
    assert run.out == "there is no endpoint called 'sotto'; nothing to destroy\n"


def test_one_of_several_is_destroyed_by_its_id(platform: PlatformApi, run: Command) -> None:
    platform.add_endpoint()
    platform.add_endpoint()
    platform.add_endpoint(name="other")
    assert run("destroy", "--yes") == 1
    assert "2 endpoints are called 'sotto': endpoint1, endpoint2" in run.err
    assert run("destroy", "--yes", "--id", "endpoint3") == 1
    assert "endpoint3 is called 'other', but the file describes 'sotto'" in run.err
    assert run("destroy", "--yes", "--id", "../pods") == 1
    assert run("destroy", "--yes", "--id", "endpoint2") == 0
    assert list(platform.endpoints) == ["endpoint1", "endpoint3"]
    assert run("destroy", "--yes", "--id", "endpoint2") == 0
    assert "nothing to destroy" in run.out


def test_what_is_at_stake_is_unknown_where_it_cannot_be_had(
    platform: PlatformApi, run: Command
) -> None:
    platform.add_endpoint()
    platform.fail("GET", f"{ENDPOINTS}/endpoint1/workers", 403)
    platform.fail("GET", "/v2/endpoint1/health", 403)
    platform.hang("DELETE", ENDPOINTS)
    assert run("destroy", "--yes") == 0
    assert "workers: unknown; jobs: an unknown number of waiting" in run.err
    assert platform.endpoints == {}


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_destroy_that_is_refused_says_that_nothing_was_destroyed(
    platform: PlatformApi, run: Command, status: int
) -> None:
    platform.add_endpoint()
    platform.fail("DELETE", ENDPOINTS, status, times=4)
    assert run("destroy", "--yes") == 1
    _, refusal, there = run.err.splitlines()
    assert refusal.startswith("DELETE /v2/serverless/endpoint1: ")
    assert there == "the endpoint 'sotto' exists (endpoint1); nothing has been destroyed"


def test_a_destroy_that_failed_in_the_api_says_that_it_may_be_done(
    platform: PlatformApi, run: Command
) -> None:
    platform.add_endpoint()
    platform.fail("DELETE", ENDPOINTS, 503, times=4)
    assert run("destroy", "--yes") == 1
    assert run.err.endswith(
        "'sotto' (endpoint1) may be destroyed or not; destroy again to finish it\n"
    )


@pytest.mark.parametrize(
    ("typed", "is_gone"), [("sotto\n", True), ("Sotto\n", False), ("\n", False)]
)
def test_a_person_types_the_name(
    platform: PlatformApi, file: Path, typed: str, is_gone: bool
) -> None:
    platform.add_endpoint()
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        done = subprocess.run(
            [*COMMAND, "destroy", "--endpoint", str(file)],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Type its name to destroy it (sotto): " in done.stderr
    assert done.returncode == (0 if is_gone else 1)
    assert (platform.endpoints == {}) is is_gone


# An output that nobody reads


def unread(*args: str, file: Path) -> subprocess.CompletedProcess[str]:
    return run_unread([*COMMAND, *args, "--endpoint", str(file)], timeout=HANG_S)


def test_a_plan_that_nobody_reads_ends_without_a_word(platform: PlatformApi, file: Path) -> None:
    done = unread("plan", "--exit-code", file=file)
    assert (done.returncode, done.stderr) == (3, "")


def test_an_apply_that_nobody_reads_makes_the_endpoint_and_waits_for_it(
    platform: PlatformApi, file: Path
) -> None:
    done = unread("apply", file=file)
    assert done.returncode == 0
    assert done.stderr == "   0 s  0 of 1 workers ready; workers: 1 initializing\n"
    assert list(platform.endpoints) == ["endpoint1"]


# Interrupted


class Typed:
    """A command in a process of its own, as a person interrupts it."""

    def __init__(self, file: Path, *args: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, *args, "--endpoint", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self) -> str:
        """What it says last after Ctrl-C; the exit code is that of an interrupt."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def await_error(self, text: str) -> None:
        """Return once a line with `text` has come on the standard error."""
        assert self._process.stderr is not None
        assert any(text in line for line in self._process.stderr)

    def end(self) -> str:
        out, err = self._process.communicate(timeout=HANG_S)
        assert self._process.returncode == 130, err
        assert "Traceback" not in err
        assert not any(secret in out + err for secret in SECRETS)
        return err.splitlines()[-1]


@pytest.mark.parametrize("command", ["plan", "apply", "status", "destroy"])
def test_an_interrupt_before_anything_says_that_nothing_was_changed(
    platform: PlatformApi, file: Path, command: str
) -> None:
    held = platform.hold("GET", ENDPOINTS)
    typed = Typed(file, command)
    held.wait()
    assert typed.interrupt() == "stopped: nothing has been changed"


def test_an_interrupted_create_is_found_and_finished_by_the_next_apply(
    platform: PlatformApi, file: Path, run: Command
) -> None:
    held = platform.hold("POST", ENDPOINTS)
    typed = Typed(file, "apply")
    held.wait()
    assert typed.interrupt() == (
        "stopped: the endpoint 'sotto' exists (endpoint1); apply again to finish it"
    )
    assert run("apply") == 0
    assert platform.calls("POST") == [("POST", ENDPOINTS)]
    assert list(platform.endpoints) == ["endpoint1"]


def test_an_interrupted_create_of_which_nothing_is_seen_says_so(
    platform: PlatformApi, file: Path
) -> None:
    held = platform.hold("POST", ENDPOINTS)
    typed = Typed(file, "apply")
    held.wait()
    platform.endpoints.clear()  # it is not in the list yet
    said = typed.interrupt()
    assert said.startswith("stopped: the creation of 'sotto' was sent, but not answered")
    assert said.endswith("; it is not there so far")


def test_a_second_interrupt_ends_the_look_for_what_exists(
    platform: PlatformApi, file: Path
) -> None:
    held = platform.hold("POST", ENDPOINTS)
    typed = Typed(file, "apply")
    held.wait()
    look = platform.hold("GET", ENDPOINTS)
    typed._process.send_signal(signal.SIGINT)
    look.wait()
    said = typed.interrupt()
    assert said.startswith("stopped: the creation of 'sotto' was sent, but not answered")


def test_an_interrupted_update_says_that_it_may_be_in_force(
    platform: PlatformApi, file: Path
) -> None:
    platform.add_endpoint(image="me/sotto:0")
    held = platform.hold("PATCH", ENDPOINTS)
    typed = Typed(file, "apply")
    held.wait()
    assert typed.interrupt().startswith(
        "stopped: the endpoint 'sotto' exists (endpoint1); an update was sent that may be in force"
    )


def test_an_interrupted_wait_leaves_the_endpoint_as_the_file_says(
    platform: PlatformApi, file: Path
) -> None:
    platform.polls_until_ready = 1_000_000
    typed = Typed(file, "apply")
    typed.await_error("0 of 1 workers ready")
    assert typed.interrupt() == (
        "stopped: the endpoint 'sotto' exists (endpoint1), as the file says"
    )


def test_an_interrupted_destroy_says_that_it_may_be_done(platform: PlatformApi, file: Path) -> None:
    platform.add_endpoint()
    held: Trouble = platform.hold("DELETE", ENDPOINTS)
    typed = Typed(file, "destroy", "--yes")
    held.wait()
    assert typed.interrupt().startswith("stopped: 'sotto' (endpoint1) may be destroyed or not;")
