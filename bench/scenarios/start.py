"""From the start of the process to its first request for a job: that is what *ready* means.

`base` in int8, files in the page cache, a gateway on the same machine in place of the platform. The
plain handler has the same engine, but imports everything first, loads the model next and starts
the SDK last. The parts are processes of their own, which do that one thing; Sotto's handler does
several of them at once.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from statistics import median

from bench.measure import ROOT, Clock, Task, costs, interleaved
from bench.rows import Row
from bench.table import Column, Goal, Plot
from bench.worker import HANDLER, running

TITLE = "A cold start"
COLUMNS = (Column("ready_s", "s", ".2f"),)
OURS, PLAIN = "`python handler.py`, ready", "the same with plain imports, ready"
GOALS = (Goal("seconds until the worker asks for its first job", OURS, "ready_s", most=1.2),)
PLOTS = (Plot("start", "ready_s", "seconds"),)
WARM = """
import os
from sotto.settings import Settings
from sotto.workshop import Workshop

workshop = Workshop(Settings.from_env(os.environ))
workshop.warm_up()
workshop.close()
"""
HANDLERS = {OURS: list(HANDLER), PLAIN: [sys.executable, "-m", "bench.plain_handler"]}
PARTS = {
    "part: Python itself": "pass",
    "part: `import runpod` as it comes": "import runpod",
    "part: `import runpod` as the worker does": "from sotto.net import sdk; sdk.load()",
    "part: import what loads the model": "import sotto.loading, sotto.engine.whisper",
    "part: that, load and warm up": WARM,
}


def run(repeats: int) -> Iterator[Row]:
    """Both handlers and the parts, interleaved; one more turn first, which fills the cache."""
    here = "bench.scenarios.start"
    tasks = {
        name: Task(f"{here}:ready", {"command": command}) for name, command in HANDLERS.items()
    }
    tasks |= {name: Task(f"{here}:part", {"code": code}) for name, code in PARTS.items()}
    for name, own in interleaved(tasks, repeats + 1).items():
        kept = own[1:]
        seconds = median(result.value for result in kept)
        yield Row("start", name, {**costs(kept), "ready_s": round(seconds, 3)})


def ready(clock: Clock, command: list[str]) -> float:
    """A task: seconds from the start of a handler to its first request for a job."""

    async def started() -> float:
        async with running(command, _environ()) as worker:
            return worker.ready_s

    with clock:
        return asyncio.run(started())


def part(clock: Clock, code: str) -> float:
    """A task: seconds of a process that does one thing."""
    with clock:
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **_environ()}, check=True)
    return clock.wall_s


def _environ() -> Mapping[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
