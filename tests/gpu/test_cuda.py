"""The engine on a GPU: what a CPU cannot show. Skipped where CTranslate2 sees no CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
from bench.weights import FORCED, TURBO, make
from faster_whisper.audio import decode_audio
from tests.gate import DECODING, ask
from tests.model.conftest import running
from tests.speech_data import clip

from sotto.audio.features import log_mel
from sotto.engine import whisper
from sotto.engine.base import Ask, Decoded, Thresholds
from sotto.engine.devices import CPU, CUDA
from sotto.engine.whisper import Whisper

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not whisper.cuda_devices(), reason="no CUDA device"),
]

NAMES = ("en-dashwood", "en-busy", "es-busy", "ru-busy", "fr-connection", "it-mailbox-full")
NEVER_BELIEVED = Thresholds(compression_ratio=0.0, logprob=99.0, no_speech=1.0)
WITHIN = 0.01
"""Word errors by which CUDA may differ from what it is compared with."""
TOKENS = 100


@pytest.fixture(scope="module")
def cuda(weights: Path) -> Iterator[Whisper]:
    engine = whisper.load("base", weights / "base", "cuda", "float16", CUDA)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def windows() -> list[Ask]:
    return [
        replace(
            ask(0, temperatures=(0.0,)),
            features=log_mel(decode_audio(str(clip(name).path)), 80),
            language=clip(name).language,
        )
        for name in NAMES
    ]


def texts(results: list[Decoded | Ask]) -> list[str]:
    assert all(isinstance(result, Decoded) for result in results)
    return [result.draft.text for result in results]


def test_windows_give_the_same_words_together_as_alone(cuda: Whisper, windows: list[Ask]):
    alone = [text for window in windows for text in texts(cuda.decode([window]))]
    assert jiwer.wer(alone, texts(cuda.decode(windows))) <= WITHIN


def test_the_words_are_those_of_the_cpu(cuda: Whisper, windows: list[Ask], weights: Path):
    cpu = whisper.load("base", weights / "base", "cpu", "float32", CPU)
    try:
        expected = texts(cpu.decode(windows))
    finally:
        cpu.close()
    assert jiwer.wer(expected, texts(cuda.decode(windows))) <= WITHIN


def test_words_have_times_in_order_inside_the_window(cuda: Whisper, windows: list[Ask]):
    for window, result in zip(windows, cuda.decode(windows), strict=True):
        times = [time for word in result.words for time in (word.start_s, word.end_s)]
        assert times
        assert times == sorted(times)
        assert times[-1] <= window.features.shape[1] / 100 + 0.1


def test_a_window_that_is_tried_again_is_encoded_anew(cuda: Whisper, windows: list[Ask]):
    doubted = replace(windows[1], temperatures=(0.0, 0.0), thresholds=NEVER_BELIEVED)
    again, kept = cuda.decode([doubted, windows[0]])
    assert isinstance(again, Ask)
    assert again.encoded is None
    assert isinstance(kept, Decoded)
    (second,) = cuda.decode([again])
    assert jiwer.wer(again.drafts[0].text, second.draft.text) <= WITHIN


def test_only_the_rows_that_are_kept_are_translated_and_aligned(cuda: Whisper, windows: list[Ask]):
    translated = [replace(window, translate=True) for window in windows[2:4]]
    doubted = replace(translated[0], temperatures=(0.0, 0.0), thresholds=NEVER_BELIEVED)
    again, kept = cuda.decode([doubted, translated[1]])
    assert isinstance(again, Ask)
    (alone,) = cuda.decode([translated[1]])
    assert jiwer.wer(alone.translation, kept.translation) <= WITHIN
    assert [word.text for word in kept.words] == [word.text for word in alone.words]


def test_a_language_that_is_not_given_is_detected_on_the_same_encoding(
    cuda: Whisper, windows: list[Ask]
):
    results = cuda.decode([replace(window, language=None) for window in windows])
    assert [result.language for result in results] == [clip(name).language for name in NAMES]


def test_jobs_at_once_are_understood(cuda: Whisper, tmp_path: Path):
    with running(cuda, tmp_path) as transcribe_all:
        made = transcribe_all(*[clip(name) for name in NAMES] * 4)
    for name, transcript in zip(NAMES * 4, made, strict=True):
        said = "".join(segment.text for segment in transcript.segments)
        plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip()])
        assert jiwer.wer(plain(clip(name).text), plain(said)) <= 0.1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_batch_of_large_v3_turbos_shape_is_decoded(
    weights: Path, tmp_path: Path, workers: int
):
    make(tmp_path, TURBO, weights / "base")
    batching = replace(CUDA, threads=workers)
    engine = whisper.load("random", tmp_path, "cuda", "float16", batching)
    try:
        rng = np.random.default_rng(7)
        window = replace(
            ask(0, temperatures=(0.0,)),
            features=rng.standard_normal((TURBO.mels, 3000), np.float32),
            decoding=replace(
                DECODING,
                beam_size=1,
                max_new_tokens=TOKENS,
                suppress_tokens=tuple(FORCED["suppress_tokens"]),
            ),
            thresholds=Thresholds(1000.0, -1000.0, 1.0),
            language="en",
        )
        results = engine.decode([window] * batching.decode)
    finally:
        engine.close()
    assert [len(result.draft.tokens) for result in results] == [TOKENS] * batching.decode
