"""What sound is inside Sotto: float32 mono at 16 kHz, and stretches of it.

Invariant: imports nothing but numpy, so that whoever only speaks of times loads no library.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second."""

WINDOW_S = 30
"""The longest stretch of audio, in seconds, that Whisper's encoder takes."""

Pcm = NDArray[np.float32]
PcmBlocks = Generator[Pcm, None, str | None]
"""A file's sound, block by block; it returns why the file could not be read to its end, if so."""


class Span(NamedTuple):
    """A stretch of audio: [start, end), in samples of the file."""

    start: int
    end: int
