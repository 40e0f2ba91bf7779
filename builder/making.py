"""A model's files as they came in, a folder with the model in the wanted number format out.

Invariant: the files that came are not changed, and the disk space for what is written next has been
asked for before the first byte.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from builder.convert import convert
from builder.layout import Kind, weights_of
from builder.quantise import FORMATS, quantise, stored_type

from sotto.models import weights
from sotto.models.catalogue import WEIGHTS
from sotto.models.memory import weights_bytes
from sotto.models.record import FileRecord, sha256_of
from sotto.models.shapes import Shape
from sotto.models.space import shortage

DEFAULT = "default"
"""The number format that the weights come in."""
CONVERTERS = ("torch", "transformers")

logger = logging.getLogger(__name__)


class BakeError(Exception):
    """The model cannot be made here; the message is one line."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A model's files as they came, each with its digest; `lent` ones are somebody's own."""

    folder: Path
    files: Mapping[str, FileRecord]
    kind: Kind
    lent: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A model's folder before it is proven, its files, and what was done to its weights."""

    files: Mapping[str, FileRecord]
    shape: Shape
    original_type: str
    compute_type: str
    done: str


def same_format(one: str, other: str) -> bool:
    """Do two names mean one format? There are two for int8 with float32."""
    return one == other or (one in FORMATS and FORMATS[one] == FORMATS.get(other))


def require_converter(name: str) -> None:
    """Raises BakeError if this Python cannot convert a checkpoint."""
    absent = [library for library in CONVERTERS if find_spec(library) is None]
    if absent:
        raise BakeError(
            f"{name}: is a checkpoint, and converting it needs builder/requirements.txt; "
            f"not installed: {', '.join(absent)}"
        )


def make(name: str, brought: Brought, made: Path, wanted: str) -> Made:
    """Fill the new folder `made` from what was brought, with weights in the format `wanted`.

    Raises BakeError, and what convert() and quantise() raise.
    """
    done = []
    if brought.kind is Kind.CHECKPOINT:
        _convert(name, brought, made)
        source = made / WEIGHTS
        done.append("converted")
    else:
        made.mkdir()
        _lay_small_files(brought, made)
        source = brought.folder / WEIGHTS
    original = stored_type(source)
    shape = _shape(name, source)
    compute_type = original if wanted == DEFAULT else wanted
    if not same_format(original, compute_type):
        logger.info("%s: quantising %s as %s", name, original, compute_type)
        _require_space(name, "quantising", made, weights_bytes(shape, compute_type))
        quantise(source, made / WEIGHTS, compute_type, progress=True)
        done.append("quantised")
    elif brought.kind is Kind.READY:
        _lay_weights(name, brought, made)
    return Made(_listed(brought, made, done), shape, original, compute_type, " and ".join(done))


def _convert(name: str, brought: Brought, made: Path) -> None:
    logger.info("%s: converting", name)
    names = weights_of(brought.files, Kind.CHECKPOINT)
    need_bytes = sum(brought.files[file].size_bytes for file in names)
    _require_space(name, "converting", made.parent, need_bytes)
    convert(brought.folder, made, progress=True)


def _lay_small_files(brought: Brought, made: Path) -> None:
    for file in brought.files:
        if file != WEIGHTS:
            shutil.copyfile(brought.folder / file, made / file)


def _lay_weights(name: str, brought: Brought, made: Path) -> None:
    """Let the weights lie in both folders, or copy them, where they are not ours to share."""
    source, target = brought.folder / WEIGHTS, made / WEIGHTS
    if not brought.lent:
        try:
            target.hardlink_to(source)
        except OSError:
            logger.info("%s: this file system has no hard links; copying", name)
        else:
            return
    _require_space(name, "copying", made, brought.files[WEIGHTS].size_bytes)
    shutil.copyfile(source, target)


def _shape(name: str, model_bin: Path) -> Shape:
    try:
        return weights.read(model_bin).shape
    except ValueError as error:
        raise BakeError(f"{name}: {model_bin.name}: {error}") from error


def _listed(brought: Brought, made: Path, done: list[str]) -> dict[str, FileRecord]:
    """Every file in `made`; those that are as they came keep their record."""
    kept = set() if "converted" in done else set(brought.files) - ({WEIGHTS} if done else set())
    return {
        path.name: brought.files[path.name]
        if path.name in kept
        else FileRecord(sha256_of(path), path.stat().st_size, " and ".join(done))
        for path in sorted(made.iterdir())
    }


def _require_space(name: str, doing: str, folder: Path, need_bytes: int) -> None:
    if lacking := shortage(folder, need_bytes):
        raise BakeError(f"{name}: {doing} {lacking}")
