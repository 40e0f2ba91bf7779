"""Traffic: a CSV, or a few numbers that describe a day, in; jobs in the order of their arrival out.

Invariant: arrivals are sorted and begin at 0, and every number is finite; a file that is refused is
refused with its line.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sotto.endpoint.simulate.refusal import SimulationError

DAY_S = 86_400.0
ARRIVAL, AUDIO = "arrival_s", "audio_s"
MOST_JOBS = 1_000_000
"""Jobs of a trace: about half a minute of simulation for each setting."""
LONGEST_AUDIO_S = DAY_S
LATEST_S = 1e11
"""Seconds since 1970 go far beyond what anybody has measured; what is later was counted in ms."""
LONGEST_TRACE_S = 366 * DAY_S
SHOWN_LETTERS = 40


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in the order of their arrival: seconds after the first one's, and the length of each.

    `days`: how many days of traffic these are. `told`: where it comes from, for people.
    """

    arrivals_s: Sequence[float]
    audio_s: Sequence[float]
    days: int
    told: str


@dataclass(frozen=True, slots=True)
class Day:
    """What a generated day is like.

    `jobs`: how many come on average. `audio_s`, `audio_sigma`: median and spread of their lengths,
    which are log-normal. `peak`: how many times as many as on average come around `peak_hour`.
    """

    jobs: float
    audio_s: float = 60.0
    audio_sigma: float = 1.0
    peak: float = 1.8
    peak_hour: float = 14.0
    seed: int = 7


def read(path: Path) -> Trace:
    """The trace in a CSV file with the columns `arrival_s` and `audio_s`, in any order of rows.

    Others are passed over. Arrivals count from any moment. What is no trace of at most MOST_JOBS
    raises SimulationError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            jobs = sorted(_jobs(csv.reader(file), str(path)))
    except OSError as error:
        raise SimulationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SimulationError(f"{path}: not text in UTF-8") from None
    if not jobs:
        raise SimulationError(f"{path}: no jobs below the header")
    first_s = jobs[0][0]
    length_s = jobs[-1][0] - first_s
    if length_s > LONGEST_TRACE_S:
        raise SimulationError(
            f"{path}: {ARRIVAL} spans {length_s / DAY_S:.0f} days; at most "
            f"{LONGEST_TRACE_S / DAY_S:.0f} are simulated; are these seconds?"
        )
    return Trace(
        arrivals_s=[arrival_s - first_s for arrival_s, _ in jobs],
        audio_s=[audio_s for _, audio_s in jobs],
        days=max(1, round(length_s / DAY_S)),
        told=str(path),
    )


def generated(day: Day) -> Trace:
    """A day whose rate of arrivals is a cosine with its top at `peak_hour`: always the same one.

    Arrivals at the top's rate, each kept with the chance that the rate of its moment has of the
    top's, are a Poisson process of that rate (Lewis and Shedler, 1979).
    """
    dice = random.Random(day.seed)
    arrivals_s, audio_s = [], []
    top = day.jobs * day.peak / DAY_S
    now_s = dice.expovariate(top) if top else DAY_S
    while now_s < DAY_S:
        angle = 2 * math.pi * (now_s / 3600 - day.peak_hour) / 24
        if dice.random() * day.peak < 1 + (day.peak - 1) * math.cos(angle):
            arrivals_s.append(now_s)
            length_s = dice.lognormvariate(math.log(day.audio_s), day.audio_sigma)
            audio_s.append(min(length_s, LONGEST_AUDIO_S))
        now_s += dice.expovariate(top)
    told = (
        f"generated, seed {day.seed}: {day.jobs:g} jobs a day, {day.peak:g} times as dense at "
        f"{day.peak_hour:g} h; lengths log-normal, median {day.audio_s:g} s, sigma "
        f"{day.audio_sigma:g}"
    )
    return Trace(arrivals_s, audio_s, 1, told)


def _jobs(rows: Iterator[Sequence[str]], source: str) -> Iterator[tuple[float, float]]:
    """Arrival and length of each row below the header, one at a time."""
    number = 1
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        columns = _column(header, ARRIVAL, source), _column(header, AUDIO, source)
        for number, row in enumerate(rows, start=2):
            if number - 1 > MOST_JOBS:
                raise SimulationError(
                    f"{source}: more than {MOST_JOBS} jobs; give a part, such as one day of it"
                )
            if row:
                arrival_s = _seconds(row, columns[0], LATEST_S, f"{source}:{number}: {ARRIVAL}")
                yield (
                    arrival_s,
                    _seconds(row, columns[1], LONGEST_AUDIO_S, f"{source}:{number}: {AUDIO}"),
                )
    except csv.Error as error:
        raise SimulationError(f"{source}:{number}: not CSV: {error}") from None


def _column(header: Sequence[str], name: str, source: str) -> int:
    if header.count(name) != 1:
        why = "more than one" if name in header else "no"
        raise SimulationError(
            f"{source}:1: {why} column {name}; the first line names the columns, among them "
            f"{ARRIVAL} (when the job came, in seconds) and {AUDIO} (the seconds of its audio)"
        )
    return header.index(name)


def _seconds(row: Sequence[str], column: int, most: float, at: str) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 <= value <= most:
        return value
    shown = repr(text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 3]}...")
    raise SimulationError(f"{at}: {shown} is not allowed; use seconds from 0 to {most:.0f}")
