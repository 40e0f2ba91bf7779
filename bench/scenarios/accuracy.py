"""Words, times and segments of the five long files, language given, `base` in int8, beam 5.

Each run is of another order of the recordings: where a window happens to end moves the word error
rate of `transcribe()` by half a point and more, and one order says little about two systems. Shown
are the medians over the orders; what is compared is compared order by order. Rows of commits before
93e70b3 are of one order, again and again.

WER is the word error rate after Whisper's normaliser. The texts of the Spanish and French
recordings differ from what is said in places: compare systems on them, not languages. Starts and
ends are those of utterances, judged where their outer words were recognised. A segment is readable
if it lasts at most 7 s and has at most 84 characters, and closed if it ends with a sentence or
where a voice ends; the gap is the longest pause between two words of one segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median_low
from typing import Any

from bench import ours
from bench.measure import Result, interleaved
from bench.peers import BATCHED, SEQUENTIAL
from bench.rows import SEED, Row
from bench.score import Cue, normaliser, shape, times, word_errors
from bench.speech import VOICES, LongFile, long_file
from bench.table import Column, Goal, Plot

TITLE = "Accuracy"
COLUMNS = (
    Column("wer", "WER", ".4f"),
    Column("starts_near", "starts within 0.2 s", ".1%"),
    Column("ends_near", "ends within 0.2 s", ".1%"),
    Column("segments", "segments", "d"),
    Column("readable", "readable", ".1%"),
    Column("longest_s", "longest s", ".1f"),
    Column("largest_gap_s", "largest gap s", ".2f"),
    Column("closed", "closed", ".1%"),
)
PEERS = (SEQUENTIAL, BATCHED)
SHAPED = ("en", "it", "ru")
GOALS = (
    *(
        Goal(f"WER above `transcribe()`'s, {one}", f"Sotto, {one}", "wer_above", None, most, ".4f")
        for one, most in (("en", -0.004), ("es", 0.015), ("fr", 0), ("it", 0), ("ru", 0))
    ),
    Goal("starts within 0.2 s, en", "Sotto, en", "starts_near", least=0.97, form=".1%"),
    Goal("ends within 0.2 s, en", "Sotto, en", "ends_near", least=0.97, form=".1%"),
    *(
        goal
        for one in SHAPED
        for goal in (
            Goal(f"readable, {one}", f"Sotto, {one}", "readable", least=0.98, form=".1%"),
            Goal(f"longest segment, s, {one}", f"Sotto, {one}", "longest_s", most=15, form=".0f"),
            Goal(f"gap in a segment, s, {one}", f"Sotto, {one}", "largest_gap_s", most=0.99),
            Goal(f"closed, {one}", f"Sotto, {one}", "closed", least=0.9, form=".1%"),
        )
    ),
)
PLOTS = (
    Plot("accuracy-words", "wer", "word error rate", group="language"),
    Plot("accuracy-starts", "starts_near", "utterance starts within 0.2 s", group="language"),
    Plot("accuracy-ends", "ends_near", "utterance ends within 0.2 s", group="language"),
)


def run(repeats: int) -> Iterator[Row]:
    """Each language in `repeats` orders of its recordings."""
    peers = {peer.name: peer for peer in PEERS}
    for language in VOICES:
        options = {"language": language, "word_timestamps": True}
        orders = range(SEED, SEED + repeats)
        scored = [_in_order(language, order, options) for order in orders]
        for name in scored[0]:
            scores = [systems[name] for systems in scored]
            beside = [systems[SEQUENTIAL.name] for systems in scored]
            above = [one["wer"] - other["wer"] for one, other in zip(scores, beside, strict=True)]
            values = {
                "language": language,
                "system": name,
                **{value: median_low(score[value] for score in scores) for value in scores[0]},
                "wer_above": round(median_low(above), 4),
                "wers": [score["wer"] for score in scores],
                "orders": list(orders),
            }
            settings = {**options, **peers[name].settings()} if name in peers else options
            yield Row("accuracy", f"{name}, {language}", values, settings)


def _in_order(language: str, order: int, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of every system on the same order of the recordings."""
    recorded = long_file(language, order)
    paths = [str(recorded.path)]
    tasks = {"Sotto": ours.task(paths, **options)}
    tasks |= {peer.name: peer.task(paths, **options) for peer in PEERS}
    ends_s = ours.voice_ends_s(recorded.path)
    return {
        name: _score(result, recorded, language, ends_s)
        for name, (result,) in interleaved(tasks, 1).items()
    }


def _score(
    result: Result, recorded: LongFile, language: str, voice_ends_s: Sequence[float]
) -> dict[str, Any]:
    cues = [Cue(**cue) for cue in result.value[0]]
    normalise = normaliser(language)
    return {
        "wer": round(word_errors(cues, recorded.utterances, normalise), 4),
        **times(cues, recorded.utterances, normalise),
        **shape(cues, voice_ends_s),
    }
