"""Eight short clips arrive while a file of forty windows is being decoded (`base` in int8, beam 5).

Latency is from a clip's arrival to its words; the windows are cut beforehand and go into the
batcher directly. Beside Sotto's turns stands a plain queue, where what came first goes first, and
the same clips on an idle engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from statistics import median
from typing import Any

from bench.measure import Clock, Task, costs, interleaved
from bench.ours import ENVIRON, request
from bench.rows import Row
from bench.simulated import FirstInFirstOut, asks
from bench.speech import clips, long_file
from bench.table import Column, Goal, Plot
from sotto.engine.base import Ask, Engine
from sotto.engine.batcher import Batcher
from sotto.settings import Settings
from sotto.workshop import Workshop

TITLE = "A short clip behind a long file"
COLUMNS = (
    Column("median_s", "median latency s", ".2f"),
    Column("slowest_s", "slowest s", ".2f"),
    Column("wall_s", "all done after s", ".1f"),
    Column("ratio", "ratio to the queue", ".2f"),
)
FAIR, QUEUE, IDLE = "Sotto", "first in, first out", "Sotto, no long file"
GOALS = (Goal("clip latency, ratio to a plain queue", FAIR, "ratio", most=0.35),)
PLOTS = (Plot("fairness", "median_s", "median latency of a short clip, seconds"),)
WINDOWS = 40
CLIPS = 8


def run(repeats: int) -> Iterator[Row]:
    """The three, interleaved."""
    given = {"long": str(long_file("en").path), "clips": [str(path) for path in clips(CLIPS)]}
    variants: dict[str, dict[str, Any]] = {
        FAIR: {"windows": WINDOWS, "fair": True},
        QUEUE: {"windows": WINDOWS, "fair": False},
        IDLE: {"windows": 0, "fair": True},
    }
    call = "bench.scenarios.fairness:latencies"
    results = interleaved(
        {name: Task(call, {**given, **options}, ENVIRON) for name, options in variants.items()},
        repeats,
    )
    queued = _medians(results[QUEUE])
    for name, own in results.items():
        values = {
            **costs(own),
            "median_s": round(median(_medians(own)), 3),
            "slowest_s": round(median(max(result.value) for result in own), 3),
            "ratio": round(median(a / b for a, b in zip(_medians(own), queued, strict=True)), 3),
        }
        yield Row("fairness", name, values, {**variants[name], "clips": CLIPS})


def _medians(results: Sequence[Any]) -> list[float]:
    return [median(result.value) for result in results]


def latencies(
    clock: Clock, long: str, clips: Sequence[str], windows: int, fair: bool
) -> list[float]:
    """A task: seconds from each clip's arrival to its words."""
    engine = asyncio.run(_engine())
    before = asyncio.run(_asked([long], engine.mels))[0][:windows]
    short = asyncio.run(_asked(clips, engine.mels))
    batcher = Batcher(engine) if fair else FirstInFirstOut(engine)
    with clock:
        busy = [batcher.submit("long", ask) for ask in before]
        waiting = [_timed(batcher, number, ask) for number, (ask, *_) in enumerate(short)]
        wait([*busy, *(future for future, _ in waiting)])
    batcher.close()
    return [took[0] for _, took in waiting]


def _timed(batcher: Batcher, job: int, ask: Ask) -> tuple[Future[Any], list[float]]:
    """Submit a clip; the list will hold its latency."""
    took: list[float] = []
    begun = time.perf_counter()
    future = batcher.submit(job, ask)
    future.add_done_callback(lambda _: took.append(time.perf_counter() - begun))
    return future, took


async def _engine() -> Engine:
    """The engine that a worker would have."""
    workshop = Workshop(Settings())
    async with workshop.open(request("/", {})) as (tools, _):
        return tools.batcher.engine


async def _asked(paths: Sequence[str], mels: int) -> list[list[Ask]]:
    return [await asks(path, {"language": "en"}, mels) for path in paths]
