"""Whether processes live, for tests that start and kill them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def is_gone(group: int) -> bool:
    """Does no process of the group live? The dead may lie about if nobody buries orphans."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return False
    return True


def run_unread(command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is a pipe that is closed already."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        return subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, **how)
    finally:
        os.close(theirs)
