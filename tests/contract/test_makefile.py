"""The Makefile: what it begins and cannot end is begun anew by the next run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """\
#!/bin/sh
[ "$1" = --version ] && echo Python 3.11 && exit
mkdir -p "$3/bin" && : > "$3/bin/python"
"""
"""Makes an environment as `python -m venv` begins to."""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_an_environment_that_cannot_be_made_is_no_environment_for_the_next_run(
    tmp_path: Path,
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python"

    def make() -> int:
        command = ["make", ".venv/bin/python", f"PYTHON={python}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode

    python.write_text(f"{PYTHON}exit 1  # as where ensurepip is not installed\n")
    python.chmod(0o755)
    assert make() != 0
    assert not (tmp_path / ".venv").exists()
    python.write_text(PYTHON)
    assert make() == 0
    assert (tmp_path / ".venv" / "bin" / "python").exists()
