"""Working models are proven; folders with anything wrong in them are told apart, and by what."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builder.model_bin import Kind, Layout, Values, read, write
from builder.prove import ProofError, prove
from builder.quantise import quantise

pytestmark = pytest.mark.model

SAID = "And Mr. John Dashwood had then leisure to consider how much there might be prudently"


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A copy of base that a test may damage."""
    return copied(weights / "base", tmp_path / "model")


def copied(source: Path, into: Path) -> Path:
    """The model in `source` again; its weights are a link, so a test replaces them or lets be."""
    into.mkdir()
    for path in source.iterdir():
        if path.name == "model.bin":
            (into / path.name).symlink_to(path)
        else:
            shutil.copyfile(path, into / path.name)
    return into


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def refused(folder: Path) -> str:
    """What is said of a folder that is no working model, in one line."""
    with pytest.raises(ProofError) as told:
        prove(folder)
    message = str(told.value)
    assert "\n" not in message
    assert message.startswith("model: ")
    return message.removeprefix("model: ")


def test_a_tokenizer_cut_short_is_told(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 1_000_000)
    assert refused(folder).startswith("tokenizer.json: is damaged: ")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"\xff\xfe\x00", b"[" * 100_000])
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.bin"])
def test_a_file_of_something_else_is_told(folder: Path, name: str, content: bytes) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    assert refused(folder).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.bin", "vocabulary.txt"])
def test_a_file_that_is_missing_is_told(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder)


def test_the_tokenizer_of_another_model_is_told(folder: Path, weights: Path) -> None:
    shutil.copyfile(weights / "tiny.en" / "tokenizer.json", folder / "tokenizer.json")
    assert refused(folder).startswith("tokenizer.json: is another model's: token ")


def test_a_tokenizer_without_whispers_own_tokens_is_told(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|startofprev|>", "<|something|>"))
    assert refused(folder) == "tokenizer.json: is not Whisper's: it lacks <|startofprev|>"


def test_a_tokenizer_with_more_tokens_than_the_model_is_told(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    last = tokenizer["added_tokens"][-1]
    more = [f"<|{frame / 50:.2f}|>" for frame in range(1501)] + ["<|more|>"]
    tokenizer["added_tokens"] += [
        last | {"id": number, "content": content} for number, content in enumerate(more, 50364)
    ]
    path.write_text(json.dumps(tokenizer))
    assert refused(folder) == (
        "tokenizer.json: is another model's: token 51865 is '<|more|>', but None in the vocabulary"
    )


def test_a_token_that_the_vocabulary_has_for_another_is_told(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"].append(last | {"id": 50364, "content": "<|more|>"})
    path.write_text(json.dumps(tokenizer))
    assert refused(folder) == (
        "tokenizer.json: is another model's: token 50364 is '<|more|>', "
        "but '<|0.00|>' in the vocabulary"
    )


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [("feature_size", 128, 80), ("sampling_rate", 8000, 16000), ("hop_length", 80, 160)],
)
def test_another_way_of_making_log_mel_is_told(
    folder: Path, field: str, value: int, wanted: int
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({field: value}))
    assert refused(folder) == (
        f"preprocessor_config.json: {field}: {value} does not fit model.bin; it must be {wanted}"
    )


@pytest.mark.parametrize("heads", [None, []])
def test_a_model_without_alignment_heads_is_told(folder: Path, heads: list[Any] | None) -> None:
    edit(folder / "config.json", alignment_heads=heads)
    assert refused(folder).startswith("config.json: has no alignment_heads; ")


@pytest.mark.parametrize("head", [[6, 0], [0, 8], [-1, 0]])
def test_alignment_heads_that_the_decoder_lacks_are_told(folder: Path, head: list[int]) -> None:
    edit(folder / "config.json", alignment_heads=[[3, 1], head])
    assert refused(folder) == (
        f"config.json: alignment_heads: {head} is not in the decoder; it has 6 layers of 8 heads"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lang_ids": []}, "config.json: has no lang_ids; languages are not heard without them"),
        ({"lang_ids": [50259, 50362]}, "config.json: lang_ids: 50362 is not a language's token"),
        (
            {"suppress_ids": [1, 51865]},
            "config.json: suppresses 51865, which is not a token of the model",
        ),
        (
            {"lang_ids": "all"},
            "config.json: Expected `array | null`, got `str` - at `$.lang_ids`",
        ),
    ],
)
def test_other_faults_of_the_configuration_are_told(
    folder: Path, changes: dict[str, Any], told: str
) -> None:
    edit(folder / "config.json", **changes)
    assert refused(folder) == told


def test_weights_cut_short_are_told(folder: Path, weights: Path) -> None:
    whole = (weights / "base" / "model.bin").read_bytes()
    (folder / "model.bin").unlink()
    (folder / "model.bin").write_bytes(whole[:70_000_000])
    assert refused(folder) == "model.bin: is cut short: it ends after 70000000 bytes"


def test_weights_of_too_many_mel_bands_are_told(folder: Path) -> None:
    def wider(layout: Layout) -> Iterator[Values]:
        for tensor in layout.tensors:
            values = layout.values(tensor)
            if tensor.name == "encoder/conv1/weight":
                values = Values(tensor.name, tensor.kind, values.array[:, :64].copy())
            yield values

    rewrite(folder, wider)
    assert refused(folder) == "model.bin: takes 64 mel bands; 80 or 128 are served"


def test_weights_that_lack_a_part_do_not_run(folder: Path) -> None:
    rewrite(
        folder,
        lambda layout: (
            layout.values(tensor)
            for tensor in layout.tensors
            if tensor.name != "decoder/layer_3/ffn/linear_1/weight"
        ),
    )
    assert refused(folder).startswith("does not run: ")


def rewrite(folder: Path, change: Callable[[Layout], Iterator[Values]]) -> None:
    layout = read(folder / "model.bin")
    changed = folder / "changed"
    write(changed, layout.revision, change(layout), layout.aliases)
    changed.replace(folder / "model.bin")


# What works.


def test_base_is_proven_by_what_it_hears(weights: Path) -> None:
    proof = prove(weights / "base")
    assert (proof.kind, proof.mels, proof.languages) == ("multilingual", 80, 99)
    assert proof.has_alignment_heads
    assert proof.compute_type.startswith("int8") or proof.compute_type == "float32"
    assert SAID in "".join(word.text for word in proof.words)
    at_s = 0.0
    for word in proof.words:
        assert at_s <= word.start_s <= word.end_s <= 7.2
        at_s = word.start_s
    assert proof.words[-1].end_s > 6


def test_a_model_that_knows_only_english_is_proven(weights: Path) -> None:
    proof = prove(weights / "tiny.en")
    assert (proof.kind, proof.languages) == ("english", 1)
    assert SAID in "".join(word.text for word in proof.words)


def test_a_quantised_model_is_proven(folder: Path, weights: Path) -> None:
    (folder / "model.bin").unlink()
    quantise(weights / "base" / "model.bin", folder / "model.bin", "int8", progress=False)
    assert SAID in "".join(word.text for word in prove(folder).words)


def test_the_newer_form_of_the_vocabulary_is_read(folder: Path) -> None:
    tokens = (folder / "vocabulary.txt").read_text().removesuffix("\n").split("\n")
    (folder / "vocabulary.txt").unlink()
    (folder / "vocabulary.json").write_text(json.dumps(tokens))
    assert prove(folder).languages == 99


@pytest.mark.parametrize("mels", [80, 128])
def test_weights_that_were_never_trained_only_have_to_run(folder: Path, mels: int) -> None:
    generator = np.random.default_rng(5)

    def random(layout: Layout) -> Iterator[Values]:
        for tensor in layout.tensors:
            values = layout.values(tensor)
            shape = (512, mels, 3) if tensor.name == "encoder/conv1/weight" else tensor.shape
            if tensor.kind is Kind.FLOAT16 and len(shape) > 1:
                made = generator.normal(0, 0.02, shape).astype(np.float16)
                values = Values(tensor.name, tensor.kind, made)
            yield values

    rewrite(folder, random)
    proof = prove(folder, expect_words=False)
    assert (proof.mels, proof.languages) == (mels, 99)


def test_a_model_that_hears_nothing_is_told(folder: Path) -> None:
    end = 50257
    others = [token for token in range(51865) if token != end]
    edit(folder / "config.json", suppress_ids=others, suppress_ids_begin=[])
    assert refused(folder) == "heard no words in a clip of clear speech"
