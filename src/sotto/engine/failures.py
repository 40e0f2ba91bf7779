"""What a library of the engine raises in, EngineError, OutOfMemory or DeviceLost out.

Invariant: a lack of memory is told from every other failure, since it is answered by smaller calls;
so is the loss of the device, since nothing answers it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from sotto.errors import EngineError, OutOfMemory, first_line

SHORT_OF_MEMORY = ("out of memory", "failed to allocate", "alloc failed")
"""What CUDA, MKL's allocator and cuBLAS say, in lower case, when there is no memory left."""
LOST = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "unspecified launch failure",
    "launch timed out",
    "device-side assert",
    "hardware stack error",
    "uncorrectable ecc error",
    "no cuda-capable device",
)
"""What CUDA says, in lower case, when this process will not use the device again: every call after
such an error fails with the same one."""


class DeviceLost(EngineError):
    """The device is gone, for this process at least."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what CTranslate2 raises as an error of ours that says what failed."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as error:
        raise _kind(error)(f"{doing}: {first_line(error)}") from error


@contextmanager
def loaded(doing: str) -> Iterator[None]:
    """Raise whatever ends the load of a model as an error of ours, and hold nothing of the model.

    tokenizers raises plain Exception, when the weights are in memory already. The frames of the
    failure hold those, and the error holds the frames for as long as anybody keeps it.
    """
    try:
        yield
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        raise _kind(error)(f"{doing}: {first_line(error)}") from error


def _kind(error: Exception) -> type[EngineError | OutOfMemory]:
    if is_short_of_memory(error):
        return OutOfMemory
    return DeviceLost if any(said in str(error).lower() for said in LOST) else EngineError


def is_short_of_memory(error: Exception) -> bool:
    """Does CTranslate2 say so?"""
    text = str(error).lower().replace("_", " ")
    return isinstance(error, MemoryError) or any(said in text for said in SHORT_OF_MEMORY)
