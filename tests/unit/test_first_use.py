"""The first jobs of a worker come together: what their threads use first, they use at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.model_files import put_model

from sotto.models.shapes import SHAPES

SRC = Path(__file__).resolve().parents[2] / "src"
TURNS = 5
"""Processes for each: of those that read the catalogue without care three of four crash."""
PROBE = """
import sys, threading
from pathlib import Path

from sotto.models import catalogue, record
from sotto.request import parse

folder, audio = Path(sys.argv[1]), {"audio_base64": "AAAA"}
first = {"catalogue": catalogue.load, "record": lambda: record.read(folder)}
first["request"] = lambda: parse(audio)
together = threading.Barrier(8)
done = []

def use():
    together.wait()
    done.append(first[sys.argv[2]]())

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done))
"""


@pytest.mark.parametrize("what", ["catalogue", "record", "request"])
def test_what_many_threads_use_first_at_once_is_whole(tmp_path: Path, what: str) -> None:
    put_model(tmp_path / "base", SHAPES["base"])
    for _ in range(TURNS):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(tmp_path / "base"), what],
            env={"PYTHONPATH": str(SRC)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr
