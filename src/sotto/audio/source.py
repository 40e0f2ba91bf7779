"""Where a job's audio comes from, and the one file it is read from while the job runs.

Invariant: a temporary file made here is gone when the job is over, however it ends, and a file on
a volume is read only if it lies below a configured root, and is never changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from sotto.errors import (
    AudioEmpty,
    InternalError,
    RequestError,
    SourceForbidden,
    SourceTooLarge,
    SourceUnreachable,
)

LONGEST_PATH = 4096
"""Linux takes no longer one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UrlAudio:
    """Audio at an http(s) address; both fields may hold secrets, so neither is shown."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EmbeddedAudio:
    """Audio that came inside the job."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PathAudio:
    """Audio on a volume that the worker has mounted."""

    path: str


Audio = UrlAudio | EmbeddedAudio | PathAudio


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """What may be opened, and where downloads lie; `temp_root` None is the system's folder."""

    max_audio_bytes: int
    audio_roots: tuple[Path, ...]
    temp_root: Path | None


class Fetcher(Protocol):
    """Opens addresses; `sotto.net.Net` is one."""

    def fetch(
        self, url: str, headers: Mapping[str, str], into: BinaryIO, cancelled: threading.Event
    ) -> None:
        """Write what `url` answers into `into`; blocks, but ends soon once `cancelled` is set."""


@asynccontextmanager
async def open_source(audio: Audio, net: Fetcher, limits: SourceLimits) -> AsyncIterator[Path]:
    """Give `audio` as a file on disk, for as long as the block lasts.

    Raises RequestError for a path that may not be read, SourceError for audio that cannot be had
    or is too large, AudioEmpty for audio without a byte, InternalError as `temporary_file` does.
    """
    if isinstance(audio, PathAudio):
        yield await asyncio.to_thread(_on_volume, audio.path, limits)
        return
    with temporary_file(limits.temp_root) as (path, file):
        await _in_thread(lambda cancelled: _fill(file, audio, net, limits, cancelled))
        yield path


@contextmanager
def temporary_file(root: Path | None) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file that only this user can read, and its path; both are gone afterwards.

    Raises InternalError if the folder takes no file; the log says which and why, for whoever runs
    the worker.
    """
    try:
        number, name = tempfile.mkstemp(prefix="sotto-", dir=root)
    except OSError as error:
        folder = root or "the system's temporary folder"
        log.error("SOTTO_TEMP_DIR: no audio can be written to %s: %s", folder, error.strerror)
        raise InternalError("this worker cannot write audio; its log has the reason") from error
    try:
        with open(number, "w+b") as file:  # noqa: PTH123  (mkstemp has opened it)
            yield Path(name), file
    finally:
        Path(name).unlink(missing_ok=True)


def _fill(
    file: BinaryIO,
    audio: UrlAudio | EmbeddedAudio,
    net: Fetcher,
    limits: SourceLimits,
    cancelled: threading.Event,
) -> None:
    if isinstance(audio, UrlAudio):
        net.fetch(audio.url, dict(audio.headers), file, cancelled)
    else:
        _check_size(len(audio.data), limits, "the embedded audio")
        file.write(audio.data)
    file.flush()


async def _in_thread(work: Callable[[threading.Event], None]) -> None:
    """Run `work` in a thread; a cancellation is passed on to it, and it has ended before we do."""
    cancelled = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, cancelled))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue  # cancelled again: the thread still holds the file
        if not running.cancelled():
            running.exception()  # looked at, so that asyncio does not report it as forgotten
        raise


def _on_volume(name: str, limits: SourceLimits) -> Path:
    """Find the file at `name`, following links, and check that it may and can be read."""
    path = _below_a_root(name, limits.audio_roots)
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceUnreachable(f"audio_path: '{name}' does not exist") from error
    except OSError as error:
        raise SourceUnreachable(f"audio_path: '{name}' cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise RequestError("audio_path", f"'{name}' is not a regular file")
    if not os.access(path, os.R_OK):
        raise SourceForbidden(f"audio_path: '{name}' may not be read by the worker")
    _check_size(found.st_size, limits, f"audio_path: '{name}'")
    return path


def _below_a_root(name: str, roots: tuple[Path, ...]) -> Path:
    """Resolve `name`; whatever lies elsewhere is refused alike, whether it exists or not."""
    if not roots:
        raise RequestError("audio_path", "this worker reads no paths; give 'audio' a URL instead")
    allowed = ", ".join(str(root) for root in roots)
    # The time that a path takes to resolve grows with the square of its length.
    if len(name) > LONGEST_PATH:
        raise RequestError("audio_path", f"longer than {LONGEST_PATH} characters: no path is")
    try:
        path = Path(os.path.realpath(name))
    except (ValueError, OSError) as error:
        raise RequestError("audio_path", f"{name!r} is not a path") from error
    if not Path(name).is_absolute() or not any(
        path.is_relative_to(os.path.realpath(root)) for root in roots
    ):
        raise RequestError("audio_path", f"{name!r} is not below {allowed}")
    return path


def _check_size(size_bytes: int, limits: SourceLimits, what: str) -> None:
    if size_bytes == 0:
        raise AudioEmpty(f"{what} is empty")
    if size_bytes > limits.max_audio_bytes:
        raise SourceTooLarge(f"{what} has {size_bytes} bytes, more than {limits.max_audio_bytes}")
