"""What a model needs of a device: from its shape, and the shape from its file."""

from __future__ import annotations

import struct
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from tests.model_files import write_model_bin, write_variables

from sotto.engine.devices import CUDA
from sotto.models import catalogue, weights
from sotto.models.memory import FULL_CALL, need_bytes, weights_bytes, working_bytes
from sotto.models.shapes import SHAPES, Shape

TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32", "int8_bfloat16")
TINY = SHAPES["tiny"]
KNOWN_BYTES = {
    name: file.size_bytes
    for name, model in catalogue.load().items()
    for file in model.files
    if file.size_bytes
}
"""The sizes of model.bin that the catalogue knows; all of them are in float16."""


# Files that are no Whisper model


@pytest.fixture
def model_bin(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    write_model_bin(path, TINY)
    return path


def header_bytes(model_bin: Path) -> bytes:
    """The beginning of a model.bin, up to the values of its first table."""
    with model_bin.open("rb") as file:
        return file.read(200)


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 4, bytes(range(64)), b"\x06\0\0\0", b"PK\3\4"])
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"version|cut short"):
        weights.read(tmp_path / "model.bin")


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "model.bin")


def test_a_file_cut_short_anywhere_is_refused(model_bin: Path) -> None:
    whole = model_bin.stat().st_size
    head = header_bytes(model_bin)
    for length in range(len(head)):
        model_bin.write_bytes(head[:length])
        with pytest.raises(ValueError, match="cut short"):
            weights.read(model_bin)
    write_model_bin(model_bin, TINY)
    for length in (whole // 4, whole // 2, whole - 5_000):
        with model_bin.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(ValueError, match="cut short"):
            weights.read(model_bin)
        write_model_bin(model_bin, TINY)


def test_another_version_is_refused_with_those_that_are_read(tmp_path: Path) -> None:
    for version in (3, 7, 2**32 - 1):
        write_variables(tmp_path / "model.bin", {}, {}, version=version)
        with pytest.raises(ValueError, match=f"version 4 to 6: it begins with {version}$"):
            weights.read(tmp_path / "model.bin")


def test_a_model_of_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    write_variables(tmp_path / "model.bin", {}, {}, kind="TransformerSpec")
    with pytest.raises(ValueError, match="'TransformerSpec'; only Whisper"):
        weights.read(tmp_path / "model.bin")


def test_a_count_that_nobody_would_write_is_refused_before_it_is_read(tmp_path: Path) -> None:
    kind = b"WhisperSpec\0"
    head = struct.pack("<IH", 6, len(kind)) + kind + struct.pack("<II", 3, 2**32 - 1)
    (tmp_path / "model.bin").write_bytes(head + bytes(1000))
    with pytest.raises(ValueError, match="4294967295 variables"):
        weights.read(tmp_path / "model.bin")


@pytest.mark.parametrize("heads", [0, -1])
def test_a_model_without_heads_is_refused(tmp_path: Path, heads: int) -> None:
    write_model_bin(tmp_path / "model.bin", replace(TINY, heads=heads))
    with pytest.raises(ValueError, match="not those of a Whisper model"):
        weights.read(tmp_path / "model.bin")


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    write_model_bin(tmp_path / "model.bin", replace(TINY, encoder_layers=0))
    with pytest.raises(ValueError, match="not those of a Whisper model"):
        weights.read(tmp_path / "model.bin")


def test_variables_that_a_whisper_model_lacks_are_no_model(tmp_path: Path) -> None:
    write_variables(tmp_path / "model.bin", {"decoder/embeddings/weight": ((3,), "int8")}, {})
    with pytest.raises(ValueError, match="not those of a Whisper model"):
        weights.read(tmp_path / "model.bin")


# What a file tells


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_is_read_from_the_file(tmp_path: Path, name: str) -> None:
    write_model_bin(tmp_path / "model.bin", SHAPES[name])
    assert weights.read(tmp_path / "model.bin").shape == SHAPES[name]


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16", "int8", "int8_float16"])
def test_the_format_is_read_from_the_file(tmp_path: Path, stored: str) -> None:
    write_model_bin(tmp_path / "model.bin", TINY, stored)
    assert weights.read(tmp_path / "model.bin").stored == stored


def test_what_a_file_has_once_counts_for_each_of_its_names(tmp_path: Path) -> None:
    """A converter writes equal variables once, such as the norms of weights never trained."""
    norm = "encoder/layer_0/ffn/layer_norm/gamma"
    tables = {
        "decoder/embeddings/weight": ((51865, 384), "float16"),
        "encoder/conv1/weight": ((384, 80, 3), "float16"),
        norm: ((384,), "float16"),
        weights.LINEAR: ((1536, 384), "float16"),
    }
    others = (weights.NORM, "encoder/layer_1/ffn/layer_norm/gamma", "decoder/layer_1/ffn/gamma")
    write_variables(
        tmp_path / "model.bin", tables, {weights.HEADS: 6}, aliases=dict.fromkeys(others, norm)
    )
    found = weights.read(tmp_path / "model.bin")
    assert found == weights.Weights(Shape(2, 2, 384, 6, 51865, 80), "float16")


@pytest.mark.model
@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_real_model_has_its_published_shape(weights_dir: Path, name: str) -> None:
    found = weights.read(weights_dir / name / "model.bin")
    assert found == weights.Weights(SHAPES[name], "float16")


@pytest.fixture
def weights_dir(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue("weights")
    return folder


# What a model needs


def test_every_model_of_the_catalogue_has_a_shape() -> None:
    assert list(SHAPES) == list(catalogue.load())


def test_shapes_are_those_of_whisper() -> None:
    for shape in SHAPES.values():
        assert shape.width == 64 * shape.heads
        assert shape.mels in (80, 128)
        assert all(number > 0 for number in astuple(shape))


def test_english_models_have_a_token_less() -> None:
    for name, model in catalogue.load().items():
        if name.endswith(".en"):
            assert model.languages == "english"
            assert SHAPES[name].vocabulary == SHAPES[name.removesuffix(".en")].vocabulary - 1


@pytest.mark.parametrize(("name", "known"), KNOWN_BYTES.items())
def test_weights_are_as_large_as_the_files_are_known_to_be(name: str, known: int) -> None:
    assert weights_bytes(SHAPES[name], "float16") == pytest.approx(known, rel=0.0005)


def test_all_sizes_that_are_known_are_compared() -> None:
    assert set(KNOWN_BYTES) >= {"tiny", "tiny.en", "base", "small", "medium", "large-v3", "turbo"}


@pytest.mark.parametrize("name", SHAPES)
def test_a_smaller_format_needs_less(name: str) -> None:
    need = {one: need_bytes(SHAPES[name], one) for one in TYPES}
    assert need["int8_float16"] < need["float16"] < need["float32"]
    assert need["int8_float16"] < need["int8"] < need["float32"]
    assert need["bfloat16"] == need["float16"]
    assert need["int8_bfloat16"] == need["int8_float16"]
    assert need["int8_float32"] == need["int8"]


@pytest.mark.parametrize("name", SHAPES)
def test_int8_halves_the_weights_of_float16_at_most(name: str) -> None:
    halves = weights_bytes(SHAPES[name], "int8_float16") / weights_bytes(SHAPES[name], "float16")
    assert 0.5 < halves < 0.55


def test_what_calls_work_with_grows_with_their_windows_and_threads() -> None:
    shape = SHAPES["large-v3"]
    one = working_bytes(shape, "float16", 1, 1)
    assert working_bytes(shape, "float16", 16, 16) == 16 * one
    assert need_bytes(shape, "float16", encode=1, decode=1, threads=3) == (
        weights_bytes(shape, "float16") + 3 * one
    )


def test_keys_and_values_of_a_window_are_those_of_the_arithmetic() -> None:
    shape = Shape(1, 10, 100, 1, 1, 80)
    layers_keys_and_values = 10 * 2 * 100
    heard = 2 * 1500 * 100 + 2 * 1500 * layers_keys_and_values
    beams = 2 * 5 * 224 * layers_keys_and_values + 4 * 5 * 1
    assert working_bytes(shape, "float16", 0, 1) == heard + beams


def test_each_text_that_is_sampled_has_a_copy_of_what_is_kept_of_the_audio() -> None:
    shape = Shape(1, 10, 100, 1, 1, 80)
    layers_keys_and_values = 10 * 2 * 100
    heard = 2 * 1500 * 100 + 2 * 1500 * layers_keys_and_values
    text = 2 * 224 * layers_keys_and_values + 4 * 1
    assert working_bytes(shape, "float16", 0, 1, 5) == 5 * (heard + text)
    assert working_bytes(shape, "float16", 0, 5, 5) == working_bytes(shape, "float16", 0, 5)


def test_a_full_call_is_the_one_that_a_gpu_is_given() -> None:
    assert CUDA.encode == CUDA.decode == CUDA.sample == FULL_CALL
