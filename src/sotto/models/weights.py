"""A model.bin in, the shape of its model and the format of its numbers out.

CTranslate2 writes each variable as a name, its dimensions, the type of its numbers, its length and
its bytes. Invariant: the bytes are passed over, so that the largest file is read in an instant; a
file that is no Whisper model raises ValueError, whatever it holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sotto.models.shapes import Shape

VERSIONS = range(4, 7)
"""The versions of the file in which a variable is written like this."""
KIND = "WhisperSpec"
TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
MOST_VARIABLES = 100_000
"""Far more than the largest model has."""
LINEAR = "decoder/layer_0/ffn/linear_0/weight"
NORM = "decoder/layer_norm/gamma"
HEADS = "encoder/num_heads"


class Variable(NamedTuple):
    """What the file says of one variable; `value` is there for a single whole number."""

    dimensions: tuple[int, ...]
    type: str
    value: int | None


@dataclass(frozen=True, slots=True)
class Weights:
    """The shape of a model, and the compute type that its numbers are stored in."""

    shape: Shape
    stored: str


def read(model_bin: Path) -> Weights:
    """What `model_bin` holds. Raises ValueError, which says what is wrong, and OSError."""
    with model_bin.open("rb") as file:
        size_bytes = model_bin.stat().st_size
        try:
            variables = dict(_variables(file, size_bytes))
        except (struct.error, UnicodeDecodeError):
            raise ValueError("cut short, or not written by CTranslate2") from None
    try:
        return Weights(_shape(variables), _stored(variables))
    except (KeyError, ValueError):
        raise ValueError("its variables are not those of a Whisper model") from None


def _variables(file: BinaryIO, size_bytes: int) -> Iterator[tuple[str, Variable]]:
    (version,) = _unpack(file, "<I")
    if version not in VERSIONS:
        raise ValueError(f"version {version} of the file; {VERSIONS[0]} to {VERSIONS[-1]} are read")
    kind = _text(file)
    if kind != KIND:
        raise ValueError(f"a {kind[:40]!r}; only Whisper models are served")
    _, count = _unpack(file, "<II")
    if count > MOST_VARIABLES:
        raise ValueError(f"{count} variables; at most {MOST_VARIABLES} are read")
    for _ in range(count):
        name = _text(file)
        (rank,) = _unpack(file, "<B")
        dimensions = _unpack(file, f"<{rank}I")
        kind_of_number, length_bytes = _unpack(file, "<BI")
        if kind_of_number >= len(TYPES):
            raise ValueError(f"{name[:80]!r} has numbers of an unknown type")
        value = None
        if not dimensions and TYPES[kind_of_number] == "int16" and length_bytes == 2:
            (value,) = _unpack(file, "<h")
        elif file.tell() + length_bytes > size_bytes:
            raise ValueError("cut short")
        else:
            file.seek(length_bytes, 1)
        yield name, Variable(dimensions, TYPES[kind_of_number], value)


def _shape(variables: Mapping[str, Variable]) -> Shape:
    """Raises KeyError or ValueError if the variables are not a Whisper model's."""
    vocabulary, width = variables["decoder/embeddings/weight"].dimensions
    _, mels, _ = variables["encoder/conv1/weight"].dimensions
    heads = variables[HEADS].value
    if heads is None or heads < 1:
        raise ValueError(HEADS)
    return Shape(
        _layers(variables, "encoder"), _layers(variables, "decoder"), width, heads, vocabulary, mels
    )


def _layers(variables: Mapping[str, Variable], side: str) -> int:
    """Layers of the encoder or the decoder. Raises ValueError if there is none."""
    prefix = f"{side}/layer_"
    names = {name.split("/")[1] for name in variables if name.startswith(prefix)}
    numbered = {name for name in names if name.removeprefix("layer_").isdecimal()}
    if not numbered:
        raise ValueError(prefix)
    return len(numbered)


def _stored(variables: Mapping[str, Variable]) -> str:
    """The compute type of numbers that are kept as they are stored."""
    weight, other = variables[LINEAR].type, variables[NORM].type
    if weight != "int8":
        return weight
    return weight if other == "float32" else f"{weight}_{other}"


def _text(file: BinaryIO) -> str:
    """A text with its length before it and a zero behind it."""
    (length,) = _unpack(file, "<H")
    (text,) = _unpack(file, f"<{length}s")
    return str(text.rstrip(b"\0"), "utf-8")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """Raises struct.error at the end of the file."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
