"""How this process gets its memory from the C library.

Invariant: only glibc is told anything; elsewhere all stays as it is.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8
"""glibc's name for the most pools that threads allocate from (malloc.h)."""


def share_one() -> bool:
    """Let all threads allocate from one pool, from now on; was that possible?

    glibc gives every thread a pool of its own, and each keeps what it once needed: with a model
    worker for each core that is a fifth of the memory at the peak. Measured on a CPU: no slower.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, 1))
