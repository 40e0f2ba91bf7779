"""CTranslate2's model.bin: the table of its tensors, the values of one of them, and a new file.

Invariant: a file that could be read is whole: the values of every tensor lie inside it and nothing
lies behind the last. The values of one tensor at most are in memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

VERSION = 6
"""The version of the format that CTranslate2 4 writes."""
MODEL = "WhisperSpec"
"""What a model.bin calls itself that holds a Whisper model."""

BYTE = struct.Struct("<B")
SHORT = struct.Struct("<H")
INTEGER = struct.Struct("<I")


class ModelBinError(Exception):
    """The file is not what is wanted of it; the message is one line that begins with its name."""


class Kind(Enum):
    """How values are stored; the numbers are the format's."""

    FLOAT32 = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    FLOAT16 = 4
    BFLOAT16 = 5

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same in numpy, which knows no bfloat16: unsigned integers hold its bits."""
        return np.dtype(DTYPES[self])


DTYPES = {
    Kind.FLOAT32: "<f4",
    Kind.INT8: "i1",
    Kind.INT16: "<i2",
    Kind.INT32: "<i4",
    Kind.FLOAT16: "<f2",
    Kind.BFLOAT16: "<u2",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, and where in the file its values begin; a scalar has the shape ()."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        """How long its values are in the file."""
        return math.prod(self.shape) * self.kind.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Values:
    """A tensor with its values, of the kind's dtype."""

    name: str
    kind: Kind
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a model.bin; an alias is (another name, the tensor's name)."""

    path: Path
    revision: int
    tensors: tuple[Tensor, ...]
    aliases: tuple[tuple[str, str], ...]

    def values(self, tensor: Tensor) -> Values:
        """Read one tensor. Raises OSError."""
        dtype = tensor.kind.dtype
        count = math.prod(tensor.shape)
        flat = np.fromfile(self.path, dtype, count, offset=tensor.offset_bytes)
        return Values(tensor.name, tensor.kind, flat.reshape(tensor.shape))


def read(path: Path) -> Layout:
    """The layout of a Whisper model's model.bin; reads no values.

    Raises ModelBinError for anything else, for a damaged one, and if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _read(_Cursor(file, path))
    except OSError as error:
        raise ModelBinError(f"{path.name}: cannot be read: {error.strerror or error}") from error


def write(
    path: Path, revision: int, tensors: Iterable[Values], aliases: Iterable[tuple[str, str]]
) -> None:
    """Write a model.bin, tensor by tensor as they come. Raises OSError."""
    aliases = tuple(aliases)
    with path.open("wb") as file:
        file.write(INTEGER.pack(VERSION) + _string(MODEL) + INTEGER.pack(revision))
        count_at = file.tell()
        file.write(INTEGER.pack(0))
        count = 0
        for count, tensor in enumerate(tensors, start=1):  # noqa: B007 - the last one counts
            _write_tensor(file, tensor)
        file.write(INTEGER.pack(len(aliases)))
        file.write(b"".join(_string(alias) + _string(name) for alias, name in aliases))
        file.seek(count_at)
        file.write(INTEGER.pack(count))


class _Cursor:
    """A place in a file that is read from front to back, and never past its end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self._file = file
        self._size_bytes = path.stat().st_size

    def error(self, what: str) -> ModelBinError:
        return ModelBinError(f"{self.path.name}: {what}")

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

    def string(self) -> str:
        raw = self.take(self.number(SHORT))
        if not raw.endswith(b"\0"):
            raise self.error(f"no name ends at byte {self.offset_bytes}; it is damaged")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise self.error(f"no name ends at byte {self.offset_bytes}; it is damaged") from None

    def _require(self, size_bytes: int) -> None:
        if size_bytes > self.left_bytes:
            raise self.error(f"is cut short: it ends after {self._size_bytes} bytes")


def _read(cursor: _Cursor) -> Layout:
    version = cursor.number(INTEGER)
    if version != VERSION:
        raise cursor.error(f"is no model.bin of format version {VERSION}: it begins with {version}")
    model = cursor.string()
    if model != MODEL:
        raise cursor.error(f"holds a model of the kind {model!r}; {MODEL!r} is expected")
    revision = cursor.number(INTEGER)
    tensors = tuple(_read_tensor(cursor) for _ in range(cursor.number(INTEGER)))
    aliases = tuple((cursor.string(), cursor.string()) for _ in range(cursor.number(INTEGER)))
    if cursor.left_bytes:
        raise cursor.error(f"has {cursor.left_bytes} bytes too many at its end")
    names = {tensor.name for tensor in tensors}
    if len(names | {alias for alias, _ in aliases}) < len(tensors) + len(aliases):
        raise cursor.error("has two tensors of one name")
    strangers = [name for _, name in aliases if name not in names]
    if strangers:
        raise cursor.error(f"has an alias of {strangers[0]!r}, which is not in it")
    return Layout(cursor.path, revision, tensors, aliases)


def _read_tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string()
    shape = tuple(cursor.number(INTEGER) for _ in range(cursor.number(BYTE)))
    number = cursor.number(BYTE)
    try:
        kind = Kind(number)
    except ValueError:
        raise cursor.error(f"{name!r} has values of the unknown kind {number}") from None
    size_bytes = cursor.number(INTEGER)
    tensor = Tensor(name, kind, shape, cursor.offset_bytes)
    if not size_bytes or size_bytes != tensor.size_bytes:
        raise cursor.error(f"{name!r} has {size_bytes} bytes, which does not fit its shape")
    cursor.skip(size_bytes)
    return tensor


def _write_tensor(file: BinaryIO, tensor: Values) -> None:
    array = np.asarray(tensor.array, tensor.kind.dtype)
    file.write(_string(tensor.name) + BYTE.pack(array.ndim))
    file.write(b"".join(INTEGER.pack(length) for length in array.shape))
    file.write(BYTE.pack(tensor.kind.value) + INTEGER.pack(array.nbytes))
    file.write(array.tobytes())


def _string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return SHORT.pack(len(raw)) + raw
