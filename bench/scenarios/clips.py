"""Sixteen English clips of 3 to 10 s, all there at once, with `base` in int8, beam 5.

Sotto gets them as sixteen jobs, `transcribe()` one after another. Sotto aligns every word, for the
times of its segments; `transcribe()` is called as it is, without VAD and without words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import ours
from bench.measure import costs, interleaved, ratio
from bench.peers import PLAIN
from bench.rows import Row
from bench.speech import clips
from bench.table import Column, Goal, Plot

TITLE = "Many short clips"
COLUMNS = (
    Column("wall_s", "wall s", ".2f"),
    Column("cpu_s", "CPU s", ".2f"),
    Column("ratio", "ratio", ".2f"),
    Column("peak_mb", "peak MB", ".0f"),
)
DETECTED, GIVEN = "language not given", "language given"
GOALS = (
    Goal(f"clips, {DETECTED}, times as fast", f"{PLAIN.name}, {DETECTED}", "ratio", least=1.8),
)
PLOTS = (Plot("clips", "wall_s", "seconds for 16 clips", group="language"),)
COUNT = 16
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = ((DETECTED, {}), (GIVEN, {"language": "en"}))


def run(repeats: int) -> Iterator[Row]:
    """Both systems, with the language and without."""
    paths = [str(path) for path in clips(COUNT)]
    for suffix, options in VARIANTS:
        tasks = {"Sotto": ours.task(paths, **options), PLAIN.name: PLAIN.task(paths, **options)}
        results = interleaved(tasks, repeats)
        for name, own in results.items():
            settings = {**options, **(PLAIN.settings() if name == PLAIN.name else {})}
            values = {
                "system": name,
                "language": suffix,
                **costs(own),
                "ratio": ratio(own, results["Sotto"]),
            }
            yield Row("clips", f"{name}, {suffix}", values, settings)
