"""A real model quantised beforehand says what the same model says that is quantised at load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from builder.quantise import quantise, stored_type
from faster_whisper.audio import decode_audio
from tests.gate import ask
from tests.speech_data import clip, clips

from sotto.audio.features import log_mel
from sotto.engine import whisper
from sotto.engine.base import Decoded
from sotto.engine.devices import CPU

pytestmark = pytest.mark.model

ENGLISH = ["en-dashwood", "en-busy", "en-amiable-woman"]
CLIPS = {
    "base": ["en-dashwood", "es-busy", "fr-connection", "it-mailbox-full", "ru-busy"],
    "tiny.en": ENGLISH,
}
LANGUAGE = {each.path.stem: each.language for each in clips()}


@pytest.fixture(scope="module", params=CLIPS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def int8(weights: Path, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised(weights / name, tmp_path_factory.mktemp("int8") / name, "int8")


def quantised(original: Path, into: Path, compute_type: str) -> Path:
    into.mkdir()
    for path in original.iterdir():
        if path.name not in {"model.bin", "model.json"}:
            (into / path.name).symlink_to(path)
    quantise(original / "model.bin", into / "model.bin", compute_type, progress=False)
    return into


@contextmanager
def loaded(folder: Path, compute_type: str) -> Iterator[Any]:
    engine = whisper.load(folder.name, folder, "cpu", compute_type, CPU)
    yield engine
    engine.close()


def features(name: str) -> np.ndarray:
    return log_mel(decode_audio(str(clip(name).path)), 80)


def heard(folder: Path, compute_type: str, names: list[str]) -> list[Decoded]:
    with loaded(folder, compute_type) as engine:
        asks = [
            replace(
                ask(0, temperatures=(0.0,)), features=features(name), language=clip(name).language
            )
            for name in names
        ]
        return [result for each in asks for result in engine.decode([each])]


def encoded(folder: Path, compute_type: str, name: str) -> np.ndarray:
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type=compute_type)
    storage = ctranslate2.StorageView.from_array(np.ascontiguousarray(features(name)[None]))
    return np.array(model.encode(storage))


def test_int8_gives_the_tokens_and_words_of_a_model_quantised_at_load(weights, int8, name):
    expected = heard(weights / name, "int8", CLIPS[name])
    result = heard(int8, "int8", CLIPS[name])
    assert len(result) == len(CLIPS[name])
    for ours, theirs in zip(result, expected, strict=True):
        assert ours.draft.tokens == theirs.draft.tokens
        assert ours.draft.avg_logprob == theirs.draft.avg_logprob
        assert ours.words == theirs.words
        assert ours.words


def test_int8_encodes_to_the_same_bits(weights: Path, int8: Path, name: str):
    theirs = encoded(weights / name, "int8", CLIPS[name][0])
    np.testing.assert_array_equal(encoded(int8, "int8", CLIPS[name][0]), theirs)


def test_int8_takes_little_more_than_half_the_space(weights: Path, int8: Path, name: str):
    size_bytes = (int8 / "model.bin").stat().st_size
    assert size_bytes <= 0.57 * (weights / name / "model.bin").stat().st_size
    assert stored_type(int8 / "model.bin") == "int8"


def test_the_models_as_they_come_are_float16(weights: Path, name: str):
    assert stored_type(weights / name / "model.bin") == "float16"


def test_int8_with_float16_gives_the_same_tokens_on_a_cpu(weights: Path, tmp_path: Path):
    folder = quantised(weights / "tiny.en", tmp_path / "tiny.en", "int8_float16")
    (expected,) = heard(weights / "tiny.en", "int8", ["en-dashwood"])
    (result,) = heard(folder, "int8", ["en-dashwood"])
    assert result.draft.tokens == expected.draft.tokens
    assert result.draft.avg_logprob == expected.draft.avg_logprob


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16"])
def test_other_floating_point_formats_load_and_say_the_words(
    weights: Path, tmp_path: Path, compute_type: str
):
    folder = quantised(weights / "tiny.en", tmp_path / "tiny.en", compute_type)
    (expected,) = heard(weights / "tiny.en", "float32", ["en-dashwood"])
    (result,) = heard(folder, "float32", ["en-dashwood"])
    assert "Dashwood" in result.draft.text
    if compute_type == "float32":
        assert result.draft.tokens == expected.draft.tokens
        assert result.draft.avg_logprob == expected.draft.avg_logprob
