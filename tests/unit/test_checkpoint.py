"""A checkpoint's settings: what is wrong with them is told, and whose alignment heads are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builder.alignment import SIZES, Decoder, choose
from builder.checkpoint import Checkpoint, ConvertError, read

CONFIG = {
    "model_type": "whisper",
    "vocab_size": 51865,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
}
BASE = ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def checkpoint(folder: Path, generation: object = None, **changes: object) -> Checkpoint:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return read(folder)


# What is wrong.


def test_a_folder_without_settings_is_told(folder: Path):
    with pytest.raises(ConvertError, match=r"^config\.json: cannot be read: No such file"):
        read(folder)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"model_type": 3}', "\xff"),
        '{"model_type": "\xff"}',
        '{"model_type": "whisper", "_name_or_path": "M\xfcller"}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_settings_that_are_no_settings_are_told(folder: Path, text: str):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConvertError, match=r"^config\.json: "):
        read(folder)


@pytest.mark.parametrize("model_type", ["wav2vec2", "WHISPER", ""])
def test_another_architecture_is_told(folder: Path, model_type: str):
    with pytest.raises(ConvertError, match=f"^config.json: model_type: '{model_type}' is not 'whi"):
        checkpoint(folder, model_type=model_type)


@pytest.mark.parametrize("key", ["vocab_size", "decoder_layers", "decoder_attention_heads"])
@pytest.mark.parametrize("value", [None, 0, -1, 2**40, "six", 1.5])
def test_sizes_that_are_none_are_told(folder: Path, key: str, value: object):
    with pytest.raises(ConvertError, match=rf"^config\.json: .*{key}"):
        checkpoint(folder, **{key: value})


def test_a_missing_size_is_told(folder: Path):
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ConvertError, match=r"^config\.json: .*`vocab_size`"):
        read(folder)


@pytest.mark.parametrize("heads", ["all", [1, 2], [[1]], [[1, 2, 3]], [["1", "2"]]])
def test_alignment_heads_that_are_none_are_told(folder: Path, heads: object):
    with pytest.raises(ConvertError, match=r"^generation_config\.json: .*alignment_heads"):
        checkpoint(folder, {"alignment_heads": heads})


@pytest.mark.parametrize("key", ["suppress_tokens", "begin_suppress_tokens"])
@pytest.mark.parametrize("token", [-1, 51865])
def test_a_token_that_is_not_in_the_vocabulary_is_told(folder: Path, key: str, token: int):
    with pytest.raises(ConvertError, match=f"^suppress_tokens: {token} is not a token of a voc"):
        checkpoint(folder, {key: [1, token]})


def test_a_folder_without_weights_is_told(tmp_path: Path):
    with pytest.raises(ConvertError, match=r"has no weights; wanted is model\*\.safetensors or "):
        checkpoint(tmp_path)


# What is right.


def test_settings_of_generation_go_before_those_of_the_model(folder: Path):
    found = checkpoint(folder, {"suppress_tokens": [1]}, suppress_tokens=[2], num_mel_bins=128)
    assert (found.suppressed, found.suppressed_at_start, found.mels) == ((1,), None, 128)


def test_an_older_checkpoint_has_all_settings_in_one_file(folder: Path):
    found = checkpoint(folder, suppress_tokens=[], begin_suppress_tokens=[220, 50257])
    assert (found.suppressed, found.suppressed_at_start) == ((), (220, 50257))


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_weights_may_be_sharded_or_pickled(tmp_path: Path, weights: str):
    (tmp_path / weights).touch()
    assert checkpoint(tmp_path).folder == tmp_path


def test_heads_that_the_checkpoint_names_are_taken(folder: Path):
    found = checkpoint(folder, {"alignment_heads": [[5, 7], [0, 0]]})
    assert found.alignment.heads == ((5, 7), (0, 0))
    assert found.alignment.origin == "the checkpoint's own"


@pytest.mark.parametrize("generation", [None, {}, {"alignment_heads": None}])
def test_a_checkpoint_that_names_none_gets_those_of_its_size(folder: Path, generation: object):
    found = checkpoint(folder, generation)
    assert found.alignment.heads == BASE
    assert found.alignment.origin == "those of base, which has the same shape"


@pytest.mark.parametrize("heads", [[[6, 0]], [[0, 8]], [[0, 0], [-1, 0]]])
def test_heads_of_a_teacher_that_are_not_there_count_as_none(folder: Path, heads: object):
    assert checkpoint(folder, {"alignment_heads": heads}).alignment.heads == BASE


def test_an_unknown_shape_gets_all_heads_of_the_upper_half():
    chosen = choose(Decoder(2, 3, 51866), [(7, 0)])
    assert chosen.heads == ((1, 0), (1, 1), (1, 2))
    assert chosen.origin == "all of the upper half of the layers, as none are known"
    assert chosen.absent == (7, 0)
    assert choose(Decoder(1, 1, 51866), []).heads == ((0, 0),)


@pytest.mark.parametrize("decoder", SIZES)
def test_the_heads_of_every_known_size_exist(decoder: Decoder):
    chosen = choose(decoder, [])
    assert all(decoder.has(head) for head in chosen.heads)
    assert len(set(chosen.heads)) == len(chosen.heads) >= 5


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_known_heads_are_those_of_the_converted_models(weights: Path, name: str):
    (decoder,) = (decoder for decoder, (known, _) in SIZES.items() if known == name)
    config = json.loads((weights / name / "config.json").read_bytes())
    assert list(map(list, choose(decoder, []).heads)) == config["alignment_heads"]
