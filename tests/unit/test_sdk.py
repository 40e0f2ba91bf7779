"""The SDK as this process loads it, each time in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
PROBE = """
import json, logging, sys
root = logging.getLogger()
ours = logging.NullHandler()
root.addHandler(ours)
level = root.level
import sotto.worker.serve
early = "runpod" in sys.modules
from sotto.net import sdk
runpod = sdk.load()
from runpod.serverless.modules.rp_logger import RunPodLogger
print(json.dumps({
    "loaded_early": early,
    "same_again": sdk.load() is runpod,
    "can_start": callable(runpod.serverless.start),
    "log_level": RunPodLogger().level,
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
        "handlers_kept": True,
        "root_level_kept": True,
        "torch": False,
    }


def test_the_operators_own_log_level_is_kept() -> None:
    assert probed(RUNPOD_LOG_LEVEL="ERROR")["log_level"] == "ERROR"
