"""A model.bin in, the values of its tensors out, one at a time; and the writing of a new one.

What a file holds is read by sotto.models.variables. Invariant: the values of one tensor at most are
in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sotto.models import variables
from sotto.models.variables import BYTE, INTEGER, KIND, SHORT, TYPES

VERSION = variables.VERSIONS[-1]
"""The version of the format that CTranslate2 4 writes."""


class ModelBinError(Exception):
    """The file is not what is wanted of it; the message is one line that begins with its name."""


class Kind(Enum):
    """How values are stored, by the format's name for it."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same in numpy, which knows no bfloat16: unsigned integers hold its bits."""
        name = "uint16" if self is Kind.BFLOAT16 else self.value
        return np.dtype(name).newbyteorder("<")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, and where in the file its values begin; a scalar has the shape ()."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


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
        table = variables.read(path, range(VERSION, VERSION + 1))
    except ValueError as error:
        raise ModelBinError(f"{path.name}: {error}") from error
    except OSError as error:
        raise ModelBinError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    tensors = tuple(
        Tensor(each.name, Kind(each.type), each.dimensions, each.offset_bytes, each.length_bytes)
        for each in table.variables
    )
    return Layout(path, table.revision, tensors, table.aliases)


def write(
    path: Path, revision: int, tensors: Iterable[Values], aliases: Iterable[tuple[str, str]]
) -> None:
    """Write a model.bin, tensor by tensor as they come. Raises OSError."""
    aliases = tuple(aliases)
    with path.open("wb") as file:
        file.write(INTEGER.pack(VERSION) + _string(KIND) + INTEGER.pack(revision))
        count_at = file.tell()
        file.write(INTEGER.pack(0))
        count = 0
        for count, tensor in enumerate(tensors, start=1):  # noqa: B007 - the last one counts
            _write_tensor(file, tensor)
        file.write(INTEGER.pack(len(aliases)))
        file.write(b"".join(_string(alias) + _string(name) for alias, name in aliases))
        file.seek(count_at)
        file.write(INTEGER.pack(count))


def _write_tensor(file: BinaryIO, tensor: Values) -> None:
    array = np.asarray(tensor.array, tensor.kind.dtype)
    file.write(_string(tensor.name) + BYTE.pack(array.ndim))
    file.write(b"".join(INTEGER.pack(length) for length in array.shape))
    file.write(BYTE.pack(TYPES.index(tensor.kind.value)) + INTEGER.pack(array.nbytes))
    file.write(array.tobytes())


def _string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return SHORT.pack(len(raw)) + raw
