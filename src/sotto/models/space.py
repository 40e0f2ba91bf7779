"""Room on a disk, asked for before it is needed.

Invariant: nothing is written here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

DISK_RESERVE_BYTES = 16 << 20
"""What stays free for the records, the logs and everybody else."""


def shortage(folder: Path, need_bytes: int) -> str | None:
    """What to tell if `need_bytes` do not fit beside what `folder` holds; None if they do."""
    need_bytes += DISK_RESERVE_BYTES
    free_bytes = shutil.disk_usage(folder).free
    if need_bytes <= free_bytes:
        return None
    return f"needs {need_bytes:,} bytes of disk space, {free_bytes:,} are free at {folder}"
