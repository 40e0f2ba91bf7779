"""`python handler.py` as a newcomer and the container start it, in a process of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.speech_data import clip

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
FAKE = {"SOTTO_ENGINE": "fake"}
FILED = json.loads((ROOT / "test_input.json").read_text(encoding="utf-8"))["input"]
FACTS = re.compile(r"^\d+\.\d s of audio, language (\w\w) \(\d+%\), model (\S+) on cpu, ", re.M)


def handler(*args: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "handler.py", *args],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )


def log_lines(done: subprocess.CompletedProcess[str]) -> str:
    """What was logged: by us on standard error, by the SDK among the output."""
    by_sdk = [line for line in done.stdout.splitlines() if re.match(r"[A-Z]+ +\|", line)]
    return "\n".join([*by_sdk, done.stderr])


def spoken(done: subprocess.CompletedProcess[str]) -> str:
    """The transcript as it was printed, the first line with text after the SDK's greeting."""
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("---")]
    return lines[0]


# Bad input: told in a line, without a traceback, and the process fails


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--test_input", "{nonsense"], "--test_input: not JSON: "),
        (
            ["--test_input", json.dumps({"input": {"audio": "/etc/passwd", "langauge": "en"}})],
            "invalid_request: langauge: no such option; did you mean 'language'?",
        ),
        (
            ["--test_input", json.dumps({"input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}})],
            "audio_undecodable: ",
        ),
    ],
)
def test_a_job_that_fails_is_told_and_fails_the_process(args: list[str], told: str) -> None:
    done = handler(*args, **FAKE)
    assert done.returncode == 1, done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_all_wrong_settings_are_listed_at_once_before_any_work() -> None:
    done = handler(
        SOTTO_ENGINE="fast",
        SOTTO_DEVISE="cpu",
        SOTTO_MAX_AUDIO_S="nan",
        SOTTO_HUB_TOKEN="hf_sesame",
    )
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "SOTTO_DEVISE",
        "SOTTO_ENGINE",
        "SOTTO_MAX_AUDIO_S",
    ]
    assert "did you mean SOTTO_DEVICE?" in done.stderr
    assert "sesame" not in done.stderr
    assert done.stdout == ""


def test_a_model_that_is_not_here_fails_the_process(tmp_path: Path) -> None:
    done = handler(SOTTO_MODEL="large-v3", SOTTO_WEIGHTS_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "unknown_model: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_folder_that_takes_no_audio_fails_the_process_and_is_named() -> None:
    done = handler(**FAKE, SOTTO_TEMP_DIR="/none")
    assert done.returncode == 1
    told = "SOTTO_TEMP_DIR: no audio can be written to /none: No such file or directory"
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


# From the root and from src/, with the file and with a job of one's own


@pytest.mark.parametrize(
    ("cwd", "args"), [(ROOT, []), (SRC, ["--test_input"])], ids=["root", "src, bare flag"]
)
def test_the_filed_job_is_run_and_printed_for_people(cwd: Path, args: list[str]) -> None:
    done = handler(*args, cwd=cwd, **FAKE)
    assert done.returncode == 0, done.stderr
    facts = FACTS.search(done.stdout)
    assert facts is not None, done.stdout
    assert facts.groups() == ("en", "base")
    assert re.search(r"^  00:0\d\.\d\d - 00:0\d\.\d\d +\w", done.stdout, re.M)
    assert "job local_test done" in done.stderr
    assert done.stderr.count("is warm on cpu") == 1
    logged = log_lines(done)
    assert spoken(done)[:40] not in logged
    assert FILED["audio_base64"][:40] not in done.stdout + done.stderr


def test_a_job_of_ones_own_is_run_from_anywhere(tmp_path: Path) -> None:
    job = {
        "input": {
            "audio_base64": base64.b64encode(clip("en-young-man").path.read_bytes()).decode(),
            "transcription": "srt",
            "beam_size": 1,
            "patience": 2,
        }
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "handler.py"), "--test_input", json.dumps(job)],
        cwd=tmp_path,
        env={**os.environ, **FAKE},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n\w", done.stdout, re.M)
    assert "warning: patience: only acts in beam search" in done.stdout


# Real weights, a real voice


@pytest.mark.model
def test_the_newcomers_first_command_prints_what_was_said(weights: Path) -> None:
    done = handler(SOTTO_WEIGHTS_DIR=str(weights))
    assert done.returncode == 0, done.stderr
    assert "Dashwood" in spoken(done)
    facts = FACTS.search(done.stdout)
    assert facts is not None, done.stdout
    assert facts.groups() == ("en", "base")
    assert "Dashwood" not in log_lines(done)


@pytest.mark.model
def test_a_spanish_voice_is_recognised_and_translated(weights: Path) -> None:
    speech = base64.b64encode(clip("es-busy").path.read_bytes()).decode()
    job = {"input": {"audio_base64": speech, "translate": True}}
    done = handler("--test_input", json.dumps(job), cwd=SRC, SOTTO_WEIGHTS_DIR=str(weights))
    assert done.returncode == 0, done.stderr
    facts = FACTS.search(done.stdout)
    assert facts is not None, done.stdout
    assert facts.groups() == ("es", "base")
    assert re.search(r"^In English: .*\b(busy|occupied)\b", done.stdout, re.M | re.I)
