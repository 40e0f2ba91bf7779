"""The dimensions of a Whisper model, and those of the models in the catalogue.

Invariant: numbers as published, from which sizes and memory are computed; nothing here reads a
file (weights.py reads the shape of one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

FRAMES = 3000
"""Frames of log-mel that the encoder takes: 30 s."""
POSITIONS = FRAMES // 2
"""Positions that the encoder gives: 50 a second."""
TOKENS = 448
"""Positions of the decoder: those of the prompt and those of the text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Layers, width, attention heads, tokens of the vocabulary and mel bands."""

    encoder_layers: int
    decoder_layers: int
    width: int
    heads: int
    vocabulary: int
    mels: int


_TINY = Shape(4, 4, 384, 6, 51865, 80)
_BASE = Shape(6, 6, 512, 8, 51865, 80)
_SMALL = Shape(12, 12, 768, 12, 51865, 80)
_MEDIUM = Shape(24, 24, 1024, 16, 51865, 80)
_LARGE_V2 = Shape(32, 32, 1280, 20, 51865, 80)
_LARGE_V3 = replace(_LARGE_V2, vocabulary=51866, mels=128)


def _english(shape: Shape) -> Shape:
    """The same for a model that knows only English: its vocabulary has one token less."""
    return replace(shape, vocabulary=shape.vocabulary - 1)


SHAPES: Mapping[str, Shape] = {
    "tiny": _TINY,
    "tiny.en": _english(_TINY),
    "base": _BASE,
    "base.en": _english(_BASE),
    "small": _SMALL,
    "small.en": _english(_SMALL),
    "medium": _MEDIUM,
    "medium.en": _english(_MEDIUM),
    "large-v2": _LARGE_V2,
    "large-v3": _LARGE_V3,
    "turbo": replace(_LARGE_V3, decoder_layers=4),
    "distil-large-v3": replace(_LARGE_V3, decoder_layers=2),
}
"""By the catalogue's name."""
