"""One pool of memory for all threads, and what is free in it, in a process of its own."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sotto.engine import arena

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


def printed(probe: str, *arguments: str) -> str:
    """What a process prints that runs `probe`."""
    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pools(how: str) -> int:
    """How many pools eight threads have allocated from."""
    return len(re.findall("<heap nr=", printed(PROBE, how)))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_all_threads_share_one_pool() -> None:
    assert pools("own") > 1
    assert pools("shared") == 1


PIECES = """
import ctypes, sys

from sotto.engine import arena
from sotto.engine.memory import used_bytes

arena.share_one()
if "loaded" in sys.argv:
    with arena.loading():
        pass
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]

def piece(size, touched=1):
    held = libc.malloc(size)
    ctypes.memset(held, 1, int(size * touched))
    return held

large = 2 * arena.LARGE_BYTES
"""
"""How the probes below begin: a large piece, of which so much has been touched."""

LARGE = """
libc.free(piece(large))  # from now on glibc would put pieces of this size into the pool
pieces = [(piece(large), piece(1_000)) for _ in range(10)]
before = used_bytes("cpu")
for held, _ in pieces:
    libc.free(held)
after = used_bytes("cpu")
arena.give_back()
print(before - after, after - used_bytes("cpu"))
"""
ALL_BUT_ONE = 19 * arena.LARGE_BYTES
"""Nearly all of the ten pieces, each twice as long as a large one has to be."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_a_large_piece_leaves_no_hole_when_it_is_freed() -> None:
    freed, _ = map(int, printed(PIECES + LARGE).split())
    assert freed > ALL_BUT_ONE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_once_a_model_is_loaded_a_large_piece_stays_at_hand_until_it_is_given_back() -> None:
    freed, given_back = map(int, printed(PIECES + LARGE, "loaded").split())
    assert freed < arena.LARGE_BYTES
    assert given_back > ALL_BUT_ONE


WEIGHTS = """
work, kept = [piece(large) for _ in range(10)], piece(1_000)
for held in work:
    libc.free(held)
before = used_bytes("cpu")
with arena.loading():
    weights = [piece(large, 0.1) for _ in range(10)]
print(before - used_bytes("cpu"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_what_a_model_takes_and_does_not_touch_is_not_in_memory() -> None:
    assert (
        int(printed(PIECES + WEIGHTS, "loaded")) > 17 * arena.LARGE_BYTES
    )  # of 20, the pieces of work


def test_after_a_load_that_failed_large_pieces_are_pooled_all_the_same(monkeypatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(arena, "_set", lambda *pair: told.append(pair) or True)
    with pytest.raises(ValueError, match="no such model"), arena.loading():
        raise ValueError("no such model")
    assert told[-1] == (arena.M_MMAP_MAX, arena.POOLED)
    with arena.loading():  # the lock is free again
        assert told[-1] == (arena.M_MMAP_MAX, arena.MAPPED)


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
    assert int(printed(HOLES)) > 50_000_000
