"""What the bench has measured of a worker: its rows in, speed, gain by batches and cold start out.

Invariant: everything that is put together was measured on one machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from sotto.endpoint.simulate import service
from sotto.endpoint.simulate.refusal import SimulationError

OURS = "Sotto"
READY = "`python handler.py`, ready"
"""The variant of the scenario `start` that is the worker as it is."""
IN_FLIGHT = re.compile(r"([1-9][0-9]{0,2}) in flight")
"""The variants of the scenario `inflight`: short jobs, a window each."""

TOO_MUCH = 1e12


class Row(msgspec.Struct, frozen=True):
    """A line of `bench/results/`; what else it holds is not asked for."""

    scenario: str
    variant: str
    values: Mapping[str, Any]
    settings: Mapping[str, Any]
    date: str
    machine: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """What rows say of a worker, each as in `Service`; None: not measured.

    `told`: what was measured, where and when, for people.
    """

    rtfx: float | None = None
    job_s: float | None = None
    batching: Sequence[tuple[int, float]] | None = None
    cold_start_s: float | None = None
    told: str = ""


NOTHING = Measured()


def read(paths: Iterable[Path]) -> list[Row]:
    """The rows of these files, or of all in these folders. Raises SimulationError."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise SimulationError(f"--rows: {path} holds no .jsonl; `make bench` writes them")
        files += found
    return [row for file in files for row in _rows(file)]


def measured(rows: Sequence[Row], variant: str | None) -> Measured:
    """What the newest row of that variant says, and others of its machine.

    None: the variant `Sotto`. Raises SimulationError if there is no such row with a speed.
    """
    fast = [row for row in rows if _positive(row.values.get("times_real"))]
    chosen = [row for row in fast if row.variant == (variant or OURS)]
    if not chosen:
        names = sorted({row.variant for row in fast})
        raise SimulationError(
            f"--variant: no row of {variant or OURS!r} has a speed (times_real); "
            + (f"there are: {'; '.join(names)}" if names else "nor has any other")
        )
    speed = max(chosen, key=lambda row: row.date)
    same = sorted((r for r in rows if r.machine == speed.machine), key=lambda row: row.date)
    rtfx = float(speed.values["times_real"])
    short = [row for row in same if row.scenario == "inflight" and IN_FLIGHT.fullmatch(row.variant)]
    ready = [row for row in same if (row.scenario, row.variant) == ("start", READY)]
    ready = [row for row in ready if _positive(row.values.get("ready_s"))]
    return Measured(
        rtfx=rtfx,
        batching=_batching(short),
        job_s=_job_s(short, rtfx),
        cold_start_s=float(ready[-1].values["ready_s"]) if ready else None,
        told=f"{speed.scenario}, {speed.variant!r}, measured {speed.date[:10]} on {_place(speed)}",
    )


def _rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SimulationError(f"--rows: {path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield msgspec.json.decode(line, type=Row)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SimulationError(f"--rows: {path}:{number}: not a row: {error}") from None


def _batching(rows: Sequence[Row]) -> tuple[tuple[int, float], ...] | None:
    """The share of full speed for each number of short jobs in flight; the newest rows count.

    A share that falls as jobs are added is noise: the highest before it holds.
    """
    gains = {}
    for row in rows:
        gain = row.values.get("ratio")
        if _positive(gain):
            gains[_in_flight(row)] = gain
    points = sorted(gains.items())
    if not points:
        return None
    most = max(gain for _, gain in points)
    highest = 0.0
    shares = []
    for jobs, gain in points:
        highest = max(highest, gain)
        shares.append((jobs, highest / most))
    return service.checked(shares)


def _job_s(rows: Sequence[Row], rtfx: float) -> float | None:
    """What a short job costs beyond its audio when most are in flight; rows must tell the audio."""
    costs_s = []
    for row in rows:
        audio_s, all_s = row.values.get("audio_s"), row.values.get("all_s")
        jobs = row.settings.get("jobs")
        if _positive(audio_s) and _positive(all_s) and _positive(jobs):
            cost_s = max(0.0, (all_s - audio_s / rtfx) / jobs)
            costs_s.append((_in_flight(row), row.date, cost_s))
    return max(costs_s)[-1] if costs_s else None


def _in_flight(row: Row) -> int:
    return int(row.variant.split()[0])


def _positive(value: object) -> TypeGuard[float]:
    """Is this a number that anything could have been measured as? A bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < TOO_MUCH


def _place(row: Row) -> str:
    gpu, cores = row.machine.get("gpu"), row.machine.get("cores")
    return f"{gpu or row.machine.get('cpu')}, {cores} cores" + ("" if gpu else ", no GPU")
