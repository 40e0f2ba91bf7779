"""What one look leaves for the next, in a file, and how far apart the two are.

Invariant: one watchdog at a time has the file. What is not certainly its own last word counts for
nothing: then the idle time begins anew, and the reason is told.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec
from msgspec import Meta

from sotto.endpoint.watchdog.clock import Seconds
from sotto.endpoint.watchdog.decide import Memory
from sotto.endpoint.watchdog.refusal import WatchdogError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# It runs on while the machine sleeps.
UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment, on the wall's clock (Unix time) and on one that nobody sets, the machine's own."""

    wall_s: Seconds
    uptime_s: Seconds
    boot_id: Annotated[str, Meta(max_length=100)]

    @classmethod
    def now(cls) -> Instant:
        """This moment."""
        boot_id = BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.is_file() else ""
        return cls(time.time(), time.clock_gettime(UPTIME), boot_id)

    def since(self, earlier: Instant) -> float | None:
        """Seconds from `earlier` to this moment; None if a clock was set back between them."""
        wall_s = self.wall_s - earlier.wall_s
        if not self.boot_id or self.boot_id != earlier.boot_id:
            return wall_s if wall_s >= 0 else None
        uptime_s = self.uptime_s - earlier.uptime_s
        return uptime_s if uptime_s >= 0 and wall_s >= 0 else None


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the file. `watches`: what it is about, as a digest. `at`: when it was seen."""

    version: Literal[1]
    watches: str
    at: Instant
    memory: Memory


class Held(Exception):
    """Another watchdog has the file."""


class State:
    """The file at `path`, and the lock beside it while this is open as a context.

    `watches`: a digest of what is watched and by which rules.
    """

    def __init__(self, path: Path, watches: str) -> None:
        self.path = path
        self._watches = watches
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> State:
        """Raises Held, WatchdogError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.lock").open("ab")
        except OSError as error:
            raise self._refused(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Held(f"another watchdog has {self.path}") from None
        except OSError as error:
            lock.close()
            raise self._refused(error) from None
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self) -> tuple[Kept | None, str]:
        """What was kept, or None and why. Raises WatchdogError if the file may not be read."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None, f"there is no {self.path} yet"
        except OSError as error:
            raise self._refused(error) from None
        try:
            kept = msgspec.json.decode(data, type=Kept)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, f"{self.path} is damaged"
        if kept.watches != self._watches:
            return None, f"{self.path} is of a watchdog with other options"
        return kept, ""

    def save(self, at: Instant, memory: Memory) -> None:
        """Replace what is kept: afterwards the file is the old one or the new one, whole.

        Raises OSError.
        """
        folder = self.path.parent
        data = msgspec.json.encode(Kept(1, self._watches, at, memory))
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _refused(self, error: OSError) -> WatchdogError:
        return WatchdogError(f"--state: {self.path}: {error.strerror}; name another file")
