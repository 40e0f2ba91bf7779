"""A window's PCM in, its log-mel spectrogram out.

Invariant: each window is normalised by its own maximum, as in faster-whisper's batched class and
Hugging Face's feature extractor, so that a window's features do not depend on the rest of the file.
"""

from __future__ import annotations

import functools

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from sotto.audio.pcm import Pcm

LogMel = NDArray[np.float32]


def log_mel(pcm: Pcm, mels: int) -> LogMel:
    """Log-mel spectrogram of at most 30 s: float32, (mels, frames), 100 frames a second.

    Not padded to 30 s: the frames are those of the audio.
    """
    features: LogMel = _extractor(mels)(pcm)[:, :-1]
    return features


@functools.cache
def _extractor(mels: int) -> FeatureExtractor:
    return FeatureExtractor(feature_size=mels)
