"""How much memory the model's device has left, and how much of it is in use.

Invariant: asking never fails and never takes memory of the device; what cannot be read is None.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import NamedTuple

DRIVER = "libcuda.so.1"
STATM = Path("/proc/self/statm")
"""Its second number is what this process holds, in pages."""


class Gpu(NamedTuple):
    """Bytes of the first GPU, whoever uses them."""

    used: int
    free: int


def used_bytes(device: str) -> int | None:
    """What is in use of the memory of `device`, "cuda" or "cpu"; of the latter what we hold."""
    if device == "cuda":
        found = gpu()
        return None if found is None else found.used
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def gpu() -> Gpu | None:
    """The memory of the first GPU, to be asked once a model has been loaded there.

    The driver is asked, since CTranslate2 does not tell. The model's own context is borrowed: to
    make one would take memory.
    """
    driver = _driver()
    if driver is None:
        return None
    number, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(number), 0)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number)
    ):
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(number)
    return None if failed else Gpu(total.value - free.value, free.value)


@functools.cache
def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        return None
