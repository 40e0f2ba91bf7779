"""Which files make a model, to judge by their names."""

from __future__ import annotations

import pytest
from builder.layout import Kind, LayoutError, kind_of, needed, weights_of

READY = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "has no weights; one of these is needed: model.bin, model.safetensors, "),
        (("config.json", "README.md"), "has no weights"),
        (("sub/model.bin",), "has no weights"),
        (("MODEL.BIN", "model.bin.part", "ggml-base.bin", "large.PT"), "has no weights"),
        (("runs/large.pt", ".large.pt", ".pt", "large.pth", "large.pt.part"), "has no weights"),
        (("adapter_model.safetensors", "adapter_config.json"), "is only an adapter; merge it"),
        (("adapter_model.bin",), "is only an adapter"),
        (("adapter_model.bin", "optimizer.pt"), "is only an adapter"),
    ],
)
def test_files_without_weights_are_no_model(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(LayoutError) as caught:
        kind_of(names)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("missing", READY)
def test_a_ready_model_needs_all_its_parts(missing: str) -> None:
    names = [name for name in READY if name != missing]
    with pytest.raises(LayoutError, match=r"^lacks .*" + missing.replace(".", r"\.")):
        needed(names, Kind.READY)


def test_a_checkpoint_needs_its_configuration() -> None:
    with pytest.raises(LayoutError, match=r"^lacks config\.json$"):
        needed(["model.safetensors"], Kind.CHECKPOINT)


@pytest.mark.parametrize(
    "there", [(), PARTS[:1], PARTS[1:], (*PARTS, "model-00001-of-00003.safetensors")]
)
def test_an_index_needs_each_of_its_parts(there: tuple[str, ...]) -> None:
    with pytest.raises(LayoutError, match=r"^has .*index\.json, but not all of its parts: "):
        weights_of([INDEX, *there], Kind.CHECKPOINT)


def test_of_two_checkpoints_of_openais_neither_is_taken() -> None:
    assert kind_of(["a.pt", "b.pt"]) is Kind.OPENAI
    with pytest.raises(LayoutError, match=r"^has more than one checkpoint: a\.pt, b\.pt$"):
        needed(["b.pt", "a.pt", "tokenizer.json"], Kind.OPENAI)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (READY, Kind.READY),
        ((*READY, "model.safetensors"), Kind.READY),
        (("model.safetensors",), Kind.CHECKPOINT),
        ((INDEX, *PARTS), Kind.CHECKPOINT),
        (("pytorch_model.bin",), Kind.CHECKPOINT),
        (("pytorch_model.bin.index.json",), Kind.CHECKPOINT),
        (("pytorch_model.bin", "optimizer.pt"), Kind.CHECKPOINT),
        (("model.bin", "large.pt"), Kind.READY),
        (("my large-v2.pt",), Kind.OPENAI),
    ],
)
def test_weights_tell_the_kind(names: tuple[str, ...], kind: Kind) -> None:
    assert kind_of(names) is kind


def test_only_what_a_ready_model_needs_is_taken_the_weights_last() -> None:
    other = ("README.md", ".gitattributes", "vocabulary.json", "preprocessor_config.json", "x.bin")
    assert needed([*READY, *other], Kind.READY) == (
        "config.json",
        "tokenizer.json",
        "vocabulary.json",
        "vocabulary.txt",
        "preprocessor_config.json",
        "model.bin",
    )


@pytest.mark.parametrize(
    ("beside", "taken"),
    [
        ((), ("large.pt",)),
        (("config.json", "vocab.json", "README.md"), ("large.pt",)),
        (("tokenizer.json",), ("tokenizer.json", "large.pt")),
    ],
)
def test_of_openais_only_the_file_and_a_tokenizer_are_taken(
    beside: tuple[str, ...], taken: tuple[str, ...]
) -> None:
    assert needed(["large.pt", *beside], Kind.OPENAI) == taken
    assert weights_of(["large.pt", *beside], Kind.OPENAI) == ("large.pt",)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (
            ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"),
            ("model.safetensors",),
        ),
        ((INDEX, *PARTS, "pytorch_model.bin"), (INDEX, *PARTS)),
        (("model.safetensors", INDEX, *PARTS), ("model.safetensors",)),
        (("model.fp32-00001-of-00002.safetensors", "model.safetensors"), ("model.safetensors",)),
        (("pytorch_model.bin", "training_args.bin"), ("pytorch_model.bin",)),
    ],
)
def test_one_form_of_a_checkpoints_weights_is_taken(
    names: tuple[str, ...], taken: tuple[str, ...]
) -> None:
    found = needed(["config.json", "vocab.json", "runs/events.out", *names], Kind.CHECKPOINT)
    assert found == ("config.json", "vocab.json", *taken)
