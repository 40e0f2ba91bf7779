"""The names of the files that lie together in, the kind of model and the files that make it out.

A model comes ready for CTranslate2, or as a checkpoint to convert: of the transformers library
or of OpenAI's package. Invariant: nothing is read here; only names are looked at, and only
those at the top.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum

from sotto.models.catalogue import (
    CONFIG,
    PREPROCESSOR,
    REQUIRED,
    TOKENIZER,
    VOCABULARIES,
    WEIGHTS,
    lacking,
)

READY_EXTRAS = (PREPROCESSOR,)
CHECKPOINT_EXTRAS = (
    "generation_config.json",
    PREPROCESSOR,
    "processor_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
WEIGHT_FORMS = (
    ("model.safetensors", None),
    ("model.safetensors.index.json", re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")),
    ("pytorch_model.bin", None),
    ("pytorch_model.bin.index.json", re.compile(r"pytorch_model-\d{5}-of-(\d{5})\.bin")),
)
"""How a checkpoint's weights may lie: one file, or an index and its parts; the first serves."""
OPENAI = re.compile(r"[^/.][^/]*\.pt")
"""OpenAI's package has all of a model but its tokenizer in one file, of any name."""


class Kind(Enum):
    """How a model comes: ready for CTranslate2, or to be converted."""

    READY = "ready"
    CHECKPOINT = "checkpoint"
    OPENAI = "OpenAI's checkpoint"


class LayoutError(Exception):
    """The files are no model; the message says what they lack."""


def kind_of(names: Collection[str]) -> Kind:
    """What the files called `names` are. Raises LayoutError if they are of no kind."""
    if WEIGHTS in names:
        return Kind.READY
    if any(form in names for form, _ in WEIGHT_FORMS):
        return Kind.CHECKPOINT
    if "adapter_model.safetensors" in names or "adapter_model.bin" in names:
        raise LayoutError("is only an adapter; merge it into the model it was made for")
    if any(OPENAI.fullmatch(name) for name in names):
        return Kind.OPENAI
    forms = ", ".join([WEIGHTS, *(form for form, _ in WEIGHT_FORMS), "OpenAI's *.pt"])
    raise LayoutError(f"has no weights; one of these is needed: {forms}")


def needed(names: Collection[str], kind: Kind) -> tuple[str, ...]:
    """Those of `names` that make the model, the small ones first. Raises LayoutError."""
    if kind is Kind.READY:
        if absent := lacking(names.__contains__):
            raise LayoutError(f"lacks {', '.join(absent)}")
        wanted = [*REQUIRED[1:], *VOCABULARIES, *READY_EXTRAS, WEIGHTS]
        return tuple(name for name in wanted if name in names)
    if kind is Kind.OPENAI:
        return (*(name for name in (TOKENIZER,) if name in names), *weights_of(names, kind))
    if CONFIG not in names:
        raise LayoutError(f"lacks {CONFIG}")
    small = [name for name in (CONFIG, *CHECKPOINT_EXTRAS) if name in names]
    return (*small, *weights_of(names, kind))


def weights_of(names: Collection[str], kind: Kind) -> tuple[str, ...]:
    """Those of `names` that hold the weights, or tell which do. Raises LayoutError."""
    if kind is Kind.READY:
        return (WEIGHTS,)
    if kind is Kind.OPENAI:
        files = sorted(name for name in names if OPENAI.fullmatch(name))
        if len(files) > 1:
            raise LayoutError(f"has more than one checkpoint: {', '.join(files)}")
        return tuple(files)
    form, part = next(form for form in WEIGHT_FORMS if form[0] in names)
    if part is None:
        return (form,)
    parts = {name: found for name in names if (found := part.fullmatch(name))}
    counts = {int(found[1]) for found in parts.values()}
    if counts != {len(parts)}:
        raise LayoutError(
            f"has {form}, but not all of its parts: {', '.join(sorted(parts)) or 'none'}"
        )
    return (form, *sorted(parts))
