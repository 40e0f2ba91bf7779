"""A decoder's shape in, the attention heads that tell when a word is spoken out.

Owns OpenAI's published choice for each of its models; a fine-tune keeps the choice of the model it
was made from. Invariant: the heads chosen are heads that the decoder has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """The heads, and in words whose choice they are."""

    heads: tuple[Head, ...]
    origin: str


# large and large-v2 are of one shape and differ in their heads, so neither is here.
SIZES: Mapping[Decoder, tuple[str, Mapping[int, tuple[int, ...]]]] = {
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
    if named and all(decoder.has(head) for head in named):
        return Choice(tuple(named), "the checkpoint's own")
    if decoder in SIZES:
        name, heads = SIZES[decoder]
        pairs = ((layer, head) for layer, found in heads.items() for head in found)
        return Choice(tuple(pairs), f"those of {name}, which has the same shape")
    upper = range(decoder.layers // 2, decoder.layers)
    every = ((layer, head) for layer in upper for head in range(decoder.heads))
    return Choice(tuple(every), "all of the upper half of the layers, as none are known")
