"""endpoint.toml in, a checked `Endpoint` out.

Invariant: a file that is refused is refused with all its faults, each with the line it stands on,
and no value of `env` is ever shown.
"""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

import msgspec

from sotto.endpoint.faults import Fault, Key, faults, lines, told, without
from sotto.endpoint.rules import conflicts, undeployable
from sotto.endpoint.shape import QUEUE_IDLE_S, Endpoint, Gpu, Scaling, Workers

__all__ = [
    "QUEUE_IDLE_S",
    "Endpoint",
    "EndpointError",
    "Gpu",
    "Scaling",
    "Workers",
    "load",
    "parse",
]

LOAD_BALANCERS = frozenset({"load-balancer", "load-balancing", "lb"})
NO_LOAD_BALANCER = (
    "the worker takes its jobs from a queue and opens no port over which to balance load"
)
NO_SECOND_GPU = (
    "a worker's model runs on one GPU and others would idle at your cost; allow more workers, or "
    "pools of larger GPUs"
)


class EndpointError(Exception):
    """One line for each fault of an endpoint.toml."""


def load(path: Path, *, to_deploy: bool = False) -> Endpoint:
    """Read an endpoint.toml. Raises EndpointError with one line for each fault.

    `to_deploy`: what RunPod needs is needed too.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EndpointError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EndpointError(f"{path}: not text in UTF-8") from None
    return parse(text, str(path), to_deploy=to_deploy)


def parse(text: str, source: str = "endpoint.toml", *, to_deploy: bool = False) -> Endpoint:
    """The endpoint that `text` describes; `source` names it in messages. Raises EndpointError."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise EndpointError(f"{source}: not TOML: nested too deeply") from None
    except ValueError as error:
        raise EndpointError(f"{source}: not TOML: {error}") from None
    found = [_explained(fault, table) for fault in faults(Endpoint, table)]
    wrong = {fault.key for fault in found}
    endpoint = msgspec.convert({"name": "unnamed", **without(table, wrong)}, Endpoint)
    rules = chain(conflicts(endpoint), undeployable(endpoint) if to_deploy else ())
    found += [fault for keys, fault in rules if not any(_is_within(key, wrong) for key in keys)]
    if found:
        line_of = lines(text)
        rows = sorted((line_of.get(key, 1), told(key), reason) for key, reason in found)
        raise EndpointError("\n".join(f"{source}:{n}: {key}: {why}" for n, key, why in rows))
    return endpoint


def _is_within(key: Key, wrong: set[Key]) -> bool:
    """Is the key, or a table that holds it, one of those that are wrong?"""
    return any(key[: end + 1] in wrong for end in range(len(key)))


def _explained(fault: Fault, table: dict[str, object]) -> Fault:
    """The fault, with the reason why it is one where a person may well expect otherwise."""
    kind = str(table.get("type")).lower().replace("_", "-")
    if fault.key == ("type",) and kind in LOAD_BALANCERS:
        return Fault(fault.key, f"{fault.reason}: {NO_LOAD_BALANCER}")
    gpu = table.get("gpu")
    count = gpu.get("count") if isinstance(gpu, dict) else None
    if fault.key == ("gpu", "count") and isinstance(count, int) and count > 1:
        return Fault(fault.key, f"{fault.reason}: {NO_SECOND_GPU}")
    return fault
