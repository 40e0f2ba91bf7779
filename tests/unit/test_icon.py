"""The picture for RunPod's Hub: the file is the one that the code draws."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from tools.icon import ICON, SIDE, SIGNATURE, picture, png


def pixels_of(file: bytes) -> np.ndarray:
    """The pixels of a PNG of ours: whole colours, one piece of data, rows without a filter."""
    assert file.startswith(SIGNATURE)
    chunks: dict[bytes, bytes] = {}
    place = len(SIGNATURE)
    while place < len(file):
        length, name = struct.unpack_from(">I4s", file, place)
        content = file[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", file, place + 8 + length)
        assert checksum == zlib.crc32(name + content)
        chunks[name] = content
        place += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_a_picture_comes_back_from_its_file() -> None:
    colours = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(pixels_of(png(colours)), colours)


def test_the_file_is_the_one_that_the_code_draws() -> None:
    np.testing.assert_array_equal(pixels_of(ICON.read_bytes()), picture())


def test_it_is_a_square_with_round_corners_and_bars_in_the_middle() -> None:
    drawn = picture()
    assert drawn.shape == (SIDE, SIDE, 3)
    assert tuple(drawn[0, 0]) == (255, 255, 255)
    assert tuple(drawn[0, SIDE // 2]) == tuple(drawn[SIDE // 2, 0]) == (24, 32, 48)
    assert tuple(drawn[SIDE // 2, SIDE // 2]) == (240, 244, 248)
