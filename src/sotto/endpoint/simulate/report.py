"""Outcomes as text for people.

Invariant: whatever the numbers rest on stands above them: traffic, worker, endpoint and price.
"""

from __future__ import annotations

from collections.abc import Sequence

from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.simulation import Outcome
from sotto.endpoint.simulate.sweep import Point, frontier, idle_share, recommended, usd_a_day
from sotto.endpoint.simulate.target import Measure, Target, quantile

PERCENTS = (50.0, 95.0, 99.0)
WIDTH = 10


def assumptions(case: Case) -> str:
    """What goes in."""
    trace, service, endpoint = case.trace, case.service, case.endpoint
    days = f", {trace.days} days" if trace.days > 1 else ""
    hours = case.audio_hours_a_day * trace.days
    speeds = ", ".join(f"{windows}: {share:.0%}" for windows, share in service.batching)
    idle = f", idle timeout {endpoint.idle_timeout_s:g} s" if case.has_idle_timeout else ""
    return _lines(
        ("traffic", f"{len(trace.audio_s)} jobs, {hours:.1f} h of audio{days}"),
        ("", trace.told),
        ("worker", f"{service.rtfx:.4g} x real time in full batches, {service.job_s:.3g} s a job"),
        ("", f"speed by windows in flight: {speeds}"),
        ("", f"cold start {service.cold_start_s:g} s, {service.concurrency} jobs at once"),
        ("", case.told),
        ("endpoint", f"{endpoint.workers.min} to {endpoint.workers.max} workers{idle}"),
        ("", f"scaling by {endpoint.scaling.kind}, {endpoint.scaling.value:g}"),
        ("price", f"{case.price.usd_an_hour:g} USD an hour, {case.price.told}"),
    )


def result(outcome: Outcome, case: Case) -> str:
    """What comes out."""
    days, hours = case.trace.days, case.audio_hours_a_day
    usd = usd_a_day(outcome, case)
    an_hour = f", {usd / hours:.4f} USD an hour of audio" if hours else ""
    paid_s = outcome.paid_s or 1.0
    rows = [
        ("seconds", "".join(f"{f'p{percent:g}':>{WIDTH}}" for percent in PERCENTS)),
        ("wait", _times(outcome.waits_s)),
        ("total", _times(outcome.totals_s)),
        ("cost", f"{usd:.2f} USD a day{an_hour}"),
        (
            "paid",
            f"{outcome.billed_s / 3600 / days:.2f} h a day: {outcome.busy_s / paid_s:.0%} at work, "
            f"{idle_share(outcome):.0%} idle, {outcome.starting_s / paid_s:.0%} starting",
        ),
        ("starts", f"{outcome.starts / days:.0f} a day"),
    ]
    if outcome.overdue:
        limit = f"timeout_s = {case.endpoint.timeout_s:g}"
        rows.append(
            ("overdue", f"{outcome.overdue} jobs ran longer than {limit} and would be stopped")
        )
    return _lines(*rows)


def table(points: Sequence[Point], measure: Measure, case: Case, most_tried: int) -> str:
    """All that was tried; a star for what nothing else beats in both cost and time.

    `most_tried`: up to how many workers were to be tried.
    """
    best = frontier(points)
    heading = f"{'max':>5}{'idle s':>9}{f'{measure}, s':>16}{'USD a day':>12}{'idle':>7}\n"
    rows = "".join(
        f"{point.max_workers:>5}"
        f"{f'{point.idle_timeout_s:g}' if case.has_idle_timeout else '-':>9}"
        f"{point.value_s:>16.2f}{point.usd_a_day:>12.2f}{point.idle_share:>7.0%}"
        f"{' *' if point in best else ''}\n"
        for point in points
    )
    most = points[-1].max_workers
    more = f"More than {most} would never be started.\n" if most < most_tried else ""
    return f"{heading}{rows}{more}"


def recommendation(points: Sequence[Point], target: Target, case: Case) -> str:
    """The cheapest setting that meets the target, or how far off the nearest one is."""
    good = recommended(points, target)
    if good is not None:
        return (
            f"For {target}, the cheapest: {_setting(good, case)}\n"
            f"{target.measure} {good.value_s:.2f} s, {good.usd_a_day:.2f} USD a day\n"
        )
    nearest = frontier(points)[-1]
    return (
        f"Nothing that was tried meets {target}. The nearest: {_setting(nearest, case)}\n"
        f"{target.measure} {nearest.value_s:.2f} s, {nearest.usd_a_day:.2f} USD a day\n"
        "A worker that is always there (workers.min), a shorter cold start or a smaller "
        "scaling.value may.\n"
    )


def _setting(point: Point, case: Case) -> str:
    """A setting as endpoint.toml has it; an idle timeout that cannot act is left out."""
    most = f"max = {point.max_workers}"
    return f"{most}, idle_timeout_s = {point.idle_timeout_s:g}" if case.has_idle_timeout else most


def _times(times_s: Sequence[float]) -> str:
    ordered = sorted(times_s)
    return "".join(f"{quantile(ordered, percent):>{WIDTH}.2f}" for percent in PERCENTS)


def _lines(*rows: tuple[str, str]) -> str:
    return "".join(f"{name:<{WIDTH}}{text}\n" for name, text in rows)
