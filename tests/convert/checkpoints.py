"""Whisper checkpoints as the transformers library saves them, and as OpenAI's package does.

Invariant: the same call makes the same weights.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from builder.model_bin import read
from transformers import WhisperConfig, WhisperForConditionalGeneration

TINY = {
    "d_model": 96,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 384,
    "decoder_ffn_dim": 384,
    "vocab_size": 51865,
    "num_mel_bins": 80,
    "pad_token_id": 50257,
    "bos_token_id": 50257,
    "eos_token_id": 50257,
    "decoder_start_token_id": 50258,
    "begin_suppress_tokens": None,
}
"""The shape of Whisper tiny, but narrow: what a test waits for grows with the width."""
BASE = TINY | {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
}
MODULES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "position_encodings": "embed_positions",
    "embeddings": "embed_tokens",
    "layer_norm": "layer_norm",
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_0": "self_attn.qkv",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_1": "encoder_attn.kv",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
LEAVES = {"gamma": "weight", "beta": "bias", "encodings": "weight"}
OPENAIS = (
    ("model.", ""),
    (".layers.", ".blocks."),
    (".self_attn_layer_norm.", ".attn_ln."),
    (".encoder_attn_layer_norm.", ".cross_attn_ln."),
    (".final_layer_norm.", ".mlp_ln."),
    (".self_attn.", ".attn."),
    (".encoder_attn.", ".cross_attn."),
    (".q_proj.", ".query."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".out_proj.", ".out."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
    (".embed_tokens.", ".token_embedding."),
    (".embed_positions.weight", ".positional_embedding"),
    ("encoder.layer_norm.", "encoder.ln_post."),
    ("decoder.layer_norm.", "decoder.ln."),
)
"""What to replace in a name of the transformers library, in this order, to have OpenAI's."""
PLACE = re.compile(r"(encoder|decoder)/(?:layer_(\d+)/)?(.+)/(\w+)")


class Checkpoints:
    """Makes checkpoints with the tokenizers of the models in `weights`."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights

    def tokenizer(self, name: str) -> Path:
        """The tokenizer.json of `base` or `tiny.en`."""
        return self._weights / name / "tokenizer.json"

    def random(
        self,
        folder: Path,
        *,
        generation: object = None,
        shard: str = "1GB",
        dtype: str = "float32",
        **config: Any,
    ) -> Path:
        """Random weights of the shape TINY, or as `config` says, and the tokenizer that fits."""
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(WhisperConfig(**(TINY | config)))
        model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink()
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        name = "tiny.en" if model.config.vocab_size == 51864 else "base"
        shutil.copyfile(self.tokenizer(name), folder / "tokenizer.json")
        return folder

    def real(self, folder: Path) -> Path:
        """Whisper base, taken back from CTranslate2's format to the one it was converted from."""
        state = dict(_taken_back(self._weights / "base" / "model.bin"))
        model = WhisperForConditionalGeneration(WhisperConfig(**BASE)).to(torch.float16)
        model.load_state_dict(state, strict=False)
        assert set(model.state_dict()) - set(state) == {"proj_out.weight"}
        model.save_pretrained(folder)
        shutil.copyfile(self.tokenizer("base"), folder / "tokenizer.json")
        settings = json.loads((self._weights / "base" / "config.json").read_bytes())
        generation = {
            "alignment_heads": settings["alignment_heads"],
            "suppress_tokens": settings["suppress_ids"],
            "begin_suppress_tokens": settings["suppress_ids_begin"],
        }
        (folder / "generation_config.json").write_text(json.dumps(generation))
        return folder


def pickled(folder: Path) -> Path:
    """The checkpoint in `folder` with its weights as older ones have them."""
    weights = folder / "model.safetensors"
    model = WhisperForConditionalGeneration.from_pretrained(str(folder))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def openais(checkpoint: Path) -> dict[str, Any]:
    """What OpenAI's package would save of the model in the folder `checkpoint`."""
    model = WhisperForConditionalGeneration.from_pretrained(str(checkpoint), dtype="auto")
    config = model.config
    state = {}
    for name, tensor in model.state_dict().items():
        for theirs, ours in OPENAIS:
            name = name.replace(theirs, ours)
        state[name] = tensor
    del state["proj_out.weight"]
    dims = {
        "n_mels": config.num_mel_bins,
        "n_vocab": config.vocab_size,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }
    return {"dims": dims, "model_state_dict": state}


def _taken_back(model_bin: Path) -> Iterator[tuple[str, torch.Tensor]]:
    layout = read(model_bin)
    for tensor in layout.tensors:
        place = PLACE.fullmatch(tensor.name)
        if place is None or not tensor.shape:
            continue
        side, layer, path, leaf = place.groups()
        module = f"model.{side}." + (f"layers.{layer}." if layer else "") + MODULES[path]
        values = torch.from_numpy(layout.values(tensor).array)
        leaf = LEAVES.get(leaf, leaf)
        fused = re.fullmatch(r"(.+\.)(qkv|kv)", module)
        if fused is None:
            yield f"{module}.{leaf}", values
            continue
        parts = zip(fused[2], values.chunk(len(fused[2])), strict=True)
        # Whisper's keys have no bias; CTranslate2 has zeros there.
        yield from (
            (f"{fused[1]}{part}_proj.{leaf}", values)
            for part, values in parts
            if (part, leaf) != ("k", "bias")
        )
