"""Bytes on their way, shown to whoever waits for them.

Invariant: only standard error is written to, and nothing where progress is not wanted.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def bar(title: str, total_bytes: int | None, *, shown: bool, have_bytes: int = 0) -> Any:
    """A progress bar, to be used in a `with`; `update` it by the bytes that have come."""
    return tqdm(
        desc=title,
        initial=have_bytes,
        total=total_bytes,
        unit="B",
        unit_scale=True,
        # A log that is no terminal gets a line now and then, not ten a second.
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        disable=not shown,
    )
