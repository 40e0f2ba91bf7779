"""The SDK as this process loads it, each time in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
PROBE = """
import contextlib, io, json, logging, os, sys
root = logging.getLogger()
ours = logging.NullHandler()
root.addHandler(ours)
level = root.level
import sotto.worker.serve
early = "runpod" in sys.modules
from sotto.net import sdk
runpod = sdk.load()
from runpod.serverless.modules.rp_logger import RunPodLogger
log = RunPodLogger()
at_start = log.level
with contextlib.redirect_stdout(io.StringIO()) as logged:
    log.set_level("TRACE")
    log.trace("a transcript")
    log.debug("a transcript", "a job")
    log.debug("a transcript", request_id="a job")
    log.error("a fault")
with contextlib.redirect_stdout(io.StringIO()) as of_addresses:
    log.error("is it? no: (url: /ping/w1?key=secret&v=1) of http://h/a?b=c, 'h/a?d=e'", "job")
print(json.dumps({
    "loaded_early": early,
    "same_again": sdk.load() is runpod,
    "can_start": callable(runpod.serverless.start),
    "log_level": at_start,
    "log_level_of_children": os.environ["RUNPOD_LOG_LEVEL"],
    "logged_at_trace": [line.split("| ")[1] for line in logged.getvalue().splitlines()],
    "addresses": of_addresses.getvalue().strip().rpartition("| ")[2],
    "handlers_kept": root.handlers == [ours],
    "root_level_kept": root.level == level,
    "torch": "torch" in sys.modules,
}))
"""


def probed(**environ: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "PYTHONPATH": str(SRC), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_the_sdk_is_loaded_once_late_and_leaves_logging_alone() -> None:
    assert probed() == {
        "loaded_early": False,
        "same_again": True,
        "can_start": True,
        "log_level": "INFO",
        "log_level_of_children": "INFO",
        "logged_at_trace": [
            "Log level set to TRACE",
            "a fault",
        ],
        "addresses": "is it? no: (url: /ping/w1?...) of http://h/a?... 'h/a?...'",
        "handlers_kept": True,
        "root_level_kept": True,
        "torch": False,
    }


def test_the_operators_own_log_level_is_kept() -> None:
    assert probed(RUNPOD_LOG_LEVEL="ERROR")["log_level"] == "ERROR"


@pytest.mark.parametrize("level", ["DEBUG", "debug", "TRACE"])
def test_a_log_level_that_would_show_transcripts_is_raised(level: str) -> None:
    seen = probed(RUNPOD_LOG_LEVEL=level)
    assert seen["log_level"] == "INFO"
    assert seen["log_level_of_children"] == "INFO"
