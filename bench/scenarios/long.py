"""Twenty-six minutes of English with `base` in int8, the language given.

Sotto beside three ways to call faster-whisper on the same weights: the call that
worker-faster_whisper makes, `transcribe()` with its VAD, and `BatchedInferencePipeline`. All of
them give word times unless the row says otherwise; `ratio` is how many times Sotto's wall time the
row took.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from bench import ours
from bench.measure import Result, costs, interleaved, ratio
from bench.peers import BATCHED, PEERS, SEQUENTIAL, WORKER
from bench.rows import Row
from bench.score import Cue, normaliser, word_errors
from bench.speech import LongFile, long_file
from bench.table import Column, Goal, Plot

TITLE = "A long file"
COLUMNS = (
    Column("wall_s", "wall s"),
    Column("cpu_s", "CPU s"),
    Column("ratio", "ratio", ".2f"),
    Column("times_real", "× real time", ".0f"),
    Column("wer", "WER", ".4f"),
    Column("peak_mb", "peak MB", ".0f"),
)
GOALS = (
    Goal("times as fast as worker-faster_whisper's call", WORKER.name, "ratio", least=2.7),
    Goal("times as fast as `transcribe()` with VAD", SEQUENTIAL.name, "ratio", least=2.4),
    Goal("times as fast as `BatchedInferencePipeline`", BATCHED.name, "ratio", least=1.2),
)
PLOTS = (Plot("long", "wall_s", "seconds for 26 minutes of English"),)
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {"word_timestamps": True}),
    (", greedy", {"word_timestamps": True, "beam_size": 1}),
    (", no words", {"word_timestamps": False}),
)


def run(repeats: int) -> Iterator[Row]:
    """The first variant `repeats` times; the others once, beside the fastest peer alone."""
    english = long_file("en")
    paths = [str(english.path)]
    for number, (suffix, options) in enumerate(VARIANTS):
        tasks = {"Sotto": ours.task(paths, language="en", **options)}
        peers = (BATCHED,) if number else PEERS
        tasks |= {peer.name: peer.task(paths, language="en", **options) for peer in peers}
        results = interleaved(tasks, 1 if number else repeats)
        settings = {peer.name: peer.settings() for peer in peers}
        for name, own in results.items():
            values = {
                **costs(own),
                "ratio": ratio(own, results["Sotto"]),
                **_worth(own, english),
            }
            yield Row("long", name + suffix, values, {**options, **settings.get(name, {})})


def _worth(results: Sequence[Result], english: LongFile) -> dict[str, Any]:
    """Audio seconds a second, and word errors."""
    said, normalise = english.utterances, normaliser("en")
    wers = [word_errors([Cue(**cue) for cue in run.value[0]], said, normalise) for run in results]
    walls = costs(results)["wall_s"]
    return {
        "wer": round(median(wers), 4),
        "times_real": round(english.utterances[-1].end_s / walls, 2),
    }
