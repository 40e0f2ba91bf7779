"""How this process gets its memory from the C library, and gives it back.

Invariant: only glibc is told anything; elsewhere all stays as it is.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's names for what `mallopt` sets (malloc.h)."""
LARGE_BYTES = 1_200_000
"""From here on a piece of memory is mapped by itself, and gone when it is freed.

What the encoder makes of a window is longer, layer by layer (with base 3.07 MB), and so are the
keys and values that the decoder keeps of it. Those of the text so far move at every token into
pieces that are longer by a token, and leave holes: with base and two windows they pass this size at
59 tokens, so that a window of many words takes little more than others. To map them costs a
thirtieth of the CPU time.
"""
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
"""What GLIBC_TUNABLES should hold when the process starts.

Large pieces come in pages of 2 MB, of use where Linux has transparent_hugepage at "madvise", as
most do: the scores of the encoder's attention (with base 72 MB a layer) are mapped anew for every
layer of every window, and to get them in pages of 4 KB was a tenth of all CPU time. And there is
one pool from the first thread on, where `share_one` comes after some libraries' own threads.
"""
LOOSE_BYTES = 64 * 1024**2
"""What may lie free at the end of the pool before glibc gives it back by itself."""


def share_one() -> bool:
    """Let all threads allocate from one pool, and large pieces from none; was that possible?

    From now on; pools that there are stay. By itself glibc gives every thread a pool of its own,
    which keeps what it once needed: with a model worker for each core a fifth of the memory at the
    peak. And it puts pieces of up to 32 MB into a pool, between which holes are left.
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
