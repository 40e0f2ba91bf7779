"""A model.bin in, the table of its variables out: the one reader of CTranslate2's file format.

CTranslate2 writes each variable as a name, its dimensions, the type of its numbers, its length and
its bytes. Invariant: the bytes are passed over, so that the largest file is read in an instant; a
file that could be read is whole, with every variable inside it and nothing behind the last.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

VERSIONS = range(4, 7)
"""The versions of the file in which a variable is written like this."""
KIND = "WhisperSpec"
"""What a model.bin calls itself that holds a Whisper model."""
ITEM_BYTES: Mapping[str, int] = {
    "float32": 4,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
}
TYPES = tuple(ITEM_BYTES)
"""The types of numbers; a file names one by its place here."""
MOST_VARIABLES = 100_000
"""Far more than the largest model has."""
LONGEST_NAME_SHOWN = 80

BYTE = struct.Struct("<B")
SHORT = struct.Struct("<H")
SIGNED_SHORT = struct.Struct("<h")
INTEGER = struct.Struct("<I")


class Variable(NamedTuple):
    """One variable and where its bytes begin; `value` is there for a single whole number."""

    name: str
    dimensions: tuple[int, ...]
    type: str
    offset_bytes: int
    length_bytes: int
    value: int | None


@dataclass(frozen=True, slots=True)
class Table:
    """What lies where in a model.bin; an alias is (another name, the variable's name)."""

    revision: int
    variables: tuple[Variable, ...]
    aliases: tuple[tuple[str, str], ...]

    def by_name(self) -> dict[str, Variable]:
        """The variables by all of their names: of equal ones, a file has one and its aliases."""
        found = {variable.name: variable for variable in self.variables}
        return found | {alias: found[name] for alias, name in self.aliases}


def read(model_bin: Path, versions: range = VERSIONS) -> Table:
    """The table of a Whisper model's file. Raises ValueError, which says what is wrong, OSError."""
    with model_bin.open("rb") as file:
        return _table(_Cursor(file, model_bin.stat().st_size), versions)


class _Cursor:
    """A place in a file that is read from front to back, and never past its end."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes

    @property
    def offset_bytes(self) -> int:
        return self._file.tell()

    @property
    def left_bytes(self) -> int:
        return self._size_bytes - self.offset_bytes

    def take(self, size_bytes: int) -> bytes:
        self._require(size_bytes)
        return self._file.read(size_bytes)

    def skip(self, size_bytes: int) -> None:
        self._require(size_bytes)
        self._file.seek(size_bytes, 1)

    def number(self, field: struct.Struct) -> int:
        (value,) = field.unpack(self.take(field.size))
        return int(value)

    def text(self) -> str:
        """A text with its length before it and a zero behind it."""
        raw = self.take(self.number(SHORT))
        try:
            if raw.endswith(b"\0"):
                return raw[:-1].decode()
        except UnicodeDecodeError:
            pass
        raise ValueError(f"no name ends at byte {self.offset_bytes}; it is damaged")

    def _require(self, size_bytes: int) -> None:
        if size_bytes > self.left_bytes:
            raise ValueError(f"is cut short: it ends after {self._size_bytes} bytes")


def _table(cursor: _Cursor, versions: range) -> Table:
    version = cursor.number(INTEGER)
    if version not in versions:
        read = " to ".join(str(bound) for bound in dict.fromkeys((versions[0], versions[-1])))
        raise ValueError(f"is no model.bin of format version {read}: it begins with {version}")
    kind = cursor.text()
    if kind != KIND:
        raise ValueError(f"holds a model of the kind {kind[:40]!r}; only Whisper models are served")
    revision, count = cursor.number(INTEGER), cursor.number(INTEGER)
    if count > MOST_VARIABLES:
        raise ValueError(f"has {count} variables; at most {MOST_VARIABLES} are read")
    variables = tuple(_variable(cursor) for _ in range(count))
    aliases = tuple((cursor.text(), cursor.text()) for _ in range(cursor.number(INTEGER)))
    if cursor.left_bytes:
        raise ValueError(f"has {cursor.left_bytes} bytes too many at its end")
    names = {variable.name for variable in variables}
    if len(names | {alias for alias, _ in aliases}) < len(variables) + len(aliases):
        raise ValueError("has two variables of one name")
    for _, name in aliases:
        if name not in names:
            raise ValueError(f"has an alias of {_shown(name)}, which is not in it")
    return Table(revision, variables, aliases)


def _variable(cursor: _Cursor) -> Variable:
    name = cursor.text()
    dimensions = tuple(cursor.number(INTEGER) for _ in range(cursor.number(BYTE)))
    number = cursor.number(BYTE)
    if number >= len(TYPES):
        raise ValueError(f"{_shown(name)} has numbers of the unknown type {number}")
    length_bytes = cursor.number(INTEGER)
    kind = TYPES[number]
    if not length_bytes or length_bytes != math.prod(dimensions) * ITEM_BYTES[kind]:
        raise ValueError(f"{_shown(name)} has {length_bytes} bytes, which does not fit its shape")
    offset_bytes = cursor.offset_bytes
    value = None
    if not dimensions and kind == "int16":
        value = cursor.number(SIGNED_SHORT)
    else:
        cursor.skip(length_bytes)
    return Variable(name, dimensions, kind, offset_bytes, length_bytes, value)


def _shown(name: str) -> str:
    return repr(name[:LONGEST_NAME_SHOWN])
