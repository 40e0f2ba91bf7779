"""The watchdog in a process of its own, as cron or a person starts and ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from tests.platform_api import PlatformApi
from tests.redis_server import RedisServer

SOTTO = [sys.executable, "-m", "sotto", "endpoint", "watchdog"]
# The same without what the other commands import, which takes a second at each start.
LIGHT = """
import argparse, sys
from sotto.endpoint import watchdog
parser = argparse.ArgumentParser()
watchdog.add_arguments(parser)
sys.exit(watchdog.run(parser.parse_args()))
"""
COMMAND = [sys.executable, "-c", LIGHT]
ENDPOINT = ("--endpoint", "endpoint1", "--pod", "pod1")
SOON = ("--idle-s", "2", "--every-s", "0.1")
NEVER = ("--idle-s", "600000", "--every-s", "0.1")
HANG_S = 90

Told = dict[str, Any]


@pytest.fixture
def platform() -> Iterator[PlatformApi]:
    with PlatformApi() as platform:
        platform.add_endpoint()
        platform.add_pod("pod1", name="whisper-1")
        yield platform


@pytest.fixture
def environ(platform: PlatformApi, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **platform.environ, "XDG_STATE_HOME": str(tmp_path)}


@contextmanager
def running(environ: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *options],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def once(
    environ: dict[str, str], *options: str, command: Sequence[str] = COMMAND
) -> tuple[int, list[Told], str]:
    """Exit code, lines and errors of one look."""
    done = subprocess.run(
        [*command, "--once", *options],
        env=environ,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def let_time_pass(environ: dict[str, str], seconds: float) -> None:
    """Make the last look lie further back, in another life of the machine."""
    (state,) = Path(environ["XDG_STATE_HOME"], "sotto").glob("watchdog-*.json")
    kept = json.loads(state.read_bytes())
    kept["at"]["wall_s"] -= seconds
    kept["at"]["boot_id"] = "another"
    state.write_text(json.dumps(kept), encoding="utf-8")


def until(output: IO[str] | None, decision: str) -> list[Told]:
    """The lines up to the first with this decision."""
    assert output is not None
    lines: list[Told] = []
    for line in output:
        lines.append(json.loads(line))
        if lines[-1]["decision"] == decision:
            return lines
    pytest.fail(f"no {decision}: {lines}")


# Once, as from cron


def test_one_look_says_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    code, (line,), errors = once(environ, *ENDPOINT)
    assert (code, errors) == (0, "")
    (state,) = (tmp_path / "sotto").glob("watchdog-*.json")
    assert line.pop("ts").endswith("Z")
    assert line == {
        "decision": "wait",
        "reason": "no work for 0 s; pods are stopped after 900 s",
        "queue": "endpoint endpoint1",
        "depth": 0,
        "in_progress": 0,
        "idle_s": 0.0,
        "blind_s": 0.0,
        "pods": [
            {
                "id": "pod1",
                "name": "whisper-1",
                "status": "RUNNING",
                "locked": False,
                "gpu_percent": None,
                "idle_s": 0.0,
            }
        ],
        "notes": [f"the idle time begins now: there is no {state} yet"],
    }


def test_looks_one_after_the_other_stop_the_pod(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    decisions: list[str] = []
    for _ in range(5):
        code, lines, errors = once(environ, *ENDPOINT)
        assert (code, errors) == (0, "")
        decisions += [line["decision"] for line in lines]
        let_time_pass(environ, 300)
    assert decisions == ["wait", "wait", "wait", "stop", "stopped", "nothing"]
    assert platform.pods["pod1"]["status"] == "EXITED"


def test_the_command_of_sotto(environ: dict[str, str]) -> None:
    code, (line,), errors = once(environ, *ENDPOINT, command=SOTTO)
    assert (code, line["decision"], errors) == (0, "wait", "")


def test_a_watchdog_too_many_leaves_the_work_to_the_other(
    environ: dict[str, str], tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "own"))
    with running(environ, *ENDPOINT, *NEVER, *state) as process:
        until(process.stdout, "wait")
        code, (line,), _ = once(environ, *ENDPOINT, *state)
    assert (code, line["decision"]) == (5, "skipped")
    assert line["reason"] == f"another watchdog has {state[1]}"


def test_an_alarm_has_an_exit_code(environ: dict[str, str], platform: PlatformApi) -> None:
    platform.fail("GET", "/v2/endpoint1/health", 401, times=10**6)
    codes, decisions = [], []
    for _ in range(3):
        code, (line,), _ = once(environ, *ENDPOINT, "--alarm-s", "500")
        codes.append(code)
        decisions.append(line["decision"])
        let_time_pass(environ, 300)
    assert (codes, decisions) == ([0, 0, 3], ["unknown", "unknown", "alarm"])


def test_a_stop_that_fails_has_an_exit_code(environ: dict[str, str], platform: PlatformApi) -> None:
    platform.fail("POST", "/v2/pods", 403, times=10**6)
    for _ in range(3):
        assert once(environ, *ENDPOINT)[0] == 0
        let_time_pass(environ, 300)
    code, lines, _ = once(environ, *ENDPOINT)
    assert (code, [line["decision"] for line in lines]) == (4, ["stop", "stop_failed"])


@pytest.mark.parametrize(
    ("options", "changes", "told"),
    [
        (ENDPOINT, {"RUNPOD_API_KEY": ""}, "RUNPOD_API_KEY: not set"),
        (
            ENDPOINT,
            {"RUNPOD_API_URL": "nowhere"},
            "RUNPOD_API_URL, RUNPOD_JOBS_URL: not an address",
        ),
        (("--endpoint", "endpoint1"), {}, "--pod, --pod-name: name the pods"),
        (("--redis-list", "jobs", "--pod", "p"), {}, "--redis, REDIS_URL: not the address"),
        ((*ENDPOINT, "--state", "/dev/null/folder/state"), {}, "--state: /dev/null/folder/state: "),
    ],
)
def test_what_cannot_run_is_refused_at_once(
    environ: dict[str, str], options: tuple[str, ...], changes: dict[str, str], told: str
) -> None:
    code, lines, errors = once({**environ, **changes}, *options)
    assert (code, lines) == (1, [])
    assert errors.startswith(told)
    assert "Traceback" not in errors


def test_a_command_line_that_cannot_be_read(environ: dict[str, str]) -> None:
    code, lines, errors = once(environ, *ENDPOINT, "--idle-s", "soon")
    assert (code, lines) == (2, [])
    assert "--idle-s: 'soon' is not allowed" in errors


def test_no_secret_is_told_or_kept(
    environ: dict[str, str], platform: PlatformApi, tmp_path: Path
) -> None:
    platform.pods["pod1"]["env"] = {"TOKEN": "sesame-of-the-pod"}
    with RedisServer(tmp_path, password="sesame-of-redis") as server:
        for password in ("sesame-of-redis", "wrong-sesame-of-redis"):
            environ["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{server.port}"
            code, (line,), errors = once(environ, "--redis-list", "jobs", "--pod", "pod1")
            assert code == 0
            assert line["decision"] == ("unknown" if "wrong" in password else "wait")
            kept = "".join(path.read_text() for path in (tmp_path / "sotto").glob("*"))
            for text in (json.dumps(line), errors, kept):
                assert "sesame-of" not in text
                assert platform.key not in text


# In a loop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_cleanly(environ: dict[str, str], number: int) -> None:
    with running(environ, *ENDPOINT, *NEVER) as process:
        until(process.stdout, "wait")
        process.send_signal(number)
        output, errors = process.communicate(timeout=HANG_S)
        assert (process.returncode, errors) == (0, "")
        assert all(json.loads(line)["decision"] == "wait" for line in output.splitlines())


def test_a_signal_while_a_pod_is_being_stopped_does_not_tear_it(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    held = platform.hold("POST", "/v2/pods/pod1/action")
    with running(environ, *ENDPOINT, *SOON) as process:
        held.wait()
        process.send_signal(signal.SIGTERM)
        held.release()
        output, errors = process.communicate(timeout=HANG_S)
        assert (process.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["decision"] == "stopped"
    assert platform.pods["pod1"]["status"] == "EXITED"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "1"}), (503, {})],
    ids=["sent again by the client", "attempted again"],
)
def test_a_signal_while_a_stop_waits_for_another_attempt_lets_it_be_completed(
    environ: dict[str, str], platform: PlatformApi, status: int, headers: dict[str, str]
) -> None:
    for _ in range(3):
        once(environ, *ENDPOINT)
        let_time_pass(environ, 300)
    platform.fail("POST", "/v2/pods", status, headers=headers)
    with running(environ, *ENDPOINT) as process:
        while not platform.calls("POST"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=HANG_S)
        assert (process.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["decision"] == "stopped"
    assert platform.pods["pod1"]["status"] == "EXITED"


def test_a_second_signal_ends_a_stop_that_waits_for_another_attempt(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    platform.fail("POST", "/v2/pods", 429, times=10**6, headers={"Retry-After": "50"})
    with running(environ, *ENDPOINT, *SOON) as process:
        while not platform.calls("POST"):
            assert process.poll() is None
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    assert process.returncode == -signal.SIGTERM


def test_a_signal_while_the_api_is_down_ends_it_too(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    platform.fail("GET", "/v2/pods", 503, times=10**6, headers={"Retry-After": "50"})
    with running(environ, *ENDPOINT, *NEVER) as process:
        while not platform.calls():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 0


def test_a_second_signal_ends_it_in_the_middle(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    held = platform.hold("GET", "/v2/pods")
    with running(environ, *ENDPOINT, *NEVER) as process:
        held.wait()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    # A third one may meet it on its way out.
    assert process.returncode in {130, -signal.SIGINT}


def test_a_loop_that_is_killed_goes_on_where_it_was(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    with running(environ, *ENDPOINT, *NEVER) as process:
        before = until(process.stdout, "wait")
        assert process.stdout is not None
        before += [json.loads(process.stdout.readline()) for _ in range(5)]
        process.kill()
    with running(environ, *ENDPOINT, *NEVER) as process:
        (line,) = until(process.stdout, "wait")
    assert line["notes"] == []
    assert line["idle_s"] >= before[-1]["idle_s"] > 0


def test_a_loop_stops_a_pod_and_goes_on_watching(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    with running(environ, *ENDPOINT, *SOON) as process:
        lines = until(process.stdout, "nothing")
        assert [line["decision"] for line in lines[-3:]] == ["stop", "stopped", "nothing"]
        platform.add_pod("pod1", startedAt="2026-11-25T08:00:00Z")
        lines = until(process.stdout, "stopped")
        assert [line["decision"] for line in lines[-2:]] == ["stop", "stopped"]


def test_a_stream_in_redis_keeps_a_pod_until_it_is_done(
    environ: dict[str, str], platform: PlatformApi, tmp_path: Path
) -> None:
    with RedisServer(tmp_path) as server, server.client() as client:
        client.xgroup_create("jobs", "workers", "0", mkstream=True)
        client.xadd("jobs", {"a": "1"}, id="1-0")
        options = ("--redis-stream", "jobs", "--group", "workers", "--redis", server.url)
        with running(environ, *options, "--pod-name", "whisper-*", *SOON) as process:
            assert until(process.stdout, "busy")[-1]["depth"] == 1
            client.xreadgroup("workers", "one", {"jobs": ">"})
            lines = [json.loads(process.stdout.readline()) for _ in range(15)]
            assert {line["decision"] for line in lines} == {"busy"}
            assert (lines[-1]["depth"], lines[-1]["in_progress"]) == (0, 1)
            client.xack("jobs", "workers", "1-0")
            until(process.stdout, "stopped")
    assert platform.pods["pod1"]["status"] == "EXITED"


def told_elsewhere_until_stopped(process: subprocess.Popen[str], beginning: str) -> None:
    """Each line comes on the standard error, behind this, up to that of a stopped pod."""
    assert process.stderr is not None
    for line in process.stderr:
        assert line.startswith(beginning)
        if '"stopped"' in line:
            break


def test_a_name_that_the_output_cannot_encode_keeps_no_pod_running(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    platform.pods["pod1"]["name"] = "flüster-1"
    with running({**environ, "PYTHONIOENCODING": "ascii"}, *ENDPOINT, *SOON) as process:
        told_elsewhere_until_stopped(process, "standard output: 'ascii' codec can't encode")
    assert platform.pods["pod1"]["status"] == "EXITED"


def test_an_output_that_is_closed_from_the_start_keeps_no_pod_running(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    closing = ("sh", "-c", 'exec "$@" >&-', "sh", *COMMAND)
    for _ in range(4):
        code, lines, errors = once(environ, *ENDPOINT, command=closing)
        assert (code, lines) == (0, [])
        let_time_pass(environ, 300)
    assert all(line.startswith("standard output: closed: {") for line in errors.splitlines())
    assert '"stopped"' in errors
    assert platform.pods["pod1"]["status"] == "EXITED"


def test_an_output_that_nobody_reads_keeps_no_pod_running(
    environ: dict[str, str], platform: PlatformApi
) -> None:
    with running(environ, *ENDPOINT, *SOON) as process:
        assert process.stdout is not None
        process.stdout.close()
        told_elsewhere_until_stopped(process, "standard output: Broken pipe: {")
    assert platform.pods["pod1"]["status"] == "EXITED"
