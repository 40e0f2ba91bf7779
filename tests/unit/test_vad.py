"""Speech spans: faster-whisper's own, found while the audio streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from unittest.mock import patch

import faster_whisper.vad as reference
import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.speech_data import clip

from sotto.audio.pcm import Pcm, Span
from sotto.audio.silero import FRAME
from sotto.audio.vad import Heard, VadOptions, listen, vad_options

OURS = {
    "threshold": 0.5,
    "neg_threshold": None,
    "min_speech_duration_ms": 0,
    "max_speech_duration_s": 30.0,
    "min_silence_duration_ms": 160,
    "speech_pad_ms": 200,
}
OPTION_SETS = {
    "our defaults": OURS,
    "faster-whisper's defaults": {**OURS, "min_silence_duration_ms": 2000, "speech_pad_ms": 400},
    "no padding": {**OURS, "speech_pad_ms": 0},
    "eager": {**OURS, "threshold": 0.2, "min_silence_duration_ms": 0},
    "strict": {**OURS, "threshold": 0.85, "neg_threshold": 0.7, "min_speech_duration_ms": 1000},
    "cut often": {**OURS, "max_speech_duration_s": 2.0, "min_silence_duration_ms": 2000},
}
BLOCK = 512 * 256


def heard(
    audio: Pcm, options: dict[str, float | None], block: int = BLOCK, scored: Pcm | None = None
) -> list[Heard]:
    """Listen to `audio` in blocks; `scored` are the frames' probabilities, else Silero's."""
    blocks = (audio[at : at + block] for at in range(0, len(audio), block))
    score = None if scored is None else scripted(scored)
    return list(listen(blocks, vad_options(**options), score))


def scripted(probabilities: Pcm):
    """A score that gives out `probabilities` in turn, one a frame."""
    left = iter(probabilities)
    return lambda pcm: np.array([next(left) for _ in range(len(pcm) // FRAME)], np.float32)


def padded(blocks: Sequence[Heard]) -> list[tuple[int, int]]:
    return [tuple(speech.padded) for block in blocks for speech in block.speeches]


def expected(
    audio: Pcm, options: dict[str, float | None], scored: Pcm | None = None
) -> list[tuple[int, int]]:
    """What faster-whisper hears in the whole audio."""
    model = reference.get_vad_model() if scored is None else lambda _: scored
    with patch.object(reference, "get_vad_model", lambda: model):
        found = reference.get_speech_timestamps(audio, reference.VadOptions(**options))
    return [(span["start"], span["end"]) for span in found]


@cache
def speech(name: str) -> Pcm:
    return decode_audio(str(clip(name).path))


@pytest.mark.parametrize("options", OPTION_SETS.values(), ids=OPTION_SETS)
@pytest.mark.parametrize("name", ["en-long", "ru-long"])
def test_spans_of_real_speech_are_those_of_faster_whisper(name: str, options):
    found = padded(heard(speech(name), options))
    assert found == expected(speech(name), options)
    assert found


@pytest.mark.parametrize("frames", [1, 3, 7, 255, 100_001])
def test_the_size_of_the_blocks_does_not_change_the_spans(frames: int):
    found = padded(heard(speech("es-busy"), OURS, FRAME * frames))
    assert found == expected(speech("es-busy"), OURS)


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513, 1024, 16_000, 512 * 300, 512 * 300 + 500])
def test_audio_may_end_anywhere(samples: int):
    audio = speech("en-busy")[2000 : 2000 + samples]
    for options in OPTION_SETS.values():
        assert padded(heard(audio, options)) == expected(audio, options)


@pytest.mark.parametrize("samples", [0, 1, 512, 512 * 3, BLOCK, BLOCK + 1])
def test_a_voice_to_the_last_sample_is_kept_whole(samples: int):
    audio = np.zeros(samples, np.float32)
    scored = np.ones(samples // FRAME + 1, np.float32)
    assert padded(heard(audio, OURS, scored=scored)) == ([(0, samples)] if samples else [])


def test_no_audio_at_all_is_heard_as_one_empty_last_block():
    (only,) = heard(np.zeros(0, np.float32), OURS)
    assert (len(only.pcm), only.speeches, only.settled, only.last) == (0, (), 0, True)


def test_all_pcm_is_passed_on_and_only_the_end_of_the_file_is_marked():
    blocks = heard(speech("en-busy"), OURS, FRAME * 7)
    assert np.array_equal(np.concatenate([block.pcm for block in blocks]), speech("en-busy"))
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]


def test_speech_is_known_soon_after_its_pause_and_not_only_at_the_end():
    blocks = heard(speech("en-long"), OURS, FRAME * 16)
    heard_s = 0.0
    delays_s = []
    for block in blocks:
        heard_s += len(block.pcm) / 16_000
        delays_s += [heard_s - found.voice.end / 16_000 for found in block.speeches]
    assert np.median(delays_s) < 2


def test_in_silence_everything_but_the_padding_is_settled_at_once():
    audio = np.zeros(BLOCK * 3, np.float32)
    scored = np.zeros(BLOCK * 3 // FRAME + 1, np.float32)
    settled = [block.settled for block in heard(audio, OURS, scored=scored)]
    assert settled == [BLOCK - 3200, 2 * BLOCK - 3200, 3 * BLOCK - 3200, 3 * BLOCK]


def test_a_voice_is_where_somebody_speaks_and_its_padding_lies_around_it():
    scored = np.array([0] * 50 + [1] * 20 + [0] * 50, np.float32)
    (found,) = [
        speech
        for block in heard(np.zeros(119 * FRAME + 9, np.float32), OURS, scored=scored)
        for speech in block.speeches
    ]
    assert found.voice == Span(50 * FRAME, 70 * FRAME)
    assert found.padded == Span(50 * FRAME - 3200, 70 * FRAME + 3200)


def test_options_are_counted_in_samples():
    assert vad_options(
        threshold=0.5,
        neg_threshold=None,
        min_speech_duration_ms=250,
        max_speech_duration_s=30,
        min_silence_duration_ms=160,
        speech_pad_ms=200,
    ) == VadOptions(
        threshold=0.5,
        neg_threshold=0.35,
        min_speech=4000,
        max_speech=480_000 - 512 - 6400,
        min_silence=2560,
        speech_pad=3200,
    )


def test_the_negative_threshold_never_falls_to_zero():
    assert vad_options(**{**OURS, "threshold": 0.1}).neg_threshold == 0.01


# Sixty-fourths are exact in both float widths, so ties are the same ties for both.
levels = st.integers(0, 64).map(lambda step: step / 64)
runs = st.lists(st.tuples(levels, st.integers(1, 40)), min_size=1, max_size=40)


@st.composite
def scenes(draw: st.DrawFn):
    """Probabilities, the samples they are of, options, and the frames in a block."""
    scored = np.concatenate([np.full(n, level, np.float32) for level, n in draw(runs)])
    samples = (len(scored) - 1) * FRAME + draw(st.sampled_from([0, 1, 10, 300, 511]))
    options = {
        "threshold": draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
        "neg_threshold": draw(st.none() | levels),
        "min_speech_duration_ms": draw(st.sampled_from([0, 32, 250, 1000])),
        "max_speech_duration_s": draw(st.sampled_from([1.0, 2.0, 5.0, 30.0])),
        "min_silence_duration_ms": draw(st.sampled_from([0, 1, 33, 98, 160, 500, 2000])),
        "speech_pad_ms": draw(st.sampled_from([0, 1, 5, 16, 30, 200, 400])),
    }
    return np.zeros(samples, np.float32), scored, options, draw(st.integers(1, 80))


@settings(deadline=None, max_examples=150)
@given(scenes())
def test_any_probabilities_give_the_spans_of_faster_whisper(scene):
    audio, scored, options, frames = scene
    found = padded(heard(audio, options, FRAME * frames, scored))
    assert found == expected(audio, options, scored)


@settings(deadline=None, max_examples=80)
@given(scenes())
def test_no_speech_starts_before_what_was_settled(scene):
    audio, scored, options, frames = scene
    blocks = heard(audio, options, FRAME * frames, scored)
    settled = 0
    for block in blocks:
        assert all(speech.padded.start >= settled for speech in block.speeches)
        assert block.settled >= settled
        settled = block.settled
    assert settled == len(audio)


@settings(deadline=None, max_examples=80)
@given(scenes())
def test_speeches_are_in_order_hold_their_voice_and_stay_in_the_file(scene):
    audio, scored, options, frames = scene
    at = 0
    for block in heard(audio, options, FRAME * frames, scored):
        for found in block.speeches:
            assert at <= found.padded.start <= found.voice.start < found.voice.end
            assert found.voice.end <= found.padded.end <= len(audio)
            assert len(audio[slice(*found.padded)]) <= 30 * 16_000
            at = found.padded.end
