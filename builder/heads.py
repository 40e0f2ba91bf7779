"""The settings of a model for CTranslate2 in, the same with alignment heads that the model has out.

A distilled model may come with those of its teacher, which has more layers. Invariant: settings
that name heads which are all there are not touched, nor are those that cannot be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from builder.alignment import Decoder, Head, choose, tell

from sotto.models.record import UNREADABLE
from sotto.models.shapes import Shape


class _Settings(msgspec.Struct, frozen=True):
    alignment_heads: tuple[Head, ...] | None = None


def fit(name: str, config: Path, shape: Shape) -> bool:
    """Replace heads in `config` that a model of this shape does not have; was there such a one?

    Settings that make no sense are left to the proof, which tells what is wrong. Raises OSError.
    """
    content = config.read_bytes()
    try:
        settings: dict[str, Any] = msgspec.json.decode(content)
        named = msgspec.convert(settings, _Settings).alignment_heads or ()
    except UNREADABLE:
        return False
    decoder = Decoder(shape.decoder_layers, shape.heads, shape.vocabulary)
    choice = choose(decoder, named)
    if choice.absent is None:
        return False
    settings["alignment_heads"] = choice.heads
    config.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
    tell(name, choice, decoder)
    return True
