"""One pool of memory for all threads, and what is free in it, in a process of its own."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
PROBE = """
import ctypes, sys, tempfile, threading

from sotto.engine import arena

if sys.argv[1] == "shared":
    assert arena.share_one()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
ready = threading.Barrier(9)

def allocate():
    libc.malloc(100_000)
    ready.wait()
    ready.wait()

for _ in range(8):
    threading.Thread(target=allocate).start()
ready.wait()
with tempfile.NamedTemporaryFile() as report:
    file = ctypes.c_void_p(libc.fopen(report.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(report.read().decode())
ready.wait()
"""


def pools(how: str) -> int:
    """How many pools eight threads have allocated from."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, how],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return len(re.findall("<heap nr=", done.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_all_threads_share_one_pool() -> None:
    assert pools("own") > 1
    assert pools("shared") == 1


HOLES = """
from sotto.engine import arena
from sotto.engine.memory import used_bytes

arena.share_one()
pieces = [b"x" * (100_000 + n) for n in range(1_000)]
kept = bytes(100_000)
pieces.clear()
before = used_bytes("cpu")
assert arena.give_back()
print(before - used_bytes("cpu"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_what_is_free_below_something_in_use_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50_000_000
