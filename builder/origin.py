"""What MODEL means on the command line in, where a model comes from and what is known of it out.

Invariant: what an origin is fixed by, a commit or the digest of a folder's files, is known before
anything is fetched or made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from builder.hub import UNKNOWN_LICENCE, look_up
from builder.layout import OPENAI, Kind, LayoutError, kind_of, needed

from sotto.models.catalogue import NAME, Model, resolve
from sotto.models.fetch import FetchError, Hub
from sotto.models.record import FileRecord, Record, mismatch, read, sha256_of

REPOSITORY = re.compile(f"{NAME}/{NAME}")
NEWEST = "main"
OWN_FOLDER = "a folder of your own"


class OriginError(Exception):
    """MODEL, --name or --revision mean nothing; the message is one line."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """MODEL as it was given, and what was given with it; empty means not given."""

    model: str
    name: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """A model's files on this machine; `sha256` is that of all their names and digests."""

    path: Path
    files: Mapping[str, FileRecord]
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from; `place` is what to fetch, or the folder where it lies.

    `repository` and `revision` are empty for a folder that says nothing of them. `made_from` is the
    sha256 of the weights that those in the folder were made of, if they were.
    """

    name: str
    repository: str
    revision: str
    licence: str
    kind: Kind
    place: Model | Folder
    made_from: str = ""


def find(wanted: Wanted, hub: Hub) -> Origin:
    """The origin that `wanted` means: a folder, a repository of `hub`, or one of the catalogue's.

    Raises OriginError, UnknownModel, and FetchError if the hub does not tell.
    """
    if wanted.name and not re.fullmatch(NAME, wanted.name):
        raise OriginError(
            f"name: {wanted.name!r} cannot be a folder's name; "
            "letters, digits, '.', '_' and '-' are allowed, a letter or digit first"
        )
    if wanted.model.startswith((".", "/")):
        return _of_folder(wanted)
    if "/" not in wanted.model:
        return _of_catalogue(wanted, hub)
    if not REPOSITORY.fullmatch(wanted.model):
        raise OriginError(
            f"model: {wanted.model!r} is neither a name of the catalogue, nor owner/name on the "
            "hub, nor a folder, which begins with '.' or '/'"
        )
    name = wanted.name or wanted.model.partition("/")[2]
    try:
        offer = look_up(wanted.model, wanted.revision or NEWEST, name, hub)
    except FetchError as error:
        if Path(wanted.model).is_dir():
            raise OriginError(f"{error}; the folder of that name is ./{wanted.model}") from error
        raise
    return _of_model(offer.model, offer.kind)


def _of_catalogue(wanted: Wanted, hub: Hub) -> Origin:
    model, kind = resolve(wanted.model), Kind.READY
    if wanted.revision not in {"", model.revision}:
        offer = look_up(model.repository, wanted.revision, model.name, hub)
        model = msgspec.structs.replace(offer.model, licence=model.licence)
        kind = offer.kind
    return _of_model(msgspec.structs.replace(model, name=wanted.name or model.name), kind)


def _of_model(model: Model, kind: Kind) -> Origin:
    return Origin(model.name, model.repository, model.revision, model.licence, kind, model)


def _of_folder(wanted: Wanted) -> Origin:
    path = Path(wanted.model)
    with _readable(wanted.model):
        alone = path.is_file() and OPENAI.fullmatch(path.name) is not None
    place = "file" if alone else "folder"
    if not wanted.name:
        raise OriginError(f"name: is needed with a {place}: bake {wanted.model} --name NAME")
    if wanted.revision:
        raise OriginError(f"revision: {wanted.revision!r} means nothing for a {place}")
    with _readable(wanted.model):
        if alone:
            names, record, path = {path.name}, None, path.parent
        else:
            names = {entry.name for entry in path.iterdir() if entry.is_file()}
            record = read(path)
        kind = kind_of(names)
        folder = _hashed(path, needed(names, kind), record)
    if record is None:
        return Origin(wanted.name, "", "", UNKNOWN_LICENCE, kind, folder)
    return Origin(
        wanted.name,
        record.repository,
        record.revision,
        record.licence,
        kind,
        folder,
        record.made_from,
    )


@contextmanager
def _readable(model: str) -> Iterator[None]:
    """Raise OriginError for what the file system refuses, and for what is no model."""
    try:
        yield
    except OSError as error:
        raise OriginError(f"model: {model!r} cannot be read: {error.strerror or error}") from error
    except LayoutError as error:
        raise OriginError(f"model: {model!r} {error}") from error


def _hashed(path: Path, names: tuple[str, ...], record: Record | None) -> Folder:
    """The folder with every file's digest, which must be the one on record where there is one."""
    recorded = record.files if record else {}
    files = {}
    for name in names:
        known = recorded.get(name)
        file = FileRecord(
            sha256_of(path / name),
            (path / name).stat().st_size,
            known.source if known else OWN_FOLDER,
        )
        if known and known.sha256 != file.sha256:
            raise OriginError(f"model: '{path}': {mismatch(name, file.sha256, known.sha256)}")
        files[name] = file
    listing = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(files.items()))
    return Folder(path, files, hashlib.sha256(listing.encode()).hexdigest())
