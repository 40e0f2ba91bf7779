"""Many settings, simulated one after the other, and the cheapest that is good enough.

Invariant: what is recommended meets the target, and nothing that was tried and meets it is cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from sotto.endpoint.config import Endpoint
from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.simulation import Outcome, simulate
from sotto.endpoint.simulate.target import Measure, Target


@dataclass(frozen=True, slots=True)
class Point:
    """A setting and what came of it. `value_s`: the measure's. `usd_a_day`: the cost."""

    idle_timeout_s: float
    max_workers: int
    value_s: float
    usd_a_day: float
    idle_share: float


def settings(
    endpoint: Endpoint, idle_timeouts_s: Sequence[float], max_workers: Sequence[int]
) -> list[Endpoint]:
    """The endpoint with every idle timeout and every maximum, as far as they can act, in order.

    Raises SimulationError if no maximum is as high as the minimum.
    """
    workers = endpoint.workers
    fitting = [most for most in sorted(set(max_workers)) if most >= max(1, workers.min)]
    if not fitting:
        raise SimulationError(f"--sweep-max: none is as high as workers.min, {workers.min}")
    timeouts_s: Sequence[float | None] = [None]
    if endpoint.scaling.kind == "queue_delay":
        timeouts_s = sorted(set(idle_timeouts_s))
    return [
        msgspec.structs.replace(
            endpoint,
            workers=msgspec.structs.replace(workers, max=most, idle_timeout_s=timeout_s),
        )
        for most in fitting
        for timeout_s in timeouts_s
    ]


def sweep(case: Case, tried: Sequence[Endpoint], measure: Measure) -> Iterator[Point]:
    """A point for each endpoint in place of the case's own, as it comes.

    It ends early with a maximum that changes nothing: no more workers would ever be started.
    """
    before: list[Outcome] = []
    for most, group in groupby(tried, key=lambda endpoint: endpoint.workers.max):
        same = list(group)
        outcomes = [simulate(case.trace, endpoint, case.service) for endpoint in same]
        if outcomes == before:
            return
        before = outcomes
        for endpoint, outcome in zip(same, outcomes, strict=True):
            yield Point(
                idle_timeout_s=endpoint.idle_timeout_s,
                max_workers=most,
                value_s=measure.of(outcome),
                usd_a_day=usd_a_day(outcome, case),
                idle_share=idle_share(outcome),
            )


def usd_a_day(outcome: Outcome, case: Case) -> float:
    """What a day of the traffic costs."""
    return outcome.billed_s / 3600 * case.price.usd_an_hour / case.trace.days


def idle_share(outcome: Outcome) -> float:
    """The part of the paid time in which workers had no job; 0 if none was paid."""
    return outcome.idle_s / outcome.paid_s if outcome.paid_s else 0.0


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both cost and time, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.usd_a_day, *_order(point))):
        if not best or point.value_s < best[-1].value_s:
            best.append(point)
    return best


def recommended(points: Sequence[Point], target: Target) -> Point | None:
    """The cheapest that meets the target; of equals the fastest, then the smallest setting."""
    good = [point for point in points if point.value_s <= target.most_s]
    return min(good, key=lambda point: (point.usd_a_day, *_order(point)), default=None)


def _order(point: Point) -> tuple[float, float, float]:
    return point.value_s, point.max_workers, point.idle_timeout_s
