"""Names and shapes of tensors in OpenAI's package, and where a tokenizer for them is from."""

from __future__ import annotations

import re

import pytest
from builder.alignment import LARGE, Decoder, named_as
from builder.openai_checkpoint import Dimensions, Named, tensors, tokenizer_of

from sotto.models.catalogue import resolve

TINY = Dimensions(80, 51865, 1500, 384, 6, 4, 448, 384, 6, 4)
BY_NAME = {named.openai: named for named in tensors(TINY)}


# Where a tokenizer is from


@pytest.mark.parametrize("vocabulary", [1, 51863, 51867])
def test_a_vocabulary_that_no_model_has_gets_no_tokenizer(vocabulary: int) -> None:
    assert tokenizer_of(vocabulary) is None


@pytest.mark.parametrize(
    ("vocabulary", "name"), [(51864, "tiny.en"), (51865, "base"), (51866, "large-v3")]
)
def test_a_tokenizer_is_that_of_a_model_with_as_many_tokens(vocabulary: int, name: str) -> None:
    model = tokenizer_of(vocabulary)
    assert model is not None
    known = resolve(name)
    assert (model.repository, model.revision) == (known.repository, known.revision)
    assert [file.name for file in model.files] == ["tokenizer.json"]
    assert (model.files[0].sha256 is None) is (name == "large-v3")


# Which tensors there are


def test_no_tensor_stands_twice() -> None:
    every = list(tensors(TINY))
    assert len({named.openai for named in every}) == len(every)
    assert len({named.transformers for named in every}) == len(every)


def test_a_block_of_the_encoder_has_15_tensors_and_one_of_the_decoder_24() -> None:
    counts = {
        side: sum(name.startswith(f"{side}.blocks.") for name in BY_NAME)
        for side in ("encoder", "decoder")
    }
    assert counts == {"encoder": 4 * 15, "decoder": 4 * 24}
    # Two convolutions, positions, a norm; embeddings, positions, a norm.
    assert len(BY_NAME) == 4 * (15 + 24) + 7 + 4


def test_keys_have_no_bias() -> None:
    assert [name for name in BY_NAME if re.search(r"\.key\.bias$", name)] == []
    assert sum(name.endswith(".key.weight") for name in BY_NAME) == 4 + 2 * 4


@pytest.mark.parametrize(
    "named",
    [
        Named("encoder.conv1.weight", "model.encoder.conv1.weight", (384, 80, 3)),
        Named("encoder.conv2.bias", "model.encoder.conv2.bias", (384,)),
        Named("encoder.positional_embedding", "model.encoder.embed_positions.weight", (1500, 384)),
        Named("encoder.ln_post.weight", "model.encoder.layer_norm.weight", (384,)),
        Named("decoder.token_embedding.weight", "model.decoder.embed_tokens.weight", (51865, 384)),
        Named("decoder.ln.bias", "model.decoder.layer_norm.bias", (384,)),
        Named(
            "encoder.blocks.3.attn.key.weight",
            "model.encoder.layers.3.self_attn.k_proj.weight",
            (384, 384),
        ),
        Named(
            "decoder.blocks.0.cross_attn.out.bias",
            "model.decoder.layers.0.encoder_attn.out_proj.bias",
            (384,),
        ),
        Named(
            "decoder.blocks.2.cross_attn_ln.weight",
            "model.decoder.layers.2.encoder_attn_layer_norm.weight",
            (384,),
        ),
        Named("decoder.blocks.1.mlp.0.weight", "model.decoder.layers.1.fc1.weight", (1536, 384)),
        Named("encoder.blocks.1.mlp.2.weight", "model.encoder.layers.1.fc2.weight", (384, 1536)),
        Named(
            "encoder.blocks.1.mlp_ln.bias", "model.encoder.layers.1.final_layer_norm.bias", (384,)
        ),
    ],
    ids=lambda named: named.openai,
)
def test_a_tensor_has_its_name_there_and_here(named: Named) -> None:
    assert BY_NAME[named.openai] == named


# Which heads align


def test_models_of_one_shape_get_their_heads_by_the_name_of_their_file() -> None:
    assert named_as("large-v1", LARGE)[0] == (9, 19)
    assert named_as("large-v2", LARGE)[0] == (10, 12)
    assert named_as("large", LARGE) == named_as("large-v1", LARGE)


@pytest.mark.parametrize("name", ["large-v1", "large-v2"])
def test_the_heads_of_a_name_are_in_its_decoder(name: str) -> None:
    heads = named_as(name, LARGE)
    assert all(LARGE.has(head) for head in heads)
    assert len(set(heads)) == len(heads) >= 9


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("my-fine-tune", LARGE),
        ("", LARGE),
        ("large-v3", Decoder(32, 20, 51866)),
        ("large-v2", Decoder(6, 8, 51865)),
    ],
)
def test_a_name_that_tells_nothing_gives_none(name: str, decoder: Decoder) -> None:
    assert named_as(name, decoder) == ()
