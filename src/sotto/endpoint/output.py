"""What a command says on the standard output and the standard error.

Invariant: that nobody reads it any more, as behind `head`, ends no command: what it has begun goes
on, and all else that it says goes nowhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO


def write(stream: TextIO, text: str) -> None:
    """Write at once."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # What is in the buffer stays there, and would fail again at the latest at the exit.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
