"""A Hugging Face checkpoint's settings in, what a conversion has to know of the model out.

Invariant: what comes out is of a Whisper model, and every token id in it is in its vocabulary.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from builder.alignment import Choice, Decoder, Head, choose
from msgspec import Meta

from sotto.errors import first_line
from sotto.models.catalogue import CONFIG
from sotto.models.record import UNREADABLE

GENERATION = "generation_config.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")

Count = Annotated[int, Meta(gt=0, le=1_000_000)]
S = TypeVar("S", bound=msgspec.Struct)


class ConvertError(Exception):
    """The checkpoint cannot be converted; the message is one line and says which file is wrong."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Whisper checkpoint; suppressed tokens are None where the checkpoint says nothing."""

    folder: Path
    mels: int
    decoder: Decoder
    alignment: Choice
    suppressed: tuple[int, ...] | None
    suppressed_at_start: tuple[int, ...] | None


class _Model(msgspec.Struct, frozen=True):
    model_type: str = "unknown"


class _Config(msgspec.Struct, frozen=True):
    vocab_size: Count
    decoder_layers: Count
    decoder_attention_heads: Count
    num_mel_bins: Count = 80
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None


class _Generation(msgspec.Struct, frozen=True):
    alignment_heads: tuple[Head, ...] | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None


def read(folder: Path) -> Checkpoint:
    """What the checkpoint in `folder` says of itself. Raises ConvertError.

    Settings for generation are in a file of their own, or in older checkpoints in the model's.
    """
    model = _decode(folder / CONFIG, _Model)
    if model.model_type != "whisper":
        raise ConvertError(f"{CONFIG}: model_type: {model.model_type!r} is not 'whisper'")
    config = _decode(folder / CONFIG, _Config)
    generation = _Generation()
    if (folder / GENERATION).exists():
        generation = _decode(folder / GENERATION, _Generation)
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        raise ConvertError(f"{folder.name}: has no weights; wanted is {' or '.join(WEIGHTS)}")
    decoder = Decoder(config.decoder_layers, config.decoder_attention_heads, config.vocab_size)
    return Checkpoint(
        folder,
        config.num_mel_bins,
        decoder,
        choose(decoder, generation.alignment_heads or ()),
        _tokens(config, generation.suppress_tokens, config.suppress_tokens),
        _tokens(config, generation.begin_suppress_tokens, config.begin_suppress_tokens),
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Tell any failure of the libraries as a ConvertError; they raise whatever comes up."""
    try:
        yield
    except ConvertError:
        raise
    except pickle.UnpicklingError as error:
        # torch's own text tells how to run the code.
        raise ConvertError(
            f"{what} cannot be converted: damaged, or with code in it, which is not run"
        ) from error
    except Exception as error:
        raise ConvertError(f"{what} cannot be converted: {first_line(error)}") from error


def _tokens(config: _Config, *said: Sequence[int] | None) -> tuple[int, ...] | None:
    """The first that was said at all."""
    for tokens in said:
        if tokens is None:
            continue
        strange = [token for token in tokens if not 0 <= token < config.vocab_size]
        if strange:
            raise ConvertError(
                f"suppress_tokens: {strange[0]} is not a token of a vocabulary "
                f"of {config.vocab_size}"
            )
        return tuple(tokens)
    return None


def _decode(path: Path, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except UNREADABLE as error:
        raise ConvertError(f"{path.name}: {error}") from error
    except OSError as error:
        raise ConvertError(f"{path.name}: cannot be read: {error.strerror or error}") from error
