"""Silero's network in two halves against the whole of it in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from faster_whisper.audio import decode_audio
from faster_whisper.utils import get_assets_path
from faster_whisper.vad import get_vad_model
from tests.speech_data import clip

from sotto.audio.onnx_file import behind, weights
from sotto.audio.silero import ENCODED, ENCODED_SHAPE, FRAME, Silero

RNG = np.random.default_rng(7)
SOUNDS = {
    "speech": lambda: decode_audio(str(clip("en-long").path)),
    "silence": lambda: np.zeros(FRAME * 40, np.float32),
    "noise": lambda: RNG.standard_normal(FRAME * 90).astype(np.float32) / 10,
    "a square wave at full scale": lambda: np.sign(np.sin(np.arange(FRAME * 40) / 9)).astype("f4"),
    "far over full scale": lambda: RNG.standard_normal(FRAME * 40).astype(np.float32) * 1e4,
}


@pytest.mark.parametrize("frames", [1, 2, 256, 100_001])
@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS)
def test_the_probabilities_are_those_of_the_whole_network(sound, frames: int):
    pcm = sound()
    pcm = pcm[: len(pcm) // FRAME * FRAME][: FRAME * 500]
    silero = Silero()
    block = FRAME * frames
    found = np.concatenate([silero(pcm[at : at + block]) for at in range(0, len(pcm), block)])
    # faster-whisper silences the end of the last frame: a further one takes that.
    expected = get_vad_model()(np.pad(pcm, (0, FRAME))).reshape(-1)[:-1]
    assert np.abs(found - expected).max() < 1e-4


def test_two_streams_do_not_hear_each_other():
    pcm = RNG.standard_normal(FRAME * 8).astype(np.float32)
    alone, first, second = Silero(), Silero(), Silero()
    expected = np.concatenate([alone(pcm[: FRAME * 4]), alone(pcm[FRAME * 4 :])])
    begun = first(pcm[: FRAME * 4])
    second(-pcm)
    assert np.array_equal(np.concatenate([begun, first(pcm[FRAME * 4 :])]), expected)


def test_half_a_network_is_one_that_onnxruntime_takes(silero_file: bytes):
    session = onnxruntime.InferenceSession(behind(silero_file, ENCODED, ENCODED_SHAPE))
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        (ENCODED, list(ENCODED_SHAPE)),
        ("h", [1, 1, 128]),
        ("c", [1, 1, 128]),
    ]
    assert [one.name for one in session.get_outputs()] == ["speech_probs", "hn", "cn"]


def test_weights_have_their_shapes(silero_file: bytes):
    found = weights(silero_file)
    assert found["encoder.conv_layers.0.weight"].shape == (128, 129, 3)
    assert found["encoder.feature_extractor.forward_basis_buffer"].shape == (258, 1, 256)
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.fixture
def silero_file() -> bytes:
    return (Path(get_assets_path()) / "silero_vad_v6.onnx").read_bytes()
