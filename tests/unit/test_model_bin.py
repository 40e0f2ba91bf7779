"""model.bin: what is read is whole, what is written is read, what is damaged is told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from builder.model_bin import Kind, Layout, ModelBinError, Values, read, write
from hypothesis import given
from hypothesis import strategies as st

REVISION = 3
TENSORS = (
    Values("decoder/embeddings/weight", Kind.FLOAT16, np.arange(6, dtype="<f2").reshape(2, 3)),
    Values("decoder/layer_norm/beta", Kind.FLOAT32, np.array([0.5, -2], "<f4")),
    Values("decoder/layer_norm/gamma", Kind.BFLOAT16, np.array([0x3F80, 0x8000], "<u2")),
    Values("decoder/linear/weight", Kind.INT8, np.array([[-127, 127]], "i1")),
    Values("decoder/num_heads", Kind.INT16, np.array(6, "<i2")),
    Values("decoder/start", Kind.INT32, np.array([-1, 2**31 - 1], "<i4")),
)
ALIASES = (("decoder/projection/weight", "decoder/embeddings/weight"),)


def string(text: bytes) -> bytes:
    return struct.pack("<H", len(text) + 1) + text + b"\0"


HEAD = struct.pack("<I", 6) + string(b"WhisperSpec") + struct.pack("<I", REVISION)


def entry(
    name: bytes,
    *,
    shape: tuple[int, ...] = (2,),
    kind: int = 1,
    size: int = 2,
    values: bytes = b"ab",
) -> bytes:
    dimensions = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return string(name) + dimensions + struct.pack("<BI", kind, size) + values


NO_ALIASES = struct.pack("<I", 0)


def whole(*entries: bytes, count: int | None = None, aliases: bytes = NO_ALIASES) -> bytes:
    listed = len(entries) if count is None else count
    return HEAD + struct.pack("<I", listed) + b"".join(entries) + aliases


def saved(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    write(path, REVISION, TENSORS, ALIASES)
    return path


# What is no model, or a damaged one.


def test_a_file_cut_short_anywhere_is_told(file: Path):
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(ModelBinError, match=f"^model.bin: is cut short.* {length} bytes$"):
            read(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(ModelBinError, match=r"^model\.bin: cannot be read: No such file"):
        read(tmp_path / "model.bin")


def test_a_folder_is_told(tmp_path: Path):
    with pytest.raises(ModelBinError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" * 20, "is no model.bin of format version 6: it begins with 67324752"),
        (struct.pack("<I", 5) + HEAD[4:], "format version 6: it begins with 5"),
        (struct.pack("<I", 6) + string(b"TransformerSpec"), "of the kind 'TransformerSpec'"),
        (struct.pack("<IH", 6, 0), "no name ends at byte 6"),
        (struct.pack("<IH", 6, 2) + b"no", "no name ends at byte 8"),
        (struct.pack("<I", 6) + string(b"\xff"), "no name ends at byte 8"),
        (whole(count=2**32 - 1), "has 4294967295 variables; at most 100000 are read"),
        (whole(count=100_000, aliases=b""), "is cut short"),
        (whole(entry(b"a", shape=(2**32 - 1,) * 255)), "'a' has 2 bytes, which does not fit"),
        (whole(entry(b"a", shape=(3,))), "'a' has 2 bytes, which does not fit"),
        (whole(entry(b"a", shape=(0,), size=0, values=b"")), "'a' has 0 bytes"),
        (whole(entry(b"a", size=2**32 - 1)), "'a' has 4294967295 bytes"),
        (whole(entry(b"a", shape=(2**31,), size=2**31)), "is cut short"),
        (whole(entry(b"a", kind=6)), "'a' has numbers of the unknown type 6"),
        (whole(entry(b"a"), entry(b"a")), "has two variables of one name"),
        (whole(entry(b"a")) + b"more", "has 4 bytes too many at its end"),
        (
            whole(entry(b"a"), aliases=struct.pack("<I", 1) + string(b"b") + string(b"c")),
            "has an alias of 'c', which is not in it",
        ),
        (
            whole(entry(b"a"), aliases=struct.pack("<I", 1) + string(b"a") + string(b"a")),
            "has two variables of one name",
        ),
        (whole(entry(b"a"), aliases=struct.pack("<I", 2**32 - 1)), "is cut short"),
    ],
)
def test_a_foreign_or_damaged_file_is_told_in_one_line(tmp_path: Path, content: bytes, reason: str):
    with pytest.raises(ModelBinError) as told:
        read(saved(tmp_path, content))
    assert str(told.value).startswith("model.bin: ")
    assert reason in str(told.value)
    assert "\n" not in str(told.value)


@given(data=st.data())
def test_whatever_was_changed_in_a_file_it_reads_or_is_told(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    path = tmp_path_factory.mktemp("changed") / "model.bin"
    write(path, REVISION, TENSORS, ALIASES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        layout = read(path)
    except ModelBinError:
        return
    assert sum(tensor.size_bytes for tensor in layout.tensors) < len(content)


# What is written is read.


def test_what_was_written_is_read(file: Path):
    layout = read(file)
    assert (layout.revision, layout.aliases) == (REVISION, ALIASES)
    for tensor, written in zip(layout.tensors, TENSORS, strict=True):
        values = layout.values(tensor)
        assert (values.name, values.kind) == (written.name, written.kind)
        assert (tensor.shape, tensor.size_bytes) == (written.array.shape, written.array.nbytes)
        np.testing.assert_array_equal(values.array, written.array)
        assert values.array.dtype == written.array.dtype


def test_a_copy_has_the_same_bytes(file: Path, tmp_path: Path):
    layout = read(file)
    copied(layout, tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == file.read_bytes()


def test_a_file_is_written_as_the_format_wants(tmp_path: Path):
    path = tmp_path / "model.bin"
    write(path, REVISION, [Values("a", Kind.INT8, np.array([97, 98], "i1"))], [("b", "a")])
    alias = struct.pack("<I", 1) + string(b"b") + string(b"a")
    assert path.read_bytes() == whole(entry(b"a"), aliases=alias)


def copied(layout: Layout, path: Path) -> None:
    values = (layout.values(tensor) for tensor in layout.tensors)
    write(path, layout.revision, values, layout.aliases)


@pytest.mark.model
@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_copy_of_a_real_model_has_the_same_bytes(weights: Path, tmp_path: Path, name: str):
    source = weights / name / "model.bin"
    copied(read(source), tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()
