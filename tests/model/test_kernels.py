"""Which of its kernels CTranslate2 takes for a model, in a process that imports Sotto first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sotto

CODE = "import sys, sotto, ctranslate2; ctranslate2.models.Whisper(sys.argv[1])"


def taken(weights: Path, **environ: str) -> str:
    """What CTranslate2 says that it takes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CT2_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(weights / "tiny.en")],
        env={**kept, "CT2_VERBOSE": "1", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in done.stderr.splitlines() if "Selected ISA" in line]
    return line.rpartition(" ")[2]


@pytest.mark.skipif(not sotto.has_avx512(), reason="this CPU has no AVX-512")
def test_avx512_is_taken_unless_the_environment_says_otherwise(weights: Path) -> None:
    assert taken(weights) == "AVX512"
    assert taken(weights, CT2_FORCE_CPU_ISA="AVX2") == "AVX2"


@pytest.mark.skipif(sotto.has_avx512(), reason="this CPU has AVX-512")
def test_a_cpu_without_avx512_is_left_to_ctranslate2(weights: Path) -> None:
    assert taken(weights) != "AVX512"
