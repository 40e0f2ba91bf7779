"""A checkpoint of OpenAI's own package in, the same as the transformers library saves one out.

It is one file: a pickle of the model's dimensions and its tensors. Invariant: no code in it is run,
and the folder that is made has every tensor of such a model and none more, each of the shape that
the dimensions say.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from builder.alignment import Decoder, named_as
from builder.checkpoint import GENERATION, ConvertError, Count, translated

from sotto.models.catalogue import CONFIG, TOKENIZER, Model, load
from sotto.models.shapes import POSITIONS, SHAPES, TOKENS

EMBEDDINGS = "model.decoder.embed_tokens.weight"
WIDER = 4
"""How many times wider than the model its feed-forward layers are."""
TIMES = POSITIONS + 1
"""Tokens that are times of speech, which a tokenizer may leave out."""
FLOATS = ("float32", "float16", "bfloat16")
"""The types of numbers that a checkpoint may have, as torch calls them."""


class Dimensions(msgspec.Struct, frozen=True):
    """What the file says of its model, in OpenAI's names."""

    n_mels: Count
    n_vocab: Count
    n_audio_ctx: Count
    n_audio_state: Count
    n_audio_head: Count
    n_audio_layer: Count
    n_text_ctx: Count
    n_text_state: Count
    n_text_head: Count
    n_text_layer: Count


class _Content(msgspec.Struct, frozen=True):
    dims: Dimensions
    model_state_dict: dict[str, Any]


class Named(NamedTuple):
    """A tensor's name in OpenAI's package and in the transformers library, and its shape."""

    openai: str
    transformers: str
    shape: tuple[int, ...]


def dimensions(path: Path) -> Dimensions:
    """What the checkpoint at `path` says of itself. Raises ConvertError."""
    return _content(path).dims


def tokenizer_of(vocabulary: int) -> Model | None:
    """The tokenizer of a model in the catalogue that has as many tokens; one of known digest first.

    OpenAI's models of one vocabulary have one tokenizer, and their fine-tunes keep it.
    """
    offered = [
        msgspec.structs.replace(model, files=(file,))
        for name, model in load().items()
        if SHAPES[name].vocabulary == vocabulary
        for file in model.files
        if file.name == TOKENIZER
    ]
    return min(offered, key=lambda model: model.files[0].sha256 is None, default=None)


def translate(path: Path, tokenizer: Path, into: Path) -> None:
    """Write the checkpoint at `path` to the new folder `into` as the transformers library does.

    Needs the disk space of the checkpoint. Raises ConvertError, which names the file that is wrong,
    and OSError; what was written by then is left to the caller.
    """
    content = _content(path)
    into.mkdir(parents=True)
    shutil.copyfile(tokenizer, into / TOKENIZER)
    _write_settings(path, content.dims, into)
    _write_weights(path, content, into / "pytorch_model.bin")


def tensors(dims: Dimensions) -> Iterator[Named]:
    """Every tensor of a model of these dimensions."""
    width = dims.n_audio_state
    yield from _pair("encoder.conv1", "model.encoder.conv1", width, dims.n_mels, 3)
    yield from _pair("encoder.conv2", "model.encoder.conv2", width, width, 3)
    positions = "model.encoder.embed_positions.weight"
    yield Named("encoder.positional_embedding", positions, (dims.n_audio_ctx, width))
    for layer in range(dims.n_audio_layer):
        yield from _block("encoder", layer, width)
    yield from _pair("encoder.ln_post", "model.encoder.layer_norm", width)
    width = dims.n_text_state
    yield Named("decoder.token_embedding.weight", EMBEDDINGS, (dims.n_vocab, width))
    positions = "model.decoder.embed_positions.weight"
    yield Named("decoder.positional_embedding", positions, (dims.n_text_ctx, width))
    for layer in range(dims.n_text_layer):
        yield from _block("decoder", layer, width)
    yield from _pair("decoder.ln", "model.decoder.layer_norm", width)


def _block(side: str, layer: int, width: int) -> Iterator[Named]:
    ours, theirs = f"{side}.blocks.{layer}", f"model.{side}.layers.{layer}"
    yield from _attention(f"{ours}.attn", f"{theirs}.self_attn", width)
    if side == "decoder":
        yield from _attention(f"{ours}.cross_attn", f"{theirs}.encoder_attn", width)
    yield from _pair(f"{ours}.mlp.0", f"{theirs}.fc1", WIDER * width, width)
    yield from _pair(f"{ours}.mlp.2", f"{theirs}.fc2", width, WIDER * width)
    yield from _pair(f"{ours}.mlp_ln", f"{theirs}.final_layer_norm", width)


def _attention(openai: str, transformers: str, width: int) -> Iterator[Named]:
    yield from _pair(f"{openai}.query", f"{transformers}.q_proj", width, width)
    # Whisper's keys have no bias.
    yield Named(f"{openai}.key.weight", f"{transformers}.k_proj.weight", (width, width))
    yield from _pair(f"{openai}.value", f"{transformers}.v_proj", width, width)
    yield from _pair(f"{openai}.out", f"{transformers}.out_proj", width, width)
    yield from _pair(f"{openai}_ln", f"{transformers}_layer_norm", width)


def _pair(openai: str, transformers: str, *shape: int) -> Iterator[Named]:
    """The weight of a layer, and its bias, which goes by the weight's first axis."""
    yield Named(f"{openai}.weight", f"{transformers}.weight", shape)
    yield Named(f"{openai}.bias", f"{transformers}.bias", shape[:1])


def _content(path: Path) -> _Content:
    """Dimensions and tensors; the tensors stay in the file as long as they can."""
    import torch

    with translated(path.name):
        loaded = torch.load(
            str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    try:
        # A tensor would pass for an object.
        if not isinstance(loaded, dict):
            raise msgspec.ValidationError(f"Expected `object`, got `{type(loaded).__name__}`")
        content = msgspec.convert(loaded, _Content)
    except msgspec.ValidationError as error:
        raise ConvertError(f"{path.name}: is no checkpoint of OpenAI's Whisper: {error}") from error
    _check(path, content.dims)
    return content


def _check(path: Path, dims: Dimensions) -> None:
    """Refuse what the transformers library and Sotto's windows have no place for."""
    for field, found, wanted in (
        ("n_audio_ctx", dims.n_audio_ctx, POSITIONS),
        ("n_text_ctx", dims.n_text_ctx, TOKENS),
        ("n_text_state", dims.n_text_state, dims.n_audio_state),
    ):
        if found != wanted:
            raise ConvertError(f"{path.name}: dims: {field}: {found} must be {wanted}")
    for field, heads in (("n_audio_head", dims.n_audio_head), ("n_text_head", dims.n_text_head)):
        if dims.n_audio_state % heads:
            raise ConvertError(
                f"{path.name}: dims: {field}: {heads} does not divide the "
                f"{dims.n_audio_state} of n_audio_state"
            )


def _write_weights(path: Path, content: _Content, into: Path) -> None:
    import torch

    with translated(f"{path.name}: the weights"):
        torch.save(_renamed(path, content), into)


def _renamed(path: Path, content: _Content) -> dict[str, Any]:
    """The tensors by the transformers library's names, all in one type of numbers."""
    state = content.model_state_dict
    found: dict[str, Any] = {}
    for named in tensors(content.dims):
        tensor = state.get(named.openai)
        _require(path, named, tensor)
        found[named.transformers] = tensor
    strange = sorted(state.keys() - {named.openai for named in tensors(content.dims)})
    if strange:
        raise ConvertError(f"{path.name}: has {strange[0]!r}, which such a model has not")
    # A tensor may claim to be larger than what is stored of it.
    if sum(tensor.nbytes for tensor in found.values()) > path.stat().st_size:
        raise ConvertError(f"{path.name}: its tensors are larger than the file")
    kind = found[EMBEDDINGS].dtype
    return {name: tensor.to(kind).contiguous() for name, tensor in found.items()}


def _require(path: Path, named: Named, tensor: Any) -> None:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ConvertError(f"{path.name}: lacks {named.openai}")
    if tuple(tensor.shape) != named.shape:
        raise ConvertError(
            f"{path.name}: {named.openai} is of the shape {tuple(tensor.shape)}; "
            f"by its dims it should be {named.shape}"
        )
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_meta:
        kind = "no plain table"
    if kind not in FLOATS:
        raise ConvertError(
            f"{path.name}: {named.openai} is stored as {kind}; {', '.join(FLOATS)} can be converted"
        )


def _write_settings(path: Path, dims: Dimensions, into: Path) -> None:
    """Write what the transformers library keeps beside the weights."""
    config = {
        "model_type": "whisper",
        "vocab_size": dims.n_vocab,
        "num_mel_bins": dims.n_mels,
        "d_model": dims.n_audio_state,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_ffn_dim": WIDER * dims.n_audio_state,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_ffn_dim": WIDER * dims.n_text_state,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
    }
    decoder = Decoder(dims.n_text_layer, dims.n_text_head, dims.n_vocab)
    generation = {
        "alignment_heads": named_as(path.stem, decoder) or None,
        "suppress_tokens": _not_speech(into / TOKENIZER, dims.n_vocab),
    }
    _write(into / CONFIG, config)
    _write(into / GENERATION, generation)


def _not_speech(tokenizer: Path, vocabulary: int) -> list[int]:
    """The tokens that OpenAI's package never lets a model say, as they are no speech."""
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens
    from tokenizers import Tokenizer as Tokens

    with translated(TOKENIZER):
        tokens = Tokens.from_file(str(tokenizer))
        size = tokens.get_vocab_size()
        if vocabulary - size not in {0, TIMES}:
            raise ConvertError(
                f"{TOKENIZER}: is another model's: it has {size} tokens, with the {TIMES} times of "
                f"speech or without; the model has {vocabulary}"
            )
        return list(get_suppressed_tokens(Tokenizer(tokens, multilingual=False), [-1]) or ())


def _write(path: Path, settings: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
