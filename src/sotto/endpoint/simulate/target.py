"""What is wanted of an endpoint, as people write it: `p95 <= 10 s`.

Invariant: a quantile is always a time that a job really had: the nearest rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.simulation import Outcome

UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
TARGET = re.compile(
    r"p(?P<percent>[0-9]{1,2}(\.[0-9]{1,3})?)\s*(?P<time>wait|total)?\s*(<=|≤)\s*"
    rf"(?P<most>[0-9]{{1,9}}(\.[0-9]{{1,9}})?)\s*(?P<unit>{'|'.join(UNITS_S)})"
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A percentile of the jobs' times: `wait`, until a worker took them, or `total`, to the end."""

    percent: float
    time: str

    def __str__(self) -> str:
        return f"p{self.percent:g} {self.time}"

    def of(self, outcome: Outcome) -> float:
        """Its value in seconds; 0 if there were no jobs."""
        times_s = outcome.waits_s if self.time == "wait" else outcome.totals_s
        return quantile(sorted(times_s), self.percent)


USUAL = Measure(95.0, "wait")
"""What settings are compared by if no target says otherwise."""


@dataclass(frozen=True, slots=True)
class Target:
    """A measure that may be `most_s` at most."""

    measure: Measure
    most_s: float

    def __str__(self) -> str:
        return f"{self.measure} <= {self.most_s:g} s"


def target(text: str) -> Target:
    """The target that `text` means; without `wait` or `total` it is the wait.

    Raises SimulationError.
    """
    found = TARGET.fullmatch(text.strip().lower())
    if found is None or not float(found["percent"]):
        raise SimulationError(
            f"--target: {text[:60]!r} is not understood; write a percentile, wait (in the queue) "
            "or total (until the answer), <= and a time, such as 'p95 wait <= 10 s'"
        )
    measure = Measure(float(found["percent"]), found["time"] or "wait")
    return Target(measure, float(found["most"]) * UNITS_S[found["unit"]])


def quantile(ordered: Sequence[float], percent: float) -> float:
    """The value of the nearest rank: so many percent are at most that; 0 if there are none."""
    if not ordered:
        return 0.0
    rank = len(ordered) * percent / 100
    return ordered[math.ceil(round(rank, 6)) - 1]  # 99.9 % of 1000 is 999.0000000000001
