"""Sixty-four short clips for one worker: 1, 16 and 64 of them in flight (`base` in int8, beam 5).

All clips are sent at once to a gateway on the same machine, as base64; the worker takes as many as
its `SOTTO_CONCURRENCY` says. One at a time is what every other Whisper worker does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median

from bench.measure import Clock, Result, Task, costs, interleaved
from bench.rows import Row
from bench.speech import clips
from bench.table import Column, Plot
from bench.worker import HANDLER, embedded, outputs, running
from sotto.audio.decode import length_s

TITLE = "Jobs in flight"
COLUMNS = (
    Column("all_s", "all done after s", ".1f"),
    Column("ratio", "times as fast as one at a time", ".2f"),
)
GOALS = ()
PLOTS = (Plot("inflight", "all_s", "seconds for 64 clips"),)
IN_FLIGHT = (1, 16, 64)
CLIPS = 16
TIMES = 4


def run(repeats: int) -> Iterator[Row]:
    """Each number of jobs in flight, interleaved."""
    paths = clips(CLIPS)
    audio_s = TIMES * sum(length_s(path) or 0.0 for path in paths)
    given = {"paths": [str(path) for path in paths] * TIMES}
    tasks = {
        f"{number} in flight": Task(
            "bench.scenarios.inflight:all_s", {**given, "concurrency": number}
        )
        for number in IN_FLIGHT
    }
    results = interleaved(tasks, repeats)
    alone = results[f"{IN_FLIGHT[0]} in flight"]
    for name, own in results.items():
        values = {
            **costs(own),
            "audio_s": round(audio_s, 1),
            "all_s": round(median(result.value for result in own), 3),
            "ratio": round(median(map(_ratio, alone, own)), 3),
        }
        yield Row("inflight", name, values, {"jobs": CLIPS * TIMES, "language": "en"})


def _ratio(alone: Result, own: Result) -> float:
    return float(alone.value / own.value)


def all_s(clock: Clock, paths: list[str], concurrency: int) -> float:
    """A task: seconds from the first job's arrival to the last one's answer."""
    inputs = [{**embedded(path), "language": "en"} for path in paths]

    async def timed() -> float:
        async with running(HANDLER, {"SOTTO_CONCURRENCY": str(concurrency)}) as worker:
            begun = time.perf_counter()
            await outputs(worker.gateway, inputs)
            return time.perf_counter() - begun

    with clock:
        return asyncio.run(timed())
