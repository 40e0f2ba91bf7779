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
from builder.heads import fit
from builder.layout import Kind, weights_of
from builder.openai_checkpoint import translate
from builder.quantise import FLOATS, FORMATS, quantise, stored_type

from sotto.models import weights
from sotto.models.catalogue import CONFIG, TOKENIZER, WEIGHTS
from sotto.models.memory import weights_bytes
from sotto.models.record import FileRecord, sha256_of
from sotto.models.shapes import Shape
from sotto.models.space import shortage

DEFAULT = "default"
"""The number format that the weights come in."""
CONVERTERS = ("torch", "transformers")
FITTED = "with alignment heads that the model has"

logger = logging.getLogger(__name__)


class BakeError(Exception):
    """The model cannot be made here; the message is one line."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A model's files as they came, each with its digest; `lent` ones are somebody's own.

    `tokenizer` is where one lies that has to be brought to an OpenAI's checkpoint.
    """

    folder: Path
    files: Mapping[str, FileRecord]
    kind: Kind
    lent: bool
    tokenizer: Path | None = None


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


def outcome(original: str, wanted: str) -> str:
    """The format that weights in `original` end in: integers stay what they are, as for DEFAULT."""
    stored = FORMATS.get(original)
    is_quantised = stored is not None and stored.weights not in FLOATS
    return original if wanted == DEFAULT or is_quantised else wanted


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
    if brought.kind is Kind.READY:
        made.mkdir()
        _lay_small_files(brought, made)
        source = brought.folder / WEIGHTS
    else:
        _convert(name, brought, made)
        source = made / WEIGHTS
        done.append("converted")
    original = stored_type(source)
    shape = _shape(name, source)
    fitted = fit(name, made / CONFIG, shape)
    compute_type = outcome(original, wanted)
    if wanted != DEFAULT and not same_format(compute_type, wanted):
        logger.info("%s: is %s and stays so; no %s can be made of it", name, original, wanted)
    if not same_format(original, compute_type):
        logger.info("%s: quantising %s as %s", name, original, compute_type)
        _require_space(name, "quantising", made, weights_bytes(shape, compute_type))
        quantise(source, made / WEIGHTS, compute_type, progress=True)
        done.append("quantised")
    elif brought.kind is Kind.READY:
        _lay_weights(name, brought, made)
    work = " and ".join(done)
    files = _listed(brought, made, work, fitted=fitted)
    return Made(files, shape, original, compute_type, work)


def _convert(name: str, brought: Brought, made: Path) -> None:
    logger.info("%s: converting", name)
    names = weights_of(brought.files, brought.kind)
    need_bytes = sum(brought.files[file].size_bytes for file in names)
    if brought.kind is Kind.CHECKPOINT:
        _require_space(name, "converting", made.parent, need_bytes)
        convert(brought.folder, made, progress=True)
        return
    _require_space(name, "converting", made.parent, 2 * need_bytes)
    checkpoint = made.parent / "translated" / name
    tokenizer = brought.tokenizer or brought.folder / TOKENIZER
    translate(brought.folder / names[0], tokenizer, checkpoint)
    convert(checkpoint, made, progress=True)
    shutil.rmtree(checkpoint)


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


def _listed(brought: Brought, made: Path, work: str, *, fitted: bool) -> dict[str, FileRecord]:
    """Every file in `made`; those that are as they came keep their record."""
    paths = sorted(made.iterdir())
    changed = {CONFIG: FITTED} if fitted else {}
    if work:
        names = [WEIGHTS] if brought.kind is Kind.READY else [path.name for path in paths]
        changed |= dict.fromkeys(names, work)
    return {
        path.name: FileRecord(sha256_of(path), path.stat().st_size, changed[path.name])
        if path.name in changed
        else brought.files[path.name]
        for path in paths
    }


def _require_space(name: str, doing: str, folder: Path, need_bytes: int) -> None:
    if lacking := shortage(folder, need_bytes):
        raise BakeError(f"{name}: {doing} {lacking}")
