"""Samples in, the bytes of a WAV file out."""

from __future__ import annotations

import io
import wave

import numpy as np

from sotto.audio.pcm import RATE


def wav(pcm: np.ndarray) -> bytes:
    """16 kHz 16-bit; `pcm` in [-1, 1], mono or (samples, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(pcm.shape[1] if pcm.ndim > 1 else 1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((pcm * 32767).astype("<i2").tobytes())
    return file.getvalue()
