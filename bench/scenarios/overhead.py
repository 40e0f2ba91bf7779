"""What a job costs beside the model: one short clip, and an engine that takes no time.

Milliseconds a job, 200 jobs: over HTTP through a gateway on the same machine and the SDK's client
side of the queue, one at a time and 16 in flight, decoding, VAD and features included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median

from bench.measure import Clock, Task, costs, interleaved
from bench.rows import Row
from bench.speech import clips
from bench.table import Column, Plot
from bench.worker import HANDLER, embedded, outputs, running

TITLE = "What a job costs beside the model"
COLUMNS = (Column("ms_a_job", "ms a job", ".1f"),)
GOALS = ()
PLOTS = (Plot("overhead", "ms_a_job", "milliseconds a job"),)
IN_FLIGHT = (1, 16)
JOBS = 200


def run(repeats: int) -> Iterator[Row]:
    """Both numbers of jobs in flight, interleaved."""
    path = str(clips(1)[0])
    tasks = {
        f"{number} in flight": Task(
            "bench.scenarios.overhead:ms_a_job", {"path": path, "concurrency": number}
        )
        for number in IN_FLIGHT
    }
    for name, own in interleaved(tasks, repeats).items():
        each_ms = round(median(result.value for result in own), 2)
        yield Row("overhead", name, {**costs(own), "ms_a_job": each_ms}, {"jobs": JOBS})


def ms_a_job(clock: Clock, path: str, concurrency: int) -> float:
    """A task: milliseconds from the first job's arrival to the last one's answer, by job."""
    environ = {"SOTTO_ENGINE": "fake", "SOTTO_CONCURRENCY": str(concurrency)}

    async def timed() -> float:
        async with running(HANDLER, environ) as worker:
            begun = time.perf_counter()
            await outputs(worker.gateway, [embedded(path)] * JOBS)
            return (time.perf_counter() - begun) * 1000 / JOBS

    with clock:
        return asyncio.run(timed())
