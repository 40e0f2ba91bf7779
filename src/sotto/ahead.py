"""An iterator's next item, made by another thread while the last one is worked on.

Invariant: the iterator runs in one thread at a time, and in the caller's own when no other is free,
so that a full pool of threads can never wait for itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Executor, wait
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], threads: Executor) -> Generator[Item, None, None]:
    """Yield `items`, none of which is None, while `threads` make one more in advance.

    An error in `items` is raised when its turn comes.
    """
    coming = threads.submit(next, items, None)
    try:
        while True:
            # A thread that is not free yet would be waited for in vain: then it is done here.
            item = next(items, None) if coming.cancel() else coming.result()
            if item is None:
                return
            coming = threads.submit(next, items, None)
            yield item
    finally:
        if not coming.cancel():
            wait([coming])
