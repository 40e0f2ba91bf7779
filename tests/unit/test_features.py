"""Log-mel spectrograms: faster-whisper's own, each window by itself."""

from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from faster_whisper.feature_extractor import FeatureExtractor
from tests.speech_data import clip

from sotto.audio.features import log_mel

WINDOW = 480_000


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [160, 399, 400, 16_000, 16_001, WINDOW - 1, WINDOW])
def test_features_are_those_of_faster_whisper(samples: int, mels: int):
    expected = FeatureExtractor(feature_size=mels)(noise(samples))[:, :-1]
    assert np.array_equal(log_mel(noise(samples), mels), expected)


def test_features_of_real_speech_are_those_of_faster_whisper():
    pcm = decode_audio(str(clip("en-dashwood").path))
    assert np.array_equal(log_mel(pcm, 80), FeatureExtractor()(pcm)[:, :-1])


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [1, 100, 159, 160, 399, 400, 16_000, 16_159, WINDOW])
def test_there_is_one_frame_for_each_whole_hundredth_of_a_second(samples: int, mels: int):
    features = log_mel(noise(samples), mels)
    assert features.shape == (mels, samples // 160)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_a_constant_has_finite_features(value: float):
    assert np.isfinite(log_mel(np.full(16_000, value, np.float32), 80)).all()


def test_a_window_is_measured_by_its_own_loudest_moment():
    quiet = noise(32_000) * 1e-3
    alone = log_mel(quiet, 80)
    beside_loud = log_mel(np.concatenate([quiet, noise(32_000)]), 80)
    assert np.ptp(alone) > 0.5
    assert np.ptp(beside_loud[:, :150]) < 0.5 * np.ptp(alone)
    assert np.ptp(beside_loud) <= 2 + 1e-6


def test_the_pcm_is_not_changed():
    pcm = noise(1000)
    log_mel(pcm, 80)
    assert np.array_equal(pcm, noise(1000))
