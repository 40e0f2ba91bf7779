"""A plan in words, and for a program.

Invariant: neither holds a value of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sotto.endpoint.cost import costs, described
from sotto.endpoint.difference import Change
from sotto.endpoint.plan import Plan
from sotto.endpoint.prices import Spread

SIGNS = {"add": "+", "change": "~", "remove": "-"}


def lines(plan: Plan) -> Iterator[str]:
    """The plan, a line for each change and one for what it costs."""
    yield heading(plan)
    for number, (change, consequence) in enumerate(plan.changes):
        yield f"  {SIGNS[change.action]} {_changed(change)}"
        following = plan.changes[number + 1 : number + 2]
        if not following or following[0][1] != consequence:
            yield f"      costs: {consequence}"
    yield "At these settings:"
    for line in described(plan.wanted, plan.rate):
        yield f"  {line}"
    for note in plan.notes:
        yield f"Note: {note}"


def heading(plan: Plan) -> str:
    """What would happen, in a line."""
    name = plan.wanted.name
    if plan.live is None:
        return f"'{name}' is not there yet and is to be created:"
    if not plan.changes:
        return f"'{name}' ({plan.live.id}) is as the file says."
    number = len(plan.changes)
    return f"'{name}' ({plan.live.id}) is to change in {number} thing{'s' * (number > 1)}:"


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program; amounts are US dollars, null where no price is known."""
    found = costs(plan.wanted, plan.rate)
    return {
        "name": plan.wanted.name,
        "id": None if plan.live is None else plan.live.id,
        "changes": [
            {
                "key": change.key,
                "action": change.action,
                "before": change.before or None,
                "after": change.after or None,
                "cost": consequence,
            }
            for change, consequence in plan.changes
        ],
        "costs_usd": {
            "worker_hour": _spread(found.worker_hour),
            "idle_minute": _spread(found.idle_minute),
            "stay_after_last_job": _spread(found.stay),
            "hour_at_most": _spread(found.hour_at_most),
            "pools_without_price": list(plan.rate.unpriced),
        },
        "notes": list(plan.notes),
    }


def _changed(change: Change) -> str:
    if change.field == "env":
        done = {"add": "set", "change": "changed", "remove": "removed"}
        return f"{change.key}: {done[change.action]}"
    if change.action == "add":
        return f"{change.key}: {change.after}"
    return f"{change.key}: {change.before} -> {change.after}"


def _spread(usd: Spread | None) -> dict[str, float] | None:
    return None if usd is None else {"low": usd.low_usd, "high": usd.high_usd}
