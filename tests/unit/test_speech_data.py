"""The recorded speech is complete, small, and as long as its list says."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest
from tests.speech_data import FOLDER, LANGUAGES, Clip, clip, clips

LARGEST_TOTAL_BYTES = 2_000_000
DOCUMENTS = {"LICENCES.md", "prompts.toml", "speech.json"}
RATE = 16000
QUIET = 0.05
"""Of a clip's peak. The times were taken before the clip was compressed, at 0.03."""


def samples(file: str | IO[bytes]) -> np.ndarray:
    """Decode to 16 kHz mono float32."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(file) as container:
        frames = [
            resampled.to_ndarray().reshape(-1)
            for frame in (*container.decode(audio=0), None)
            for resampled in resampler.resample(frame)
        ]
    return np.concatenate(frames)


each_clip = pytest.mark.parametrize("a_clip", clips(), ids=lambda c: c.path.stem)


def test_every_file_is_listed_and_every_listed_file_is_there():
    listed = {c.path.name for c in clips()}
    assert {path.name for path in FOLDER.iterdir()} == listed | DOCUMENTS


def test_all_files_together_stay_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST_TOTAL_BYTES


@each_clip
def test_a_clip_decodes_to_the_stated_duration(a_clip: Clip):
    assert len(samples(str(a_clip.path))) / RATE == pytest.approx(a_clip.seconds, abs=0.01)


@each_clip
def test_a_clip_says_its_text_in_order_within_its_duration(a_clip: Clip):
    assert a_clip.text == " ".join(u.text for u in a_clip.utterances)
    times = [t for u in a_clip.utterances for t in (u.start_s, u.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= a_clip.seconds


@each_clip
def test_between_its_utterances_a_clip_is_silent(a_clip: Clip):
    sound = np.abs(samples(str(a_clip.path)))
    edges_s = [0.0, *(t for u in a_clip.utterances for t in (u.start_s, u.end_s)), a_clip.seconds]
    for start_s, end_s in zip(edges_s[::2], edges_s[1::2], strict=True):
        pause = sound[round(start_s * RATE) : round(end_s * RATE)]
        # An edge is known to 10 ms, and compression smears a little sound across it.
        inner = pause[RATE // 50 : -RATE // 50]
        assert inner.size == 0 or inner.max() <= QUIET * sound.max()


@each_clip
def test_a_clip_names_its_speaker_licence_and_source(a_clip: Clip):
    licences = (FOLDER / "LICENCES.md").read_text(encoding="utf-8")
    for credit in (a_clip.speaker, a_clip.licence, a_clip.source):
        assert credit
        assert credit in licences


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_short_clips_and_one_of_more_than_a_window(language: str):
    durations_s = [c.seconds for c in clips(language)]
    assert len([s for s in durations_s if 2 <= s <= 8]) >= 3
    assert len([s for s in durations_s if s > 30]) == 1


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_every_other_language_has_clips_with_an_english_translation(language: str):
    assert [c for c in clips(language) if c.english]


def test_no_other_language_is_there():
    assert {c.language for c in clips()} == set(LANGUAGES)


def test_the_test_input_is_the_dashwood_recording():
    job = json.loads((Path(__file__).parents[2] / "test_input.json").read_text(encoding="ascii"))
    assert set(job) == {"input"}
    assert set(job["input"]) == {"audio_base64"}
    audio = base64.b64decode(job["input"]["audio_base64"], validate=True)
    spoken = samples(io.BytesIO(audio))
    reference = samples(str(clip("en-dashwood").path))
    assert len(spoken) == len(reference)
    assert np.corrcoef(spoken, reference)[0, 1] > 0.9
