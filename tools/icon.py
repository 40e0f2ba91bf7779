"""Write the picture that RunPod's Hub shows beside the worker's name, .runpod/icon.png.

    python tools/icon.py

A voice that grows softer, as bars. Invariant: the same picture, to the pixel, on every machine.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ICON = Path(__file__).resolve().parents[1] / ".runpod" / "icon.png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIDE = 256
FINER = 4
"""Points to a pixel, each way: edges are the mean of them."""
GROUND, BAR = (24, 32, 48), (240, 244, 248)
CORNER, WIDTH, STEP = 56, 24, 40
HEIGHTS = (96, 168, 128, 72, 24)
RGB, EIGHT_BITS = 2, 8


def main() -> int:
    """Write the file; the exit status."""
    ICON.write_bytes(png(picture()))
    return 0


def picture() -> NDArray[np.uint8]:
    """The picture, by row, column and colour; what is outside its corners is white."""
    points = (np.arange(SIDE * FINER) + 0.5) / FINER
    x, y = np.meshgrid(points, points)
    middle = SIDE / 2
    colours = np.full((*x.shape, 3), 255.0)
    colours[_rounded(x - middle, y - middle, SIDE, SIDE, CORNER)] = GROUND
    for place, height in enumerate(HEIGHTS):
        across = x - middle - (place - len(HEIGHTS) // 2) * STEP
        colours[_rounded(across, y - middle, WIDTH, height, WIDTH / 2)] = BAR
    pixels = colours.reshape(SIDE, FINER, SIDE, FINER, 3).mean(axis=(1, 3))
    rounded: NDArray[np.uint8] = np.rint(pixels).astype(np.uint8)
    return rounded


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    height, width, _ = pixels.shape
    header = struct.pack(">2I5B", width, height, EIGHT_BITS, RGB, 0, 0, 0)
    # Each row begins with the number of its filter; 0 is none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    data = zlib.compress(rows.tobytes(), 9)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _rounded(
    x: NDArray[np.float64], y: NDArray[np.float64], width: float, height: float, corner: float
) -> NDArray[np.bool_]:
    """The points within a rectangle around 0 whose corners are round."""
    beyond_x = np.maximum(np.abs(x) - (width / 2 - corner), 0)
    beyond_y = np.maximum(np.abs(y) - (height / 2 - corner), 0)
    return np.hypot(beyond_x, beyond_y) <= corner


if __name__ == "__main__":
    main()
