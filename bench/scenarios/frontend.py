"""What comes before the engine: an hour of mp3 (44.1 kHz stereo, 128 kb/s) up to its windows.

Sotto's stages on one thread alone, beside what `transcribe()` with VAD does before its first
window. Then the whole pipeline with an engine that costs nothing: how soon does it get its first
window, and do two files use two cores?
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.measure import Clock, Task, costs, interleaved
from bench.ours import ENVIRON, STAGES, with_engine
from bench.rows import Row
from bench.simulated import Device
from bench.speech import mp3
from bench.table import Column, Goal, Plot

TITLE = "The front end"
COLUMNS = (
    Column("cpu_s", "CPU s", ".2f"),
    Column("wall_s", "wall s", ".2f"),
    Column("first_window_s", "first window after s", ".2f"),
    Column("cores", "cores in use", ".2f"),
    Column("peak_mb", "peak MB", ".0f"),
)
PEER = "faster-whisper's three stages"
ONE, TWO = "Sotto, whole pipeline, one file", "Sotto, whole pipeline, two files at once"
GOALS = (
    Goal("CPU seconds for an hour of mp3", f"Sotto, {STAGES[2]}", "cpu_s", most=9, form=".1f"),
    Goal("seconds until the engine has its first window", ONE, "first_window_s", most=0.3),
    Goal("cores in use by two files", TWO, "cores", least=1.7),
)
PLOTS = (Plot("frontend", "cpu_s", "CPU seconds, each file an hour of mp3"),)


def run(repeats: int) -> Iterator[Row]:
    """The stages, then one file beside two."""
    path = str(mp3(60))
    stages = {
        f"Sotto, {stage}": Task("bench.ours:front_end", {"path": path, "stages": stage}, ENVIRON)
        for stage in STAGES
    }
    stages[PEER] = Task("bench.peers:front_end", {"path": path})
    for stage, own in interleaved(stages, repeats).items():
        yield Row("frontend", stage, costs(own))
    call = "bench.scenarios.frontend:first_window_s"
    files = {
        name: Task(call, {"paths": [path] * count}, ENVIRON) for name, count in ((ONE, 1), (TWO, 2))
    }
    results = interleaved(files, repeats)
    for name, own in results.items():
        values = {
            **costs(own),
            "first_window_s": round(median(run.value for run in own), 3),
            "cores": round(median(run.cpu_s / run.wall_s for run in own), 3),
        }
        yield Row("frontend", name, values)


def first_window_s(clock: Clock, paths: list[str]) -> float:
    """A task: seconds until the engine is called for the first time, the files done to the end."""
    device = Device()
    with_engine(clock, paths, device)
    return device.worked[0][0] - clock.begun_s
