"""How busy is a device kept? An engine that only waits, so that its cost is known exactly.

*Cut beforehand*: sixteen jobs of twenty windows, 0.02 s a window, straight into the batcher.
*Whole pipeline*: 0.1 s a window, decoding, VAD and features included. Idle is what a device was not
at work between its first batch and its last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import wait
from statistics import median, median_low
from typing import Any

from bench.measure import Clock, Task, costs, interleaved
from bench.ours import with_engine
from bench.rows import Row
from bench.simulated import Device, asks
from bench.speech import mp3
from bench.table import Column, Goal, Plot
from sotto.engine.batcher import Batcher

TITLE = "Keeping a device busy"
COLUMNS = (
    Column("busy", "busy", ".1%"),
    Column("idle", "idle", ".2%"),
    Column("batches", "batches", "d"),
    Column("rows_a_batch", "windows a batch", ".1f"),
    Column("wall_s", "wall s", ".2f"),
)
CUT, ONE, FOUR = "cut beforehand, 16 jobs", "whole pipeline, 1 file", "whole pipeline, 4 files"
GOALS = (
    Goal("device idle between batches, windows cut beforehand", CUT, "idle", most=0.01, form=".1%"),
    Goal("device busy, whole pipeline, 1 file", ONE, "busy", least=0.95, form=".1%"),
    Goal("device busy, whole pipeline, 4 files", FOUR, "busy", least=0.95, form=".1%"),
)
PLOTS = (Plot("device", "busy", "share of the time that the device works"),)
JOBS = 16
WINDOWS = 20
BATCHED_S = 0.02
PIPELINE_S = 0.1
MINUTES = 10


def run(repeats: int) -> Iterator[Row]:
    """All three, interleaved."""
    path = str(mp3(MINUTES))
    call = "bench.scenarios.device"
    tasks = {
        CUT: Task(f"{call}:cut_beforehand", {"path": path}),
        ONE: Task(f"{call}:whole_pipeline", {"paths": [path]}),
        FOUR: Task(f"{call}:whole_pipeline", {"paths": [path] * 4}),
    }
    for name, own in interleaved(tasks, repeats).items():
        values: dict[str, Any] = costs(own)
        values["busy"] = round(median(result.value["busy"] for result in own), 4)
        values["idle"] = round(1 - values["busy"], 4)
        calls = [result.value["calls"] for result in own]
        values["batches"] = median_low(len(rows) for rows in calls)
        values["rows_a_batch"] = round(median(sum(rows) / len(rows) for rows in calls), 2)
        yield Row("device", name, values)


def cut_beforehand(clock: Clock, path: str) -> dict[str, Any]:
    """A task: windows of many jobs, all there at once."""
    windows = asyncio.run(asks(path, {"language": "en"}))[:WINDOWS]
    device = Device(cost_s=lambda rows: BATCHED_S * rows)
    batcher = Batcher(device)
    with clock:
        wait([batcher.submit(job, ask) for ask in windows for job in range(JOBS)])
    batcher.close()
    return {"busy": device.busy_share(), "calls": device.calls}


def whole_pipeline(clock: Clock, paths: list[str]) -> dict[str, Any]:
    """A task: files through all of Sotto."""
    device = Device(cost_s=lambda rows: PIPELINE_S * rows)
    with_engine(clock, paths, device)
    return {"busy": device.busy_share(), "calls": device.calls}
