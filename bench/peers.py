"""faster-whisper, called as it is called elsewhere, at the best setting that it has here.

Invariant: peers get the same weights, the same number format and the same files as Sotto; what is
left to choose is tried on three minutes of speech, and the fastest is used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import decode_audio
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.vad import get_speech_timestamps

from bench import speech
from bench.measure import ROOT, Clock, Task, interleaved
from bench.rows import cores

WEIGHTS = ROOT / "weights" / "base"
TRIAL_S = 180
TRIAL_TURNS = 2
BATCHES = (8, 16)


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """A way to call faster-whisper; `batched` is its BatchedInferencePipeline."""

    name: str
    options: Mapping[str, Any]
    batched: bool = False

    def task(self, paths: Sequence[str], **options: Any) -> Task:
        """Transcribe files one after another, `options` added to or replacing its own."""
        changed = {**self.options, **options}
        call = {"paths": list(paths), "options": changed, **self.settings()}
        return Task("bench.peers:transcribe", call)

    def settings(self) -> dict[str, int]:
        """The fastest of the settings it can have on this machine, called as it is."""
        return _fastest(self)


WORKER = Peer(
    "worker-faster_whisper's call",
    {
        "task": "transcribe",
        "beam_size": 5,
        "best_of": 5,
        "patience": 1,
        "length_penalty": 0,
        "temperature": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        "compression_ratio_threshold": 2.4,
        "log_prob_threshold": -1.0,
        "no_speech_threshold": 0.6,
        "condition_on_previous_text": True,
        "suppress_blank": True,
        "suppress_tokens": [-1],
        "without_timestamps": False,
        "max_initial_timestamp": 1.0,
        "word_timestamps": True,
        "vad_filter": False,
    },
)
SEQUENTIAL = Peer("transcribe(), VAD on", {"vad_filter": True, "word_timestamps": True})
BATCHED = Peer("BatchedInferencePipeline", {"word_timestamps": True}, batched=True)
PLAIN = Peer("transcribe() one after another", {})
PEERS = (WORKER, SEQUENTIAL, BATCHED)


def transcribe(
    clock: Clock, paths: Sequence[str], options: Mapping[str, Any], **settings: Any
) -> list[list[dict[str, Any]]]:
    """A task: the segments of each file, one file after another, the model being loaded."""
    model, call = _loaded(options, **settings)
    with clock:
        found = [list(model.transcribe(path, **call)[0]) for path in paths]
    return [
        [
            {
                "text": segment.text,
                "start_s": segment.start,
                "end_s": segment.end,
                "words": [(word.word, word.start, word.end) for word in segment.words or ()],
            }
            for segment in segments
        ]
        for segments in found
    ]


def until_first_segment(
    clock: Clock, path: str, options: Mapping[str, Any], **settings: Any
) -> None:
    """A task: a file up to its first segment, by when the audio has been prepared whole."""
    model, call = _loaded(options, **settings)
    with clock:
        segments, _ = model.transcribe(path, **call)
        next(iter(segments), None)


def front_end(clock: Clock, path: str) -> int:
    """A task: what `transcribe()` with VAD does before its first window; how many speeches."""
    with clock:
        audio = decode_audio(path)
        spans = get_speech_timestamps(audio)
        speeches = [audio[span["start"] : span["end"]] for span in spans]
        FeatureExtractor()(np.concatenate(speeches))
    return len(spans)


def _loaded(
    options: Mapping[str, Any],
    *,
    cpu_threads: int,
    batch_size: int | None = None,
    weights: str = str(WEIGHTS),
    device: str = "cpu",
    compute_type: str = "int8",
) -> tuple[Any, dict[str, Any]]:
    """The model, and what to call it with."""
    model = WhisperModel(weights, device=device, compute_type=compute_type, cpu_threads=cpu_threads)
    if batch_size is None:
        return model, dict(options)
    return BatchedInferencePipeline(model), {**options, "batch_size": batch_size}


@functools.cache
def _fastest(peer: Peer) -> dict[str, int]:
    choices: list[dict[str, int]] = [{"cpu_threads": threads} for threads in sorted({1, cores()})]
    if peer.batched:
        choices = [{**one, "batch_size": size} for one in choices for size in BATCHES]
    paths = [str(speech.beginning(TRIAL_S))]
    options = {**peer.options, "language": "en"}
    tasks = {
        _named(choice): Task(
            "bench.peers:transcribe", {"paths": paths, "options": options, **choice}
        )
        for choice in choices
    }
    print(f"Finding the best setting of {peer.name}")
    results = interleaved(tasks, TRIAL_TURNS)
    return min(choices, key=lambda choice: min(r.wall_s for r in results[_named(choice)]))


def _named(choice: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in choice.items())
