"""A task in, what it cost out: every measured run is a process of its own.

Invariant: wall and CPU seconds count what happens inside the clock, so that loading a model is free
for everyone; the peak of memory is that of the whole run. Processes that the measured one has
started, and those that they have, count with it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

from bench import AS_STARTED

ROOT = Path(__file__).resolve().parents[1]


class Clock:
    """`with clock:` around what counts, once in a task; `begun_s` is `perf_counter`'s."""

    def __init__(self) -> None:
        self.begun_s = 0.0
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Clock:
        self.begun_s, self._cpu_s = time.perf_counter(), cpu_s()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self.begun_s
        self.cpu_s = cpu_s() - self._cpu_s


@dataclass(frozen=True, slots=True)
class Task:
    """A function, `module:name`, that takes a Clock and these options; all of it fits JSON.

    `environ`: variables that its process has beside those that the bench was started with.
    """

    call: str
    options: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run cost (seconds, MB of 10^6 bytes), and what the task gave back."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    value: Any


def measured(task: Task) -> Result:
    """Run `task` in a new process. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.measure"],
        input=json.dumps({"call": task.call, "options": dict(task.options)}),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={
            **AS_STARTED,
            **task.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        },
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{task.call} ended with code {done.returncode}")
    return Result(**json.loads(done.stdout))


def interleaved(tasks: Mapping[str, Task], repeats: int) -> dict[str, list[Result]]:
    """Run A B C A B C ..., so that a machine that slows down slows all of them down."""
    results: dict[str, list[Result]] = {name: [] for name in tasks}
    for turn in range(repeats):
        for name, task in tasks.items():
            result = measured(task)
            results[name].append(result)
            print(
                f"  {turn + 1}/{repeats} {name}: {result.wall_s:.1f} s, "
                f"{result.cpu_s:.1f} CPU s, {result.peak_mb:.0f} MB",
                flush=True,
            )
    return results


def costs(results: Sequence[Result]) -> dict[str, Any]:
    """The medians of several runs of one task."""
    return {
        "wall_s": round(median(result.wall_s for result in results), 3),
        "cpu_s": round(median(result.cpu_s for result in results), 3),
        "peak_mb": round(median(result.peak_mb for result in results), 1),
        "walls_s": [round(result.wall_s, 3) for result in results],
    }


def ratio(slow: Sequence[Result], fast: Sequence[Result]) -> float:
    """How many times the wall time of `fast` is `slow`'s: median over runs side by side."""
    pairs = zip(slow, fast, strict=True)
    return round(median(one.wall_s / other.wall_s for one, other in pairs), 3)


def cpu_s() -> float:
    """CPU seconds of this process and of all below it, those included that have been waited for."""
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for process in below():
        with suppress(OSError):
            stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return (
        time.process_time() + waited.ru_utime + waited.ru_stime + ticks / os.sysconf("SC_CLK_TCK")
    )


def below(process: int | str = "self") -> Iterator[int]:
    """The processes that this one has started, those that they have started, and so on."""
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text(encoding="ascii").split()):
                yield child
                yield from below(child)


class Peak:
    """`with Peak() as peak:`; then `peak.mb()` is the most memory that this process has held.

    Unlike ru_maxrss, none of its parent's. To it is added the most that the processes below it held
    together: each page that several of them share is counted once, and their peak is looked for
    every EVERY_S.
    """

    EVERY_S = 0.25

    def __init__(self) -> None:
        self._below = 0
        self._over = Event()
        self._thread = Thread(target=self._look)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def mb(self) -> float:
        """The peak so far, in MB of 10^6 bytes."""
        return (_told("self/status", "VmHWM") + self._below) / 1e6

    def _look(self) -> None:
        while not self._over.wait(self.EVERY_S):
            self._below = max(self._below, sum(map(held, below())))


def held(process: int) -> int:
    """Bytes of a process, a page that n processes share being an n-th of it."""
    with suppress(OSError):
        return _told(f"{process}/smaps_rollup", "Pss")
    return 0


def _told(file: str, name: str) -> int:
    """The bytes that a file below /proc tells under this name, in kB."""
    lines = (Path("/proc") / file).read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """The measured process: a task as JSON on stdin, its result as JSON on stdout."""
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no result
    task = json.load(sys.stdin)
    module, _, name = task["call"].partition(":")
    clock = Clock()
    with Peak() as peak:
        value = getattr(importlib.import_module(module), name)(clock, **task["options"])
        result = {
            "wall_s": clock.wall_s,
            "cpu_s": clock.cpu_s,
            "peak_mb": peak.mb(),
            "value": value,
        }
    json.dump(result, out)
    out.flush()  # at its end the interpreter flushes sys.stdout alone, which is another now


if __name__ == "__main__":
    main()
