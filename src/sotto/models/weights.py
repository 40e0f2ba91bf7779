"""A model.bin in, the shape of its model and the format of its numbers out.

Invariant: what is given is a Whisper model's, to judge by its variables; a file of anything else
raises ValueError, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sotto.models import variables
from sotto.models.shapes import Shape
from sotto.models.variables import Variable

LINEAR = "decoder/layer_0/ffn/linear_0/weight"
NORM = "decoder/layer_norm/gamma"
HEADS = "encoder/num_heads"


@dataclass(frozen=True, slots=True)
class Weights:
    """The shape of a model, and the compute type that its numbers are stored in."""

    shape: Shape
    stored: str


def read(model_bin: Path) -> Weights:
    """What `model_bin` holds. Raises ValueError, which says what is wrong, and OSError."""
    found = variables.read(model_bin).by_name()
    try:
        return Weights(_shape(found), _stored(found))
    except (KeyError, ValueError):
        raise ValueError("its variables are not those of a Whisper model") from None


def _shape(found: Mapping[str, Variable]) -> Shape:
    """Raises KeyError or ValueError if the variables are not a Whisper model's."""
    vocabulary, width = found["decoder/embeddings/weight"].dimensions
    _, mels, _ = found["encoder/conv1/weight"].dimensions
    heads = found[HEADS].value
    if heads is None or heads < 1:
        raise ValueError(HEADS)
    return Shape(
        _layers(found, "encoder"), _layers(found, "decoder"), width, heads, vocabulary, mels
    )


def _layers(found: Mapping[str, Variable], side: str) -> int:
    """Layers of the encoder or the decoder. Raises ValueError if there is none."""
    prefix = f"{side}/layer_"
    names = {name.split("/")[1] for name in found if name.startswith(prefix)}
    numbered = {name for name in names if name.removeprefix("layer_").isdecimal()}
    if not numbered:
        raise ValueError(prefix)
    return len(numbered)


def _stored(found: Mapping[str, Variable]) -> str:
    """The compute type of numbers that are kept as they are stored."""
    weight, other = found[LINEAR].type, found[NORM].type
    if weight != "int8":
        return weight
    return weight if other == "float32" else f"{weight}_{other}"
