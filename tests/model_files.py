"""Model folders that are all header: what is read before a load, without the gigabytes.

Invariant: a model.bin made here has the variables that tell a model's shape, at the length they
would have, and nothing but holes in the place of their values.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from sotto.models.shapes import SHAPES, Shape
from sotto.models.variables import ITEM_BYTES, KIND, TYPES
from sotto.models.weights import HEADS, LINEAR, NORM


def put_model(folder: Path, shape: Shape = SHAPES["tiny"], stored: str = "float16") -> Path:
    """A folder that passes for a model of this shape until somebody loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_bytes(b"x")
    write_model_bin(folder / "model.bin", shape, stored)
    return folder


def put_record(folder: Path, **fields: object) -> Path:
    """Write a model.json that says this of the folder."""
    said = {"name": folder.name, "repository": "", "revision": "", "licence": "MIT", "files": {}}
    (folder / "model.json").write_text(json.dumps({**said, **fields}), encoding="utf-8")
    return folder


def write_model_bin(path: Path, shape: Shape, stored: str = "float16") -> None:
    """A sparse model.bin; `stored`: its compute type."""
    weight, _, other = stored.partition("_")
    other = other or ("float32" if weight == "int8" else weight)
    tables: dict[str, tuple[tuple[int, ...], str]] = {
        LINEAR: ((4 * shape.width, shape.width), weight),
        NORM: ((shape.width,), other),
        "decoder/embeddings/weight": ((shape.vocabulary, shape.width), weight),
        "encoder/conv1/weight": ((shape.width, shape.mels, 3), other),
    }
    for side, layers in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)):
        for layer in range(layers):
            tables[f"{side}/layer_{layer}/ffn/layer_norm/beta"] = ((shape.width,), other)
    write_variables(path, tables, {HEADS: shape.heads})


def write_variables(
    path: Path,
    tables: Mapping[str, tuple[tuple[int, ...], str]],
    numbers: Mapping[str, int],
    *,
    version: int = 6,
    kind: str = KIND,
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Write the variables of a model.bin: tables that are holes, and single numbers."""
    with path.open("wb") as out:
        out.write(struct.pack("<I", version) + _text(kind))
        out.write(struct.pack("<II", 3, len(tables) + len(numbers)))
        for name, number in numbers.items():
            out.write(_text(name) + struct.pack("<BBIh", 0, TYPES.index("int16"), 2, number))
        for name, (dimensions, type_name) in tables.items():
            length = ITEM_BYTES[type_name]
            for dimension in dimensions:
                length *= dimension
            head = struct.pack(f"<B{len(dimensions)}I", len(dimensions), *dimensions)
            out.write(_text(name) + head + struct.pack("<BI", TYPES.index(type_name), length))
            out.seek(length, 1)
        out.write(struct.pack("<I", len(aliases or {})))
        for alias, name in (aliases or {}).items():
            out.write(_text(alias) + _text(name))


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data
