"""How this process gets its memory from the C library, and gives it back.

Invariant: only glibc is told anything; elsewhere all stays as it is.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
"""glibc's names for what `mallopt` sets (malloc.h)."""
LARGE_BYTES = 1_200_000
"""From here on a piece of memory is large: while it may be mapped, it is gone when it is freed."""
MAPPED, POOLED = 65_536, 0
"""How many pieces may be mapped at a time: glibc's own limit, or none."""
LOOSE_BYTES = 256 * 1024**2
"""What may lie free at the end of the pool before glibc gives it back by itself.

More than a layer of the encoder takes (with base 72 MB of attention scores), or every layer of
every window would get that anew from the system, 4 KB at a time: a twelfth of all CPU time.
"""
TUNABLES = "glibc.malloc.arena_max=1"
"""What GLIBC_TUNABLES should hold when the process starts.

Then there is one pool from the first thread on, where `share_one` comes after some libraries' own
threads.
"""
_LOADING = threading.Lock()


def share_one() -> bool:
    """Let all threads allocate from one pool, and large pieces from none; was that possible?

    From now on, the latter until a model is loaded; pools that there are stay. By itself glibc
    gives every thread a pool of its own, which keeps what it once needed: with a model worker for
    each core a fifth of the memory at the peak. And it puts pieces of up to 32 MB into a pool,
    between which holes are left.
    """
    return (
        _set(M_ARENA_MAX, 1)
        and _set(M_MMAP_THRESHOLD, LARGE_BYTES)
        and _set(M_TRIM_THRESHOLD, LOOSE_BYTES)
    )


@contextmanager
def loading() -> Iterator[None]:
    """Inside, a model is loaded: it is mapped, and all that comes after is pooled.

    On a CPU, MKL takes sixteen times the weights to lay them out for itself and touches a tenth of
    that. In the pool, where all has been touched before, that was 190 MB more with base. Whoever is
    at work frees large pieces at once and wants the like again, which the pool has at hand: to map
    them took a fifth of a CPU model's time, and of what comes before the engine, on any device, 0.8
    CPU seconds an hour of audio. One model loads at a time.
    """
    with _LOADING:
        give_back()
        _set(M_MMAP_MAX, MAPPED)
        try:
            yield
        finally:
            _set(M_MMAP_MAX, POOLED)


def give_back() -> bool:
    """Give the system back what is free in the pool; was there anything, and a way to?

    By itself glibc keeps a hole in the pool. Measured on a CPU: when base and tiny.en take turns,
    eight turns leave 420 MB in use when base has gone without this, and 113 MB with it.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))


def _set(name: int, value: int) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(name, value))
