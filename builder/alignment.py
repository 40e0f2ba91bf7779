"""A decoder's shape in, the attention heads that tell when a word is spoken out.

Owns OpenAI's published choice for each of its models; a fine-tune keeps the choice of the model it
was made from. Invariant: the heads chosen are heads that the decoder has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

Head = tuple[int, int]
"""Layer and head, both counted from 0."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """What tells one size of Whisper from another."""

    layers: int
    heads: int
    vocabulary: int

    def has(self, head: Head) -> bool:
        """Is there such a head?"""
        return 0 <= head[0] < self.layers and 0 <= head[1] < self.heads


@dataclass(frozen=True, slots=True)
class Choice:
    """The heads, and in words whose choice they are.

    `absent` is a head that was named and is not in the decoder, so that none of those named counts.
    """

    heads: tuple[Head, ...]
    origin: str
    absent: Head | None = None


ByLayer = Mapping[int, tuple[int, ...]]
"""Heads by the layer that they are in."""

LARGE = Decoder(32, 20, 51865)
_LARGE_V1: ByLayer = {9: (19,), 11: (2, 4, 17), 22: (7, 11, 17), 23: (2, 15)}
_LARGE_V2: ByLayer = {
    10: (12,),
    13: (17,),
    16: (11, 12, 13),
    17: (15, 16),
    18: (4, 11, 19),
    19: (11,),
    21: (2, 3),
    22: (3, 9, 12),
    23: (5, 7, 13),
    25: (5,),
    26: (1, 12),
    27: (15,),
}
LARGE_NAMES: Mapping[str, ByLayer] = {
    "large": _LARGE_V1,
    "large-v1": _LARGE_V1,
    "large-v2": _LARGE_V2,
}
"""OpenAI's models of the shape LARGE, by the name of their file: they differ in their heads."""

# Those of LARGE are not here: one shape, and two choices.
SIZES: Mapping[Decoder, tuple[str, ByLayer]] = {
    Decoder(4, 6, 51864): ("tiny.en", {1: (0,), 2: (0, 5), 3: (0, 1, 2, 3, 4)}),
    Decoder(4, 6, 51865): ("tiny", {2: (2,), 3: (0, 2, 3, 4, 5)}),
    Decoder(6, 8, 51864): ("base.en", {3: (3,), 4: (7,), 5: (1, 5, 7)}),
    Decoder(6, 8, 51865): ("base", {3: (1,), 4: (2, 3, 7), 5: (1, 2, 4, 6)}),
    Decoder(12, 12, 51864): (
        "small.en",
        {
            6: (6,),
            7: (0, 3, 8),
            8: (2, 5, 7),
            9: (0, 4, 8, 10),
            10: (0, 1, 2, 3, 6, 11),
            11: (2, 4),
        },
    ),
    Decoder(12, 12, 51865): ("small", {5: (3, 9), 8: (0, 4, 7, 8), 9: (0, 7, 9), 10: (5,)}),
    Decoder(24, 16, 51864): (
        "medium.en",
        {
            11: (4,),
            14: (1, 12, 14),
            15: (4,),
            16: (0, 4, 9),
            17: (12, 14),
            18: (7, 10, 15),
            20: (0, 3, 9, 14),
            21: (12,),
        },
    ),
    Decoder(24, 16, 51865): ("medium", {13: (15,), 15: (4, 15), 16: (1,), 20: (0,), 23: (4,)}),
    Decoder(32, 20, 51866): (
        "large-v3",
        {
            7: (0,),
            10: (17,),
            12: (18,),
            13: (12,),
            16: (1,),
            17: (14,),
            19: (11,),
            21: (4,),
            24: (1,),
            25: (6,),
        },
    ),
    Decoder(4, 20, 51866): ("turbo", {2: (4, 11), 3: (3, 6, 11, 14)}),
}
"""OpenAI's models by the shape of their decoder: the name, and heads by layer."""


def choose(decoder: Decoder, named: Sequence[Head]) -> Choice:
    """The alignment heads of a model whose checkpoint names `named`, perhaps none.

    Heads that the decoder does not have, as in a distilled model that kept the settings of its
    teacher, count as not named. The last resort is OpenAI's for models it does not know: all heads
    of the upper half of the layers.
    """
    absent = next((head for head in named if not decoder.has(head)), None)
    if named and absent is None:
        return Choice(tuple(named), "the checkpoint's own")
    if decoder in SIZES:
        name, heads = SIZES[decoder]
        return Choice(_pairs(heads), f"those of {name}, which has the same shape", absent)
    upper = range(decoder.layers // 2, decoder.layers)
    every = tuple((layer, head) for layer in upper for head in range(decoder.heads))
    return Choice(every, "all of the upper half of the layers, as none are known", absent)


def named_as(name: str, decoder: Decoder) -> tuple[Head, ...]:
    """The heads of OpenAI's model `name` where the shape alone does not tell them; else none."""
    return _pairs(LARGE_NAMES.get(name, {})) if decoder == LARGE else ()


def tell(name: str, choice: Choice, decoder: Decoder) -> None:
    """Tell whose heads the model `name` has got; loudly where it had named others."""
    if choice.absent is None:
        logger.info("%s: alignment heads: %s", name, choice.origin)
        return
    logger.warning(
        "%s: alignment heads: head %d of layer %d is not in the decoder, which has %d layers of %d "
        "heads; taken instead: %s",
        name,
        choice.absent[1],
        choice.absent[0],
        decoder.layers,
        decoder.heads,
        choice.origin,
    )


def _pairs(heads: ByLayer) -> tuple[Head, ...]:
    return tuple((layer, head) for layer, found in heads.items() for head in found)
