"""Samples in, the bytes of a sound file out."""

from __future__ import annotations

import io
import wave
from fractions import Fraction

import av
import numpy as np

from sotto.audio.pcm import RATE, Pcm, PcmBlocks


def wav(pcm: np.ndarray) -> bytes:
    """16 kHz 16-bit; `pcm` in [-1, 1], mono or (samples, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(pcm.shape[1] if pcm.ndim > 1 else 1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((pcm * 32767).astype("<i2").tobytes())
    return file.getvalue()


def broken_off(clip: bytes) -> bytes:
    """A mono Ogg Opus clip that goes on in stereo, which no demuxer follows."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=48_000, layout="stereo")
        for number in range(50):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), "s16", "stereo")
            frame.rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return clip + file.getvalue()


def drained(blocks: PcmBlocks) -> tuple[list[Pcm], str | None]:
    """The blocks, and why there are no more of them."""
    got: list[Pcm] = []
    while True:
        try:
            got.append(next(blocks))
        except StopIteration as end:
            return got, end.value
