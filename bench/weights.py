"""Whisper models of a real shape with random weights, in CTranslate2's format.

Speed does not depend on what the weights are, so a machine without the model can be measured too.
Invariant: vocabulary and tokenizer fit the shape, so that every part of an engine works on them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs.model_spec import LayerSpec, visit_spec
from ctranslate2.specs.whisper_spec import WhisperSpec

from bench.rows import SEED

POSITIONS_S = 1500
"""Positions of the encoder: 50 a second for 30 s."""
POSITIONS_TEXT = 448
END_OF_TEXT = 50257
FIRST_LANGUAGE = 50259
AFTER = "<|su|>"
ADDED = "<|yue|>"
"""The language that large-v3's vocabulary has more than base's, and the one before it."""
VOCABULARY = 51866


@dataclass(frozen=True, slots=True)
class Shape:
    """Width, attention heads, layers, mel bands, and the heads (layer, head) that align."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mels: int
    alignment_heads: tuple[tuple[int, int], ...]


TURBO = Shape(1280, 20, 32, 4, 128, ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)))
"""large-v3-turbo."""
TINY = Shape(64, 2, 1, 1, 128, ((0, 0), (0, 1)))
"""As small as it gets, for tests."""

FORCED = {
    "suppress_tokens": [-1, END_OF_TEXT],
    "temperature_increment_on_fallback": 0.0,
    "compression_ratio_threshold": 1000.0,
    "logprob_threshold": -1000.0,
}
"""Options with which every window yields `max_new_tokens` tokens of text and is decoded once."""


def make(folder: Path, shape: Shape, base: Path) -> Path:
    """Write a model of this shape; `base`: a model folder for vocabulary and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = WhisperSpec(shape.encoder_layers, shape.heads, shape.decoder_layers, shape.heads)
    rng = np.random.default_rng(SEED)

    def fill(layer: LayerSpec, name: str, value: object) -> None:
        if value is None or name.endswith(("/bias", "/encodings")):
            setattr(layer, name.rpartition("/")[2], _weight(rng, name, shape))

    visit_spec(spec, fill)
    languages = _vocabulary(base)
    spec.register_vocabulary(languages)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [220, END_OF_TEXT]
    spec.config.lang_ids = list(range(FIRST_LANGUAGE, languages.index("<|translate|>")))
    spec.config.alignment_heads = [list(head) for head in shape.alignment_heads]
    spec.validate()
    spec.save(str(folder))
    tokenizer = _tokenizer(base)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    features = json.dumps({"feature_size": shape.mels})
    (folder / "preprocessor_config.json").write_text(features, encoding="ascii")
    return folder


def _weight(rng: np.random.Generator, name: str, shape: Shape) -> np.ndarray[Any, Any]:
    """A weight of the size that its name asks for, in float16."""
    size = _size(name, shape)
    if name.endswith("/gamma"):
        return np.ones(size, np.float16)
    return (rng.standard_normal(size, np.float32) * 0.02).astype(np.float16)


def _size(name: str, shape: Shape) -> tuple[int, ...]:
    width = shape.width
    kind = "/".join(name.split("/")[-3:])
    outputs = {"self_attention/linear_0": 3 * width, "attention/linear_1": 2 * width}
    outputs["ffn/linear_0"] = 4 * width
    layer, _, part = kind.rpartition("/")
    if part == "encodings":
        return (POSITIONS_S if name.startswith("encoder") else POSITIONS_TEXT, width)
    if layer.endswith(("embeddings", "projection")):
        return (VOCABULARY, width) if part == "weight" else (VOCABULARY,)
    rows = outputs.get(layer, width)
    if part != "weight":
        return (rows,)
    if layer.endswith("conv1"):
        return (width, shape.mels, 3)
    if layer.endswith("conv2"):
        return (width, width, 3)
    return (rows, 4 * width if layer == "ffn/linear_1" else width)


def _vocabulary(base: Path) -> list[str]:
    """large-v3's vocabulary: base's with one more language."""
    tokens = (base / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tokens.insert(tokens.index(AFTER) + 1, ADDED)
    return tokens


def _tokenizer(base: Path) -> dict[str, Any]:
    """base's tokenizer with the same language inserted, and what follows moved up by one."""
    tokenizer: dict[str, Any] = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    added = tokenizer["added_tokens"]
    (before,) = (token for token in added if token["content"] == AFTER)
    at = before["id"]
    for token in added:
        token["id"] += token["id"] > at
    added.insert(added.index(before) + 1, {**before, "id": at + 1, "content": ADDED})
    return tokenizer
