"""A model.bin in floating point in, the same model in a smaller number format out.

What becomes an integer, and how, is what CTranslate2 does when it quantises at load: every matrix
called "weight", row by row, with the scale 127 / max |row|, rounded half to even. Convolutions stay
in floating point, as CTranslate2 runs them; its own converter rounds them to integers, too. So a
model must be loaded with a named compute type: "default" may mistake the convolutions' format for
the model's. Invariant: the target is whole or not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from builder.model_bin import Kind, Layout, ModelBinError, Tensor, Values, read, write
from numpy.typing import NDArray

from sotto.models.progress import bar


@dataclass(frozen=True, slots=True)
class Format:
    """How a model's weights are stored, and its other floating-point numbers."""

    weights: Kind
    others: Kind


FORMATS = {
    "float32": Format(Kind.FLOAT32, Kind.FLOAT32),
    "float16": Format(Kind.FLOAT16, Kind.FLOAT16),
    "bfloat16": Format(Kind.BFLOAT16, Kind.BFLOAT16),
    "int8": Format(Kind.INT8, Kind.FLOAT32),
    "int8_float32": Format(Kind.INT8, Kind.FLOAT32),
    "int8_float16": Format(Kind.INT8, Kind.FLOAT16),
    "int8_bfloat16": Format(Kind.INT8, Kind.BFLOAT16),
}
"""By the name that CTranslate2 gives the format; the first of two names is the one we use."""
FLOATS = {Kind.FLOAT32, Kind.FLOAT16, Kind.BFLOAT16}

BFLOAT16_SHIFT = 16
"""A bfloat16 is the upper half of a float32."""
JUST_BELOW_HALF = 0x7FFF


def stored_type(path: Path) -> str:
    """The name of the format that a model.bin is in: "float16", "int8_float16", "int8".

    Raises ModelBinError if it is no Whisper model's, damaged, or in a format that has no name here.
    """
    stored = _format(read(path))
    for name, known in FORMATS.items():
        if known == stored:
            return name
    raise ModelBinError(
        f"{path.name}: its weights are {stored.weights.name.lower()} and the rest is "
        f"{stored.others.name.lower()}; known are {', '.join(FORMATS)}"
    )


def quantise(source: Path, target: Path, compute_type: str, *, progress: bool) -> None:
    """Write the model.bin `source` to `target`, which may be the same file, as `compute_type`.

    Needs the disk space of both. Raises ModelBinError if `source` is damaged, quantised already, or
    has values that the format cannot hold; ValueError for an unknown `compute_type`; OSError.
    """
    wanted = FORMATS.get(compute_type)
    if wanted is None:
        raise ValueError(
            f"compute_type: {compute_type!r} is not a format of model.bin; "
            f"there are {', '.join(FORMATS)}"
        )
    layout = read(source)
    stored = _format(layout)
    if stored.weights not in FLOATS and stored != wanted:
        raise ModelBinError(
            f"{source.name}: its weights are {stored.weights.name.lower()} already; "
            f"{compute_type} can only be made from the original"
        )
    new = target.with_name(f"{target.name}.new")
    try:
        tensors = _with_progress(layout, f"{source.name} as {compute_type}", progress)
        converted = (values for tensor in tensors for values in _converted(layout, tensor, wanted))
        write(new, layout.revision, converted, layout.aliases)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def _format(layout: Layout) -> Format:
    """The formats that most bytes of the weights and of the rest are in."""
    weights: Counter[Kind] = Counter()
    others: Counter[Kind] = Counter()
    for tensor in layout.tensors:
        if _is_weight(tensor):
            weights[tensor.kind] += tensor.size_bytes
        elif _is_other_float(tensor):
            others[tensor.kind] += tensor.size_bytes
    if not weights or not others:
        raise ModelBinError(f"{layout.path.name}: has no weights")
    return Format(weights.most_common(1)[0][0], others.most_common(1)[0][0])


def _is_weight(tensor: Tensor) -> bool:
    """Is it the matrix of a linear layer or of the embeddings? A convolution's has three axes."""
    return tensor.name.endswith("weight") and len(tensor.shape) == 2


def _is_other_float(tensor: Tensor) -> bool:
    """Is it in the format of the model's other numbers? Single numbers and scales are not."""
    scale = tensor.name.endswith("_scale")
    return tensor.kind in FLOATS and bool(tensor.shape) and not scale and not _is_weight(tensor)


def _with_progress(layout: Layout, title: str, progress: bool) -> Iterator[Tensor]:
    total_bytes = sum(tensor.size_bytes for tensor in layout.tensors)
    with bar(title, total_bytes, shown=progress) as written:
        for tensor in layout.tensors:
            yield tensor
            written.update(tensor.size_bytes)


def _converted(layout: Layout, tensor: Tensor, wanted: Format) -> Iterable[Values]:
    values = layout.values(tensor)
    if _is_weight(tensor) and wanted.weights is Kind.INT8 and tensor.kind in FLOATS:
        return _rows_as_int8(tensor.name, _as_float32(layout, values))
    if _is_weight(tensor) and tensor.kind in FLOATS:
        return [_as_kind(layout, values, wanted.weights)]
    if _is_other_float(tensor):
        return [_as_kind(layout, values, wanted.others)]
    return [values]


def _rows_as_int8(name: str, rows: NDArray[np.float32]) -> list[Values]:
    """Integers, and the number for each row that they are multiples of 1 over."""
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    # A row of zeros has the scale 1; of a row of next to nothing the scale must not overflow.
    largest[largest == 0] = 127
    scale = np.float32(127) / np.maximum(largest, np.float32(127) / np.finfo(np.float32).max)
    rows *= scale[:, None]
    np.rint(rows, out=rows)
    return [
        Values(name, Kind.INT8, rows.astype(np.int8)),
        Values(f"{name}_scale", Kind.FLOAT32, scale),
    ]


def _as_kind(layout: Layout, values: Values, kind: Kind) -> Values:
    if values.kind is kind:
        return values
    floats = _as_float32(layout, values)
    return Values(values.name, kind, _from_float32(layout, values.name, floats, kind))


def _as_float32(layout: Layout, values: Values) -> NDArray[np.float32]:
    if values.kind is Kind.BFLOAT16:
        floats = (values.array.astype(np.uint32) << BFLOAT16_SHIFT).view(np.float32)
    else:
        floats = values.array.astype(np.float32)
    if not np.isfinite(floats).all():
        raise ModelBinError(
            f"{layout.path.name}: {values.name!r} holds infinity or what is no number"
        )
    return floats


def _from_float32(
    layout: Layout, name: str, floats: NDArray[np.float32], kind: Kind
) -> NDArray[Any]:
    if kind is Kind.FLOAT32:
        return floats
    if kind is Kind.BFLOAT16:
        bits = floats.view(np.uint32)
        # Round half to even: the lowest bit that stays decides where a tie goes.
        lowest = (bits >> BFLOAT16_SHIFT) & 1
        return ((bits + JUST_BELOW_HALF + lowest) >> BFLOAT16_SHIFT).astype(np.uint16)
    with np.errstate(over="ignore"):
        halves = floats.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ModelBinError(f"{layout.path.name}: {name!r} holds numbers too large for float16")
    return halves
