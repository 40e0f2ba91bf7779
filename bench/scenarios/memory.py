"""The most memory that a run holds, its decoder's included, for files of 10 min, 1 h and 3 h (mp3).
Each is run once, and faster-whisper is left out at 3 h.

*Front end*: Sotto's whole pipeline with an engine that has no weights; *base*: with the real one,
whose peak is a window encoded on each core, more where one of many words is searched beside it: the
longer the file, the likelier that they meet. The transcript itself takes some MB an hour.
faster-whisper is stopped at its first segment, by when it has prepared the whole file; what it
needs beyond that is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench import ours
from bench.measure import Result, Task, measured
from bench.peers import BATCHED, SEQUENTIAL
from bench.rows import Row
from bench.speech import mp3
from bench.table import Column, Goal, Plot

TITLE = "Memory"
COLUMNS = (
    Column("minutes", "minutes", "d"),
    Column("peak_mb", "peak MB", ".0f"),
    Column("grown_mb", "more than for 10 min", ".0f"),
)
FRONT, REAL = "Sotto, front end", "Sotto, base"
GOALS = tuple(
    Goal(f"MB more for 3 h than for 10 min, {name}", f"{name}, 180 min", "grown_mb", most=20)
    for name in (FRONT, REAL)
)
PLOTS = (Plot("memory", "peak_mb", "peak MB", along="minutes", along_label="minutes of audio"),)
SHORT, HOUR, LONG = 10, 60, 180


def run(_repeats: int) -> Iterator[Row]:
    """Each once: three hours take minutes. What base peaks at moves by some ten MB between runs."""
    for name, tasks in (
        (FRONT, {minutes: _front(minutes) for minutes in (SHORT, HOUR, LONG)}),
        (REAL, {minutes: _real(minutes) for minutes in (SHORT, HOUR, LONG)}),
        (SEQUENTIAL.name, {minutes: _eager(minutes, False) for minutes in (SHORT, HOUR)}),
        (BATCHED.name, {minutes: _eager(minutes, True) for minutes in (SHORT, HOUR)}),
    ):
        yield from _rows(name, tasks)


def _rows(name: str, tasks: Mapping[int, Task]) -> Iterator[Row]:
    least: Result | None = None
    for minutes, task in tasks.items():
        result = measured(task)
        least = least or result
        values = {
            "system": name,
            "minutes": minutes,
            "peak_mb": round(result.peak_mb, 1),
            "grown_mb": round(result.peak_mb - least.peak_mb, 1),
        }
        print(f"  {name}, {minutes} min: {result.peak_mb:.0f} MB", flush=True)
        yield Row("memory", f"{name}, {minutes} min", values, _settings(task))


def _settings(task: Task) -> dict[str, Any]:
    """All that the task was given but where its files lie."""
    return {name: value for name, value in task.options.items() if not name.startswith("path")}


def _path(minutes: int) -> str:
    return str(mp3(minutes))


def _front(minutes: int) -> Task:
    return Task("bench.ours:all_but_engine", {"paths": [_path(minutes)]}, ours.ENVIRON)


def _real(minutes: int) -> Task:
    return ours.task([_path(minutes)], language="en")


def _eager(minutes: int, batched: bool) -> Task:
    peer = BATCHED if batched else SEQUENTIAL
    options = {**peer.options, "language": "en"}
    call = {"path": _path(minutes), "options": options, **peer.settings()}
    return Task("bench.peers:until_first_segment", call)
