"""Sotto: a Whisper transcription worker for RunPod serverless."""

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
AVX512 = frozenset(f"avx512{part}" for part in ("f", "cd", "vl", "bw", "dq"))
"""The parts of AVX-512 that CTranslate2's kernels for it are made of."""


def has_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """Whether every CPU that Linux lists has all of AVX512; False where it lists none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = {line.partition(":")[2] for line in lines if line.startswith("flags")}
    return bool(kinds) and all(set(flags.split()) >= AVX512 for flags in kinds)


# Sotto keeps every core busy with one thread of its own. Math libraries that split each call over
# all cores only get in each other's way; they read these when they are first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# CTranslate2 keeps its own kernels to AVX2. With AVX-512 the encoder takes a twelfth less, a search
# a fiftieth (base in int8 on a Cascade Lake).
if has_avx512():
    os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")

__version__ = "0.1.0"
