"""What comes before the engine computes in the thread that calls it, and starts none of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FRONT_END = f"""
import os
from sotto.audio.features import log_mel
from sotto.audio.silero import FRAME, Silero
import numpy as np

pcm = np.random.default_rng(1).standard_normal(FRAME * 930).astype(np.float32) / 10
log_mel(pcm, 128)
Silero()(pcm)
print(len(os.listdir("/proc/self/task")), *(os.environ[name] for name in {LIBRARIES}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in Linux' way")
def test_log_mel_and_vad_start_no_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRONT_END],
        env={
            **{name: value for name, value in os.environ.items() if name not in LIBRARIES},
            "PYTHONPATH": str(SRC),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1", "1", "1"]
