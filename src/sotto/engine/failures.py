"""What a library of the engine raises in, EngineError or OutOfMemory out.

Invariant: a lack of memory is told from every other failure, since it is answered by smaller calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sotto.errors import EngineError, OutOfMemory, first_line

SHORT_OF_MEMORY = ("out of memory", "failed to allocate", "alloc failed")
"""What CUDA, MKL's allocator and cuBLAS say, in lower case, when there is no memory left."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what CTranslate2 raises as an error of ours that says what failed."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as error:
        text = str(error).lower().replace("_", " ")
        short = isinstance(error, MemoryError) or any(said in text for said in SHORT_OF_MEMORY)
        raise (OutOfMemory if short else EngineError)(f"{doing}: {first_line(error)}") from error
