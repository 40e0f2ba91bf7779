"""How much memory the model's device has left, and how much of it is in use.

Invariant: asking never fails, and takes no memory of the device that a model there would not take;
what cannot be read is None.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import NamedTuple

DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""The driver's numbers for the two parts of the compute capability."""
STATM = Path("/proc/self/statm")
"""Its second number is what this process holds, in pages."""
MEMINFO = Path("/proc/meminfo")
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container says how much it may hold, by the two versions of control groups."""


class Gpu(NamedTuple):
    """Bytes of the first GPU, whoever uses them."""

    used: int
    free: int


def used_bytes(device: str) -> int | None:
    """What is in use of the memory of `device`, "cuda" or "cpu"; of the latter what we hold."""
    if device == "cuda":
        found = gpu()
        return None if found is None else found.used
    pages = _number(STATM, 1)
    return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")


def free_bytes(device: str) -> int | None:
    """What `device`, "cuda" or "cpu", has left for us; of the latter what our container allows."""
    if device == "cuda":
        found = gpu()
        return None if found is None else found.free
    held = used_bytes("cpu") or 0
    limits = [limit for limit in map(_number, LIMITS) if limit is not None]
    left = [_available(), *(limit - held for limit in limits)]
    return min((bytes_left for bytes_left in left if bytes_left is not None), default=None)


def gpu() -> Gpu | None:
    """The memory of the first GPU; None where there is none.

    The driver is asked, since CTranslate2 does not tell.
    """
    driver, context = _driver(), _context()
    if driver is None or context is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if driver.cuCtxPushCurrent_v2(context):
        return None
    failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    return None if failed else Gpu(total.value - free.value, free.value)


def capability() -> str | None:
    """The compute capability of the first GPU, such as "8.6"; None where there is none."""
    driver, number = _driver(), ctypes.c_int()
    if driver is None or driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(number), 0):
        return None
    parts = []
    for attribute in (MAJOR, MINOR):
        part = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, number):
            return None
        parts.append(str(part.value))
    return ".".join(parts)


@functools.cache
def _context() -> ctypes.c_void_p | None:
    """The context of the first GPU in this process: whoever comes first makes it.

    It is kept: a model runs in the same one, and to make it twice would take its time twice.
    """
    driver = _driver()
    number, context = ctypes.c_int(), ctypes.c_void_p()
    if (
        driver is None
        or driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(number), 0)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number)
    ):
        return None
    return context


@functools.cache
def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        return None


def _available() -> int | None:
    """Bytes that the machine can still give, to all who ask."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        [kilobytes] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return 1024 * int(kilobytes)
    except (OSError, ValueError, IndexError):
        return None


def _number(file: Path, place: int = 0) -> int | None:
    """The number at a `place` of a file; None if there is none, or "max"."""
    try:
        return int(file.read_text(encoding="ascii").split()[place])
    except (OSError, ValueError, IndexError):
        return None
