"""What is live and what is wanted, compared: every difference out, a line each.

Invariant: what is equal gives no change, so that a second apply sends nothing; no change shows a
value of the environment, and what it shows of the platform is one printable line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sotto.endpoint.deployment import DeployError, Deployment

KEYS = {
    "image": "image",
    "registry": "registry",
    "disk_gb": "disk_gb",
    "timeout_s": "timeout_s",
    "flashboot": "flashboot",
    "data_centers": "data_centers",
    "network_volumes": "network_volumes",
    "cached_model": "cached_model",
    "pools": "gpu.pools",
    "excluded_types": "gpu.excluded_types",
    "gpu_count": "gpu.count",
    "min_cuda": "gpu.min_cuda",
    "allowed_cuda": "gpu.allowed_cuda",
    "workers_min": "workers.min",
    "workers_max": "workers.max",
    "idle_timeout_s": "workers.idle_timeout_s",
    "scaling": "scaling.kind",
    "scaling_value": "scaling.value",
}
"""The fields of a deployment and the keys of endpoint.toml, but for the environment."""
EMPTY = {
    "registry": "none",
    "data_centers": "all",
    "network_volumes": "none",
    "cached_model": "none",
    "pools": "none",
    "excluded_types": "none",
    "min_cuda": "any",
    "allowed_cuda": "any",
    "idle_timeout_s": "none",
}
"""What it means that a field has nothing."""
UNITS = {"timeout_s": " s", "idle_timeout_s": " s", "disk_gb": " GB"}
ORDERED = frozenset({"pools"})
SHOWN_LETTERS = 200

Action = Literal["add", "change", "remove"]
Value = str | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `field`: of the deployment; `before`, `after`: in words.

    Of a variable of the environment both are "", as its value is nobody's to read.
    """

    field: str
    key: str
    action: Action
    before: str
    after: str


def difference(live: Deployment | None, wanted: Deployment) -> tuple[Change, ...]:
    """What is to change for `live` to become `wanted`; `live` is None where there is nothing yet.

    Raises DeployError for a live endpoint that no update turns into what is wanted.
    """
    if live is not None and live.kind != wanted.kind:
        raise DeployError(
            f"'{live.name}' is there, but it is not a queue of GPU workers (it is "
            f"{printable(str(live.kind))}), and RunPod cannot turn it into one; destroy it, or use "
            "another name"
        )
    return (*_fields(live, wanted), *_variables(live, wanted))


def _fields(live: Deployment | None, wanted: Deployment) -> Iterator[Change]:
    for field, key in KEYS.items():
        after: Value = getattr(wanted, field)
        if after is None:
            continue
        if live is None:
            if after or field not in EMPTY:
                yield Change(field, key, "add", "", words(field, after))
            continue
        before: Value = getattr(live, field)
        if not _is_equal(field, before, after):
            yield Change(field, key, "change", words(field, before), words(field, after))


def _variables(live: Deployment | None, wanted: Deployment) -> Iterator[Change]:
    before = {} if live is None else live.env
    for name in sorted({*before, *wanted.env}):
        action: Action = "change"
        if name not in before:
            action = "add"
        elif name not in wanted.env:
            action = "remove"
        elif before[name] == wanted.env[name]:
            continue
        yield Change("env", f"env.{printable(name)}", action, "", "")


def words(field: str, value: Value) -> str:
    """A value of a field as a person would say it."""
    if value is None:
        return "unknown"
    if not value and field in EMPTY:
        return EMPTY[field]
    if isinstance(value, tuple):
        return printable(", ".join(value))
    if isinstance(value, str):
        return printable(value)
    return f"{value:.12g}{UNITS.get(field, '')}"


def printable(text: str) -> str:
    """`text` without what a terminal would act on, and not long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return line if len(line) <= SHOWN_LETTERS else f"{line[: SHOWN_LETTERS - 3]}..."


def _is_equal(field: str, before: Value, after: Value) -> bool:
    if isinstance(before, tuple) and isinstance(after, tuple) and field not in ORDERED:
        return set(before) == set(after)
    if isinstance(before, int | float) and isinstance(after, int | float):
        return math.isclose(before, after, rel_tol=1e-6)  # the API's are floats of 32 bits
    return before == after
