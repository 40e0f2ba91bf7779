"""Number formats: which tensor becomes what, how it is rounded, and what cannot be."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from builder.model_bin import Kind, ModelBinError, Values, read, write
from builder.quantise import FORMATS, quantise, stored_type
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

ROWS = np.array([[1.0, -4.0, 0.5], [0.0, 0.0, 0.0], [0.015625, 2.5, 2.0]], "<f2")
CONVOLUTION = np.array([[[0.5, 1.0]], [[3.0, -1.5]]], "<f2")
BIAS = np.array([0.25, -8.0], "<f2")
TENSORS = (
    Values("encoder/conv1/weight", Kind.FLOAT16, CONVOLUTION),
    Values("encoder/layer_0/ffn/linear_0/weight", Kind.FLOAT16, ROWS),
    Values("encoder/layer_0/ffn/linear_0/bias", Kind.FLOAT16, BIAS),
    Values("encoder/num_heads", Kind.INT16, np.array(6, "<i2")),
    Values("encoder/scale_embeddings", Kind.FLOAT32, np.array(1, "<f4")),
)
ALIASES = (("decoder/projection/weight", "encoder/layer_0/ffn/linear_0/weight"),)
CONV, WEIGHT, LINEAR_BIAS, HEADS, SCALE = (tensor.name for tensor in TENSORS)


def model(path: Path, tensors: Iterable[Values] = TENSORS) -> Path:
    write(path, 3, tensors, ALIASES)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return model(tmp_path / "model.bin")


def quantised(source: Path, compute_type: str) -> dict[str, Values]:
    target = source.with_name("quantised.bin")
    quantise(source, target, compute_type, progress=False)
    layout = read(target)
    assert layout.aliases == ALIASES
    assert layout.revision == 3
    return {tensor.name: layout.values(tensor) for tensor in layout.tensors}


def with_weight(kind: Kind, rows: np.ndarray) -> list[Values]:
    return [Values(WEIGHT, kind, rows) if tensor.name == WEIGHT else tensor for tensor in TENSORS]


# What cannot be.


def test_an_unknown_format_is_refused_with_those_there_are(source: Path):
    with pytest.raises(ValueError, match=r"^compute_type: 'int4' is not .*; there are float32, "):
        quantise(source, source, "int4", progress=False)


@pytest.mark.parametrize("stored", ["int8", "int8_float16", "int8_bfloat16"])
@pytest.mark.parametrize("wanted", ["float32", "float16", "bfloat16"])
def test_a_quantised_model_is_not_quantised_again(source: Path, stored: str, wanted: str):
    quantise(source, source, stored, progress=False)
    before = source.read_bytes()
    with pytest.raises(ModelBinError, match=r"^model\.bin: its weights are int8 already; "):
        quantise(source, source, wanted, progress=False)
    assert source.read_bytes() == before


def test_one_quantised_format_does_not_become_another(source: Path):
    quantise(source, source, "int8", progress=False)
    with pytest.raises(ModelBinError, match="int8_float16 can only be made from the original"):
        quantise(source, source, "int8_float16", progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("compute_type", ["int8", "float32", "bfloat16"])
def test_numbers_that_are_none_are_told_with_their_tensor(tmp_path, value, compute_type):
    rows = ROWS.copy()
    rows[1, 1] = value
    source = model(tmp_path / "model.bin", with_weight(Kind.FLOAT16, rows))
    with pytest.raises(ModelBinError, match="linear_0/weight' holds infinity or what is no number"):
        quantise(source, tmp_path / "target.bin", compute_type, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_a_number_too_large_for_float16_is_told(tmp_path: Path):
    rows = np.array([[65520.0]], "<f4")
    source = model(tmp_path / "model.bin", with_weight(Kind.FLOAT32, rows))
    with pytest.raises(ModelBinError, match="linear_0/weight' holds numbers too large for float16"):
        quantise(source, tmp_path / "target.bin", "float16", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_a_damaged_source_leaves_nothing_behind(source: Path):
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(ModelBinError, match="cut short"):
        quantise(source, source.with_name("target.bin"), "int8", progress=False)
    assert [path.name for path in source.parent.iterdir()] == ["model.bin"]


def test_a_file_without_weights_has_no_format(tmp_path: Path):
    with pytest.raises(ModelBinError, match=r"^model\.bin: has no weights$"):
        stored_type(model_without(tmp_path, WEIGHT))
    with pytest.raises(ModelBinError, match=r"^model\.bin: has no weights$"):
        quantise(model_without(tmp_path, CONV, LINEAR_BIAS), tmp_path, "int8", progress=False)


def model_without(folder: Path, *names: str) -> Path:
    path = folder / "model.bin"
    write(path, 3, [tensor for tensor in TENSORS if tensor.name not in names], ())
    return path


def test_a_format_without_a_name_is_told(tmp_path: Path):
    wide = with_weight(Kind.INT16, np.array([[1, 2]], "<i2"))
    source = model(tmp_path / "model.bin", wide)
    with pytest.raises(ModelBinError, match="its weights are int16 and the rest is float16; known"):
        stored_type(source)


# What becomes what.


@pytest.mark.parametrize("compute_type", FORMATS)
def test_a_model_is_in_the_format_that_was_wanted(source: Path, compute_type: str):
    assert stored_type(source) == "float16"
    quantise(source, source, compute_type, progress=False)
    assert FORMATS[stored_type(source)] == FORMATS[compute_type]


def test_int8_with_its_longer_name_is_the_same_format(source: Path):
    quantise(source, source, "int8", progress=False)
    before = source.read_bytes()
    quantise(source, source, "int8_float32", progress=False)
    assert source.read_bytes() == before
    assert stored_type(source) == "int8"


@pytest.mark.parametrize("compute_type", ["int8", "int8_float16", "float32"])
def test_single_numbers_stay_as_they_are(source: Path, compute_type: str):
    values = quantised(source, compute_type)
    assert (values[HEADS].kind, int(values[HEADS].array)) == (Kind.INT16, 6)
    assert (values[SCALE].kind, float(values[SCALE].array)) == (Kind.FLOAT32, 1)


@pytest.mark.parametrize(
    ("compute_type", "kind"), [("int8", Kind.FLOAT32), ("int8_float16", Kind.FLOAT16)]
)
def test_convolutions_and_biases_stay_in_floating_point(
    source: Path, compute_type: str, kind: Kind
):
    values = quantised(source, compute_type)
    assert (values[CONV].kind, values[LINEAR_BIAS].kind) == (kind, kind)
    np.testing.assert_array_equal(values[CONV].array, CONVOLUTION)
    np.testing.assert_array_equal(values[LINEAR_BIAS].array, BIAS)
    assert f"{CONV}_scale" not in values


def test_rows_are_scaled_by_their_largest_number_and_rounded_half_to_even(source: Path):
    values = quantised(source, "int8")
    # 1 * 127 / 4 = 31.75; 0.5 * 127 / 4 = 15.875; 0.015625 * 50.8 = 0.79375; 2 * 50.8 = 101.6
    np.testing.assert_array_equal(values[WEIGHT].array, [[32, -127, 16], [0, 0, 0], [1, 127, 102]])
    scale = values[f"{WEIGHT}_scale"]
    assert scale.kind is Kind.FLOAT32
    np.testing.assert_array_equal(scale.array, np.array([31.75, 1, 50.8], "f4"))


def test_a_tie_goes_to_the_even_number(tmp_path: Path):
    rows = np.array([[127.0, 0.5, 1.5, -0.5, -2.5]], "<f4")
    values = quantised(model(tmp_path / "model.bin", with_weight(Kind.FLOAT32, rows)), "int8")
    np.testing.assert_array_equal(values[WEIGHT].array, [[127, 0, 2, 0, -2]])


@given(
    rows=numpy_st.arrays(
        np.float32,
        numpy_st.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    )
)
def test_what_was_quantised_is_within_half_a_step_of_what_was(tmp_path_factory, rows):
    source = model(tmp_path_factory.mktemp("rows") / "model.bin", with_weight(Kind.FLOAT32, rows))
    values = quantised(source, "int8")
    scale = values[f"{WEIGHT}_scale"].array.astype("f8")[:, None]
    back = values[WEIGHT].array / scale
    assert np.isfinite(back).all()
    assert (abs(back - rows) <= 0.5001 / scale).all()
    assert (abs(values[WEIGHT].array.astype(int)) <= 127).all()


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F800000, 0x3F80),  # 1 is 1
        (0xBF808000, 0xBF80),  # a tie, down to even
        (0x3F818000, 0x3F82),  # a tie, up to even
        (0x3F808001, 0x3F81),  # just over a tie
        (0x3F807FFF, 0x3F80),  # just below one
        (0x00000001, 0x0000),  # the smallest number there is
        (0x80000000, 0x8000),  # minus zero
    ],
)
def test_bfloat16_is_rounded_half_to_even(tmp_path: Path, bits: int, expected: int):
    rows = np.array([[bits]], "<u4").view("<f4")
    values = quantised(model(tmp_path / "model.bin", with_weight(Kind.FLOAT32, rows)), "bfloat16")
    assert values[WEIGHT].kind is Kind.BFLOAT16
    assert values[WEIGHT].array == [[expected]]


def test_bfloat16_widens_to_the_same_numbers(tmp_path: Path):
    bits = np.array([[0x3F80, 0xC040]], "<u2")
    source = model(tmp_path / "model.bin", with_weight(Kind.BFLOAT16, bits))
    np.testing.assert_array_equal(quantised(source, "float32")[WEIGHT].array, [[1.0, -3.0]])


def test_float16_widens_and_narrows_to_the_same_file(source: Path):
    before = source.read_bytes()
    quantise(source, source, "float32", progress=False)
    assert source.read_bytes() != before
    quantise(source, source, "float16", progress=False)
    assert source.read_bytes() == before


def test_the_bar_goes_to_the_end(source: Path, capsys: pytest.CaptureFixture[str]):
    quantise(source, source, "int8", progress=True)
    assert "model.bin as int8: 100%" in capsys.readouterr().err


def test_without_progress_nothing_is_printed(source: Path, capsys: pytest.CaptureFixture[str]):
    quantise(source, source, "int8", progress=False)
    assert capsys.readouterr() == ("", "")


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path):
    rows = np.ones((512, 512), "<f2")
    layers = [Values(f"encoder/layer_{n}/weight", Kind.FLOAT16, rows) for n in range(40)]
    source = model(tmp_path / "model.bin", [*layers, *TENSORS])
    tracemalloc.start()
    try:
        quantise(source, source, "int8", progress=False)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * rows.nbytes < sum(layer.array.nbytes for layer in layers) / 6
