"""How this process gets its memory from the C library, and gives it back.

Invariant: only glibc is told anything; elsewhere all stays as it is.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's names for what `mallopt` sets (malloc.h)."""
LARGE_BYTES = 3_000_000
"""From here on a piece of memory is mapped by itself, and gone when it is freed.

What the encoder makes of a window is longer, layer by layer (with base 3.07 MB), and so are the
keys and values that the decoder keeps of it; those of the text so far, which are moved at every
token, are mostly not: to map them each time would take too long.
"""
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""What GLIBC_TUNABLES must hold when the process starts: large pieces come in pages of 2 MB.

Of use where Linux has transparent_hugepage at "madvise", as most do. The scores of the encoder's
attention (with base 72 MB a layer) are mapped anew for every layer of every window, and to get them
in pages of 4 KB was a tenth of all CPU time.
"""
LOOSE_BYTES = 64 * 1024**2
"""What may lie free at the end of the pool before glibc gives it back by itself."""


def share_one() -> bool:
    """Let all threads allocate from one pool, and large pieces from none; was that possible?

    From now on; by itself glibc gives every thread a pool of its own, which keeps what it once
    needed: with a model worker for each core a fifth of the memory at the peak. And it puts pieces
    of up to 32 MB into a pool, between which holes are left: with base 30 MB of 580 at the peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(name, value)
        for name, value in (
            (M_ARENA_MAX, 1),
            (M_MMAP_THRESHOLD, LARGE_BYTES),
            (M_TRIM_THRESHOLD, LOOSE_BYTES),
        )
    )


def give_back() -> bool:
    """Give the system back what is free in the pool; was there anything, and a way to?

    By itself glibc keeps a hole in the pool. Measured on a CPU: when base and tiny.en take turns,
    ten turns leave 373 MB in use without this, and 206 MB with it.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return malloc_trim is not None and bool(malloc_trim(0))
