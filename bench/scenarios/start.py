"""From the start of the process to its first request for a job: that is what *ready* means.

`base` in int8, files in the page cache, a gateway on the same machine in place of the platform. The
plain handler has the same engine, but imports everything first, loads the model next and starts
the SDK last. The parts are processes of their own, which do that one thing; Sotto's handler does
several of them at once.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from statistics import median

from bench.measure import ROOT, Clock, Task, costs, interleaved
from bench.rows import Row
from bench.table import Column, Goal, Plot
from bench.worker import HANDLER, running
from sotto.net import sdk
from sotto.settings import Settings
from sotto.workshop import Workshop

TITLE = "A cold start"
COLUMNS = (Column("ready_s", "s", ".2f"),)
OURS, PLAIN = "`python handler.py`, ready", "the same with plain imports, ready"
GOALS = (Goal("seconds until the worker asks for its first job", OURS, "ready_s", most=1.2),)
PLOTS = (Plot("start", "ready_s", "seconds"),)
HANDLERS = {OURS: list(HANDLER), PLAIN: [sys.executable, "-m", "bench.plain_handler"]}
PARTS = {
    "part: `import runpod` as it comes": "plain_sdk",
    "part: `import runpod`, prepared": "prepared_sdk",
    "part: import faster-whisper and CTranslate2": "engine",
    "part: load and warm up, imports included": "warm",
}


def run(repeats: int) -> Iterator[Row]:
    """Both handlers and the parts, interleaved; one more turn first, which fills the cache."""
    here = "bench.scenarios.start"
    tasks = {
        name: Task(f"{here}:ready", {"command": command}) for name, command in HANDLERS.items()
    }
    tasks |= {name: Task(f"{here}:part", {"name": part}) for name, part in PARTS.items()}
    for name, own in interleaved(tasks, repeats + 1).items():
        kept = own[1:]
        seconds = median(result.value or result.wall_s for result in kept)
        yield Row("start", name, {**costs(kept), "ready_s": round(seconds, 3)})


def ready(clock: Clock, command: list[str]) -> float:
    """A task: seconds from the start of a handler to its first request for a job."""

    async def started() -> float:
        async with running(command, _environ()) as worker:
            return worker.ready_s

    with clock:
        return asyncio.run(started())


def part(clock: Clock, name: str) -> None:
    """A task: one of PARTS, by itself."""
    with clock:
        if name == "plain_sdk":
            importlib.import_module("runpod")
        elif name == "prepared_sdk":
            sdk.load()
        elif name == "engine":
            importlib.import_module("faster_whisper")
        else:
            Workshop(Settings()).warm_up()


def _environ() -> Mapping[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
