"""Half an hour of mixed jobs for one worker: what it holds must stay the same (`base` in int8).

Eight callers send, one job after another, clips as base64, clips for the stream, clips with the
channels split, jobs that are cancelled as they run, and jobs that cannot work: no audio, noise for
base64, an option that does not exist, an address that must not be opened. Every three minutes the
worker's memory, open files, threads, processes and temporary files are counted, its decoders'
included, once the jobs in flight have ended and the connections that were kept for the next ones
are closed. What was in work last moves the memory by some ten MB, so growth is the median of the
last three marks less that of the first three from the sixth minute on.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.measure import Clock, Task, below, held, measured
from bench.rows import SEED, Row
from bench.speech import clips
from bench.table import Column, Goal, Plot
from bench.worker import HANDLER, KEY, LONGEST_WAIT_MS, Running, embedded, running

TITLE = "A soak"
COLUMNS = (
    Column("minutes", "minutes", "d"),
    Column("rss_mb", "MB held", ".0f"),
    Column("grown_mb", "growth", ".1f"),
    Column("files", "open files", "d"),
    Column("threads", "threads", "d"),
    Column("processes", "processes", "d"),
    Column("temporary", "temporary files", "d"),
    Column("answered", "jobs answered", "d"),
    Column("refused", "refused", "d"),
    Column("cancelled", "cancelled", "d"),
)
MINUTES = 30
MARK_MIN = 3
SETTLED_MIN = 6
COMPARED = 3
IDLE_S = 20.0
"""More than the 15 s for which a worker keeps a connection that it does not use."""
LAST = f"minute {MINUTES}"
MOST_THREADS = 40
"""All pools full: a worker's threads are started when they are first needed."""
GOALS = (
    Goal("MB more at the end of a soak", LAST, "grown_mb", most=20, form=".1f"),
    Goal("open files more at the end of a soak", LAST, "more_files", most=0, form=".0f"),
    Goal("threads at the end of a soak", LAST, "threads", most=MOST_THREADS, form="d"),
    Goal("temporary files left by a soak", LAST, "temporary", most=0, form="d"),
)
PLOTS = (Plot("soak", "rss_mb", "MB held", along="minutes", along_label="minutes of mixed jobs"),)
CALLERS = 8
CLIPS = 8
HOSTILE: tuple[Mapping[str, Any], ...] = (
    {},
    {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"},
    {"audio_base64": "%%%"},
    {"audio": "http://169.254.169.254/latest/meta-data"},
    {"audio": "https://example.invalid/a.wav", "langauge": "en"},
    {"audio_path": "/etc/passwd"},
)


def run(_repeats: int) -> Iterator[Row]:
    """One soak, a row for each mark."""
    paths = [str(path) for path in clips(CLIPS)]
    result = measured(Task("bench.scenarios.soak:soak", {"paths": paths, "minutes": MINUTES}))
    settled = [mark for mark in result.value if mark["minutes"] >= SETTLED_MIN]
    for mark in result.value:
        values = {"system": "Sotto", **mark}
        if mark is settled[-1]:
            values |= {"grown_mb": _growth(settled, "rss_mb")}
            values |= {"more_files": _growth(settled, "files")}
        yield Row("soak", f"minute {mark['minutes']}", values, {"callers": CALLERS})


def _growth(marks: Sequence[Mapping[str, Any]], value: str) -> float:
    first, last = marks[:COMPARED], marks[-COMPARED:]
    return round(float(median(m[value] for m in last) - median(m[value] for m in first)), 1)


def soak(clock: Clock, paths: list[str], minutes: int) -> list[dict[str, Any]]:
    """A task: mixed jobs for so many minutes; what the worker holds at each mark."""
    with clock, tempfile.TemporaryDirectory() as temp:
        return asyncio.run(_soak([embedded(path) for path in paths], minutes, Path(temp)))


async def _soak(sounds: list[dict[str, Any]], minutes: int, temp: Path) -> list[dict[str, Any]]:
    marks = []
    done: Counter[str] = Counter()
    rng = random.Random(SEED)
    begun = time.monotonic()
    async with (
        running(HANDLER, {"SOTTO_TEMP_DIR": str(temp)}) as worker,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
    ):
        for mark in range(MARK_MIN, minutes + 1, MARK_MIN):
            caller = Caller(session, worker, sounds, begun + 60 * mark)
            await asyncio.gather(*(caller.call(rng, done) for _ in range(CALLERS)))
            await asyncio.sleep(IDLE_S)
            marks.append({"minutes": mark, **holding(worker.pid, temp), **_counted(done)})
            print(f"  {marks[-1]}", flush=True)
    return marks


def holding(pid: int, temp: Path) -> dict[str, Any]:
    """What a process and those below it hold, MB of memory among it; and the files in `temp`."""
    processes = [Path("/proc") / str(one) for one in (pid, *below(pid))]
    return {
        "rss_mb": round(sum(held(int(process.name)) for process in processes) / 1e6, 1),
        "files": sum(1 for process in processes for _ in (process / "fd").iterdir()),
        "threads": sum(1 for process in processes for _ in (process / "task").iterdir()),
        "processes": len(processes),
        "temporary": sum(1 for _ in temp.rglob("*")),
    }


def _counted(done: Counter[str]) -> dict[str, int]:
    return {
        "answered": done["COMPLETED"],
        "refused": done["FAILED"],
        "cancelled": done["CANCELLED"],
    }


class Caller:
    """Sends one job after another until `end_s`, by the monotonic clock."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        worker: Running,
        sounds: list[dict[str, Any]],
        end_s: float,
    ) -> None:
        self._session = session
        self._url = worker.gateway.endpoint_url
        self._sounds = sounds
        self._end_s = end_s

    async def call(self, rng: random.Random, done: Counter[str]) -> None:
        """Send jobs; how each ended is counted in `done`."""
        while time.monotonic() < self._end_s:
            kind = rng.randrange(8)
            if kind == 0:
                status = await self._sync(dict(rng.choice(HOSTILE)))
            elif kind == 1:
                status = await self._cancelled(rng)
            else:
                options: tuple[dict[str, Any], ...] = (
                    {},
                    {"stream": True},
                    {"channels": "split"},
                    {"language": "en"},
                )
                status = await self._sync({**self._sound(rng), **rng.choice(options)})
            done[status] += 1

    def _sound(self, rng: random.Random) -> dict[str, Any]:
        return rng.choice(self._sounds)

    async def _sync(self, given: dict[str, Any]) -> str:
        return await self._post(f"runsync?wait={LONGEST_WAIT_MS}", {"input": given}, "status")

    async def _cancelled(self, rng: random.Random) -> str:
        job_id = await self._post("run", {"input": self._sound(rng)}, "id")
        await asyncio.sleep(rng.random())
        return await self._post(f"cancel/{job_id}", {}, "status")

    async def _post(self, path: str, body: dict[str, Any], wanted: str) -> str:
        async with self._session.post(f"{self._url}/{path}", json=body) as response:
            return str((await response.json())[wanted])
