"""What model.json says of the folder it lies in, and whether the folder still agrees.

Invariant: a file is on record only after its digest has been taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sotto.models.catalogue import VOCABULARIES, Model

RECORD = "model.json"


class FileRecord(msgspec.Struct, frozen=True):
    """What one file was when it was checked, and who gave it."""

    sha256: str
    size_bytes: int
    source: str


class Record(msgspec.Struct, frozen=True):
    """A model's folder: which model it is, and its files by name."""

    name: str
    repository: str
    revision: str
    licence: str
    files: dict[str, FileRecord]

    @classmethod
    def begin(cls, model: Model) -> Record:
        """The record of a folder for `model` in which there is nothing yet."""
        return cls(model.name, model.repository, model.revision, model.licence, files={})

    def adding(self, name: str, file: FileRecord) -> Record:
        """This record with one file more."""
        return msgspec.structs.replace(self, files={**self.files, name: file})

    def is_of(self, model: Model) -> bool:
        """Was this folder made for `model` at its present revision?"""
        return (self.repository, self.revision) == (model.repository, model.revision)

    def lacks(self, model: Model) -> Iterator[str]:
        """The files of `model` that are not on record, or only with another digest."""
        for file in model.files:
            recorded = self.files.get(file.name)
            if recorded is None:
                if not file.optional:
                    yield file.name
            elif file.sha256 not in {None, recorded.sha256}:
                yield file.name
        if not any(name in self.files for name in VOCABULARIES):
            yield " or ".join(VOCABULARIES)


def read(folder: Path) -> Record | None:
    """The record in `folder`; None if there is none that can be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def write(record: Record, folder: Path) -> None:
    """Put `record` into `folder`, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    written = folder / f"{RECORD}.new"
    written.write_bytes(text + b"\n")
    written.replace(folder / RECORD)


def is_complete(model: Model, folder: Path) -> bool:
    """Does `folder` hold every file of `model`, to judge by its record and the sizes?"""
    return not any(_quick_faults(model, folder))


def faults(model: Model, folder: Path) -> list[str]:
    """Everything in `folder` that is not as it was recorded; hashes every file."""
    found = list(_quick_faults(model, folder))
    record = read(folder)
    if found or record is None:
        return found
    digests = {name: sha256_of(folder / name) for name in record.files}
    return [
        mismatch(name, digests[name], file.sha256)
        for name, file in record.files.items()
        if digests[name] != file.sha256
    ]


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def mismatch(name: str, found: str, expected: str | None) -> str:
    """How a wrong digest is told."""
    return f"{name}: sha256 is {found}, expected {expected}"


def _quick_faults(model: Model, folder: Path) -> Iterator[str]:
    record = read(folder)
    if record is None:
        yield f"no readable {RECORD}"
    elif not record.is_of(model):
        yield f"revision {record.revision} is there, {model.revision} expected"
    else:
        yield from (f"{name}: not there" for name in record.lacks(model))
        for name, file in record.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != file.size_bytes:
                yield f"{name}: not there, or not {file.size_bytes} bytes long"
