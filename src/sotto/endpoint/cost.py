"""What settings cost, and what a change of them does to that, in words.

Invariant: pure; every amount is a list price from the catalogue times something that is said with
it, and what is unknown is called so. Amounts are US dollars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sotto.endpoint.deployment import Deployment
from sotto.endpoint.difference import Change
from sotto.endpoint.prices import Rate, Spread

MINUTES_A_DAY = 24 * 60
SMALLEST_USD = 0.0001
UNKNOWN = "an unknown amount (no price in the catalogue)"
UNPRICED = "unknown, as the catalogue has no price for it"
NOTHING = "nothing by itself"
ROLLOUT = f"{NOTHING}; workers are replaced, and each start is billed like work"
PLACES = f"{NOTHING}; the fewer machines fit, the longer workers wait for one"
STARTS = f"{NOTHING}; the sooner workers start the more starts are billed, like work"


@dataclass(frozen=True, slots=True)
class Costs:
    """What settings cost; None where no price is known.

    `idle_minute`: a minute without a job, once no worker stays but those that always do.
    `stay`: a worker's stay after its last job. `hour_at_most`: an hour with all workers at work.
    """

    worker_hour: Spread | None
    idle_minute: Spread | None
    stay: Spread | None
    hour_at_most: Spread | None


@dataclass(frozen=True, slots=True)
class Step:
    """From one deployment, or none, to another, with what a worker costs before and after."""

    before: Deployment | None
    after: Deployment
    rate_before: Rate | None
    rate: Rate

    def number(self, field: str) -> tuple[float, float]:
        """A number before and after; 0 for one that is not known."""
        return getattr(self.before, field, None) or 0, getattr(self.after, field, None) or 0

    def more(self, field: str, hours: float) -> tuple[float, str]:
        """By how much a number grows, and what as many workers cost for so many hours."""
        before, after = self.number(field)
        return after - before, amount(self.rate.hour, abs(after - before) * hours)


def costs(deployment: Deployment, rate: Rate) -> Costs:
    """What `deployment` costs."""
    hour = rate.hour
    least, most = deployment.workers_min or 0, deployment.workers_max or 0
    nothing = Spread(0.0, 0.0)
    stay_s = deployment.idle_timeout_s or 0
    return Costs(
        worker_hour=hour,
        idle_minute=nothing if not least else hour and hour.times(least / 60),
        stay=nothing if not stay_s else hour and hour.times(stay_s / 3600),
        hour_at_most=nothing if not most else hour and hour.times(most),
    )


def consequence(change: Change, step: Step) -> str:
    """What a change does to the bill."""
    computed = COMPUTED.get(change.field)
    if computed is not None:
        return computed(step)
    return ALWAYS[change.field] if step.before or change.field in AT_FIRST else NOTHING


def described(deployment: Deployment, rate: Rate) -> list[str]:
    """What `deployment` costs, a line for each thing that costs."""
    found = costs(deployment, rate)
    least, most = deployment.workers_min or 0, deployment.workers_max or 0
    lines = [f"a worker: {spread(found.worker_hour)} an hour, RunPod's list price{_unpriced(rate)}"]
    if least:
        day = found.idle_minute and found.idle_minute.times(MINUTES_A_DAY)
        lines.append(
            f"an idle minute: {spread(found.idle_minute)}, with {_workers(least)} always there; "
            f"{spread(day)} a day"
        )
    else:
        lines.append("an idle minute: nothing once the last worker has gone")
    if deployment.idle_timeout_s and most > least:
        lines.append(
            f"a worker's stay of {deployment.idle_timeout_s} s after its last job: "
            f"{spread(found.stay)}"
        )
    lines.append(
        f"at most: {spread(found.hour_at_most)} an hour, with {_workers(most)} at work"
        if most
        else "at most: nothing, as no worker may run; jobs wait until they expire"
    )
    return lines


def amount(hour: Spread | None, hours: float) -> str:
    """What so many hours of a worker cost."""
    return spread(hour and hour.times(hours))


def spread(usd: Spread | None) -> str:
    """An amount, or from which to which it may be."""
    if usd is None:
        return UNKNOWN
    low, high = dollars(usd.low_usd), dollars(usd.high_usd)
    return low if low == high else f"{low} to {high}"


def dollars(usd: float) -> str:
    """An amount with the digits that matter."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    if usd < SMALLEST_USD:
        return f"less than ${SMALLEST_USD}"
    cents, rest = f"{usd:.4f}"[:4], f"{usd:.4f}"[4:]
    return f"${cents}{rest.rstrip('0')}"


def _pools(step: Step) -> str:
    hour = f"{spread(step.rate.hour)} an hour{_unpriced(step.rate)}"
    if step.rate_before is None:
        return f"a worker costs {hour}"
    if step.rate_before == step.rate:
        return f"a worker costs what it did, {hour}; workers are replaced"
    return f"a worker costs {hour}, where it was {spread(step.rate_before.hour)}"


def _least(step: Step) -> str:
    by, minute = step.more("workers_min", 1 / 60)
    day = amount(step.rate.hour, abs(by) * MINUTES_A_DAY / 60)
    if by > 0:
        more = " more" if step.number("workers_min")[0] else ""
        there = f"{_workers(by)}{more} always there"
        return f"an idle minute costs {minute}{more} ({day} a day), with {there}"
    if by < 0:
        return (
            f"an idle minute costs {minute} less ({day} a day); a job that comes after a pause may "
            "wait for a worker to start"
        )
    return "no worker is there without jobs, so an idle minute costs nothing"


def _most(step: Step) -> str:
    by, hour = step.more("workers_max", 1)
    if not step.number("workers_max")[1]:
        return "no worker may run: jobs cost nothing and wait until they expire"
    if by > 0:
        more = " more" if step.number("workers_max")[0] else ""
        return f"an hour with all workers at work costs {hour}{more} at most"
    return f"an hour with all workers at work costs {hour} less; jobs may wait longer"


def _idle(step: Step) -> str:
    by, each = step.more("idle_timeout_s", 1 / 3600)
    if by > 0:
        more = " more" if step.number("idle_timeout_s")[0] else ""
        return f"each stay of a worker after its last job costs up to {each}{more} ({by:g} s{more})"
    return (
        f"each stay of a worker after its last job costs up to {each} less ({-by:g} s less); more "
        "jobs wait for a worker to start"
    )


def _timeout(step: Step) -> str:
    seconds = step.number("timeout_s")[1]
    hang = amount(step.rate.hour, seconds / 3600)
    return f"a job that hangs costs up to {hang} ({seconds:g} s of a worker) before it is stopped"


def _flashboot(step: Step) -> str:
    if step.after.flashboot == "off":
        return f"{NOTHING}; a worker that went starts from the beginning"
    return f"{UNPRICED}; a worker that went comes back faster"


COMPUTED: Mapping[str, Callable[[Step], str]] = {
    "timeout_s": _timeout,
    "pools": _pools,
    "excluded_types": _pools,
    "gpu_count": _pools,
    "workers_min": _least,
    "workers_max": _most,
    "idle_timeout_s": _idle,
    "flashboot": _flashboot,
}
"""For a field of a deployment, what a change of it costs by its numbers."""
ALWAYS = {
    "image": ROLLOUT,
    "registry": ROLLOUT,
    "env": ROLLOUT,
    "disk_gb": UNPRICED,
    "data_centers": PLACES,
    "min_cuda": PLACES,
    "allowed_cuda": PLACES,
    "network_volumes": "a volume is billed by its size, with workers or without",
    "cached_model": "nothing for its download; workers find it on their machine's disk",
    "scaling": STARTS,
    "scaling_value": STARTS,
}
"""For a field of a deployment, what a change of it costs whatever its numbers are."""
AT_FIRST = frozenset({"disk_gb", "network_volumes", "cached_model", "data_centers", "min_cuda"})
"""Those of them that cost, or save, from the start; the others replace what was there before."""


def _workers(number: float) -> str:
    return f"{number:g} worker{'' if number == 1 else 's'}"


def _unpriced(rate: Rate) -> str:
    return f"; unknown for {', '.join(rate.unpriced)}" if rate.hour and rate.unpriced else ""
