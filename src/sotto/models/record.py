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
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that is none: broken, in another encoding, nested without end."""


class FileRecord(msgspec.Struct, frozen=True):
    """What one file was when it was checked, and who gave it."""

    sha256: str
    size_bytes: int
    source: str


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model's folder: which model it is, its files by name, and what a proof has shown of it.

    A fetch fills in the first five fields, a bake all of them. `repository` and `revision` are
    empty for a folder of somebody's own, whose digest is then in `folder_sha256`. `compute_type`
    is what the weights are stored as, `original_type` what they were before they were quantised.
    `made_from` is the sha256 of the weights that were converted or quantised, and empty where they
    are as they came. `languages` counts them: 1 is English alone. `memory_bytes` is what a worker
    needs on its device, by the compute type it loads the model with.
    """

    name: str
    repository: str
    revision: str
    licence: str
    files: dict[str, FileRecord]
    compute_type: str = ""
    original_type: str = ""
    made_from: str = ""
    folder_sha256: str = ""
    mels: int = 0
    languages: int = 0
    alignment_heads: bool | None = None
    disk_bytes: int = 0
    memory_bytes: dict[str, int] = {}

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
        vocabularies = {file.name for file in model.files}.intersection(VOCABULARIES)
        if vocabularies and vocabularies.isdisjoint(self.files):
            yield " or ".join(VOCABULARIES)


_RECORDS = msgspec.json.Decoder(Record)
"""Made here, since threads that make the first one at the same time crash: see catalogue.py."""


def read(folder: Path) -> Record | None:
    """The record in `folder`; None if there is none that can be read."""
    try:
        return _RECORDS.decode((folder / RECORD).read_bytes())
    except (OSError, *UNREADABLE):
        return None


def write(record: Record, folder: Path) -> None:
    """Put `record` into `folder`, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    written = folder / f"{RECORD}.new"
    written.write_bytes(text + b"\n")
    written.replace(folder / RECORD)


def is_complete(model: Model, folder: Path) -> bool:
    """Does `folder` hold every file of `model`, to judge by its record and the sizes?"""
    record = read(folder)
    return (
        record is not None
        and record.is_of(model)
        and not any(record.lacks(model))
        and not any(missing(record, folder))
    )


def missing(record: Record, folder: Path) -> Iterator[str]:
    """What of `record` is not in `folder`, to judge by the sizes."""
    for name, file in record.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            yield f"{name}: not there, or not {file.size_bytes} bytes long"


def faults(folder: Path) -> list[str]:
    """Everything in `folder` that is not as it was recorded; hashes every file."""
    record = read(folder)
    if record is None:
        return [f"no readable {RECORD}"]
    if gone := list(missing(record, folder)):
        return gone
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
