"""What the options mean: the traffic, the worker, the endpoint and the price to simulate with.

Invariant: an option that is given acts or is refused by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from sotto.endpoint.config import Endpoint, load
from sotto.endpoint.faults import told
from sotto.endpoint.rules import conflicts
from sotto.endpoint.simulate import measured
from sotto.endpoint.simulate.arguments import IDLE_TIMEOUTS_S, MAX_WORKERS
from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.prices import Price, price, prices
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.service import ALONE, Service, batching
from sotto.endpoint.simulate.sweep import settings
from sotto.endpoint.simulate.trace import Day, Trace, generated, read

CONCURRENCY = "SOTTO_CONCURRENCY"
JOBS_AT_ONCE = 48
"""What a worker on a GPU takes if it is not told: enough for three calls of sixteen windows."""
OF_A_DAY = tuple(field.name for field in dataclasses.fields(Day) if field.name != "jobs")
OF_A_WORKER = ("rtfx", "job_s", "batching", "cold_start_s")


def case(args: argparse.Namespace) -> Case:
    """All that is to be simulated. Raises SimulationError, EndpointError, ApiError."""
    endpoint = _endpoint(args)
    service, source = _worker(args, endpoint)
    cost = _price(args, endpoint)
    return Case(_traffic(args), endpoint, service, source, cost)


def tried(args: argparse.Namespace, endpoint: Endpoint) -> list[Endpoint]:
    """The settings to compare, the endpoint's own among them; none if that was not asked for.

    Raises SimulationError if none can act.
    """
    lists = _given(args, ("sweep_idle_s", "sweep_max"))
    if not lists and args.target is None and args.plot is None:
        return []
    if endpoint.scaling.kind != "queue_delay":
        _refuse(
            lists.keys() & {"sweep_idle_s"},
            "with request_count the number of jobs alone decides when a worker goes",
        )
    return settings(
        endpoint,
        idle_timeouts_s=(*lists.get("sweep_idle_s", IDLE_TIMEOUTS_S), endpoint.idle_timeout_s),
        max_workers=(*lists.get("sweep_max", MAX_WORKERS), endpoint.workers.max),
    )


def _endpoint(args: argparse.Namespace) -> Endpoint:
    """The endpoint of the file, changed by the options. Raises EndpointError, SimulationError."""
    filed = load(args.endpoint)
    if args.scaler not in (None, filed.scaling.kind):
        if args.scaler_value is None:
            raise SimulationError(f"--scaler-value: missing; {args.endpoint} has one for the other")
        filed = replace(filed, workers=replace(filed.workers, idle_timeout_s=None))
    workers = {
        "min": args.min_workers,
        "max": args.max_workers,
        "idle_timeout_s": args.idle_timeout_s,
    }
    scaling = {"kind": args.scaler, "value": args.scaler_value}
    changed = replace(
        filed,
        workers=replace(filed.workers, **_present(workers)),
        scaling=replace(filed.scaling, **_present(scaling)),
    )
    faults = [f"{told(fault.key)}: {fault.reason}" for _, fault in conflicts(changed)]
    if faults:
        raise SimulationError("\n".join(faults))
    return changed


def _traffic(args: argparse.Namespace) -> Trace:
    """The trace to simulate. Raises SimulationError."""
    given = _given(args, OF_A_DAY)
    if args.trace is None:
        return generated(Day(args.jobs_per_day, **given))
    _refuse(given, "--trace says when jobs come and how long they are")
    return read(args.trace)


def _worker(args: argparse.Namespace, endpoint: Endpoint) -> tuple[Service, str]:
    """What a worker can do, and where that is known from. Raises SimulationError."""
    if args.rows:
        known = measured.measured(measured.read(args.rows), args.variant)
    else:
        _refuse(_given(args, ("variant",)), "there are no --rows to choose from")
        known = measured.NOTHING
    given = _given(args, OF_A_WORKER)
    if "batching" in given:
        given["batching"] = batching(args.batching)
    rows_say, known = known.told, dataclasses.replace(known, **given)
    if known.rtfx is None:
        raise SimulationError("--rows, --rtfx: give what the bench has measured, or a speed")
    if known.cold_start_s is None:
        raise SimulationError("--cold-start-s: not measured; give what a cold start takes")
    sources = [rows_say, f"given: {', '.join(map(_flag, given))}" if given else ""]
    unknown = [name for name in ("job_s", "batching") if getattr(known, name) is None]
    if unknown:
        sources.append(f"not known, and taken as none: {', '.join(map(_flag, unknown))}")
    does = Service(
        rtfx=known.rtfx,
        job_s=known.job_s or 0.0,
        batching=known.batching or ALONE,
        cold_start_s=known.cold_start_s,
        concurrency=args.concurrency or _concurrency(endpoint),
    )
    return does, "; ".join(filter(None, sources))


def _price(args: argparse.Namespace, endpoint: Endpoint) -> Price:
    """What an hour of a worker costs. Raises SimulationError, ApiError."""
    if args.price is not None:
        _refuse(["refresh_prices"] if args.refresh_prices else [], "--price needs no catalogue")
        return Price(args.price, "as given")
    pools = [args.gpu] if args.gpu is not None else endpoint.gpu.pools[:1]
    if not pools:
        raise SimulationError(
            "--price, --gpu: give USD an hour, or the pool or the GPU whose price in RunPod's "
            "catalogue counts, such as ADA_24"
        )
    known = prices(os.environ, refresh=args.refresh_prices)
    return price(pools[0], known, endpoint.gpu.excluded_types)


def _concurrency(endpoint: Endpoint) -> int:
    """The setting of the workers, unless it leaves the number to them."""
    text = endpoint.env.get(CONCURRENCY, "")
    return (int(text) if re.fullmatch(r"[0-9]{1,6}", text.strip()) else 0) or JOBS_AT_ONCE


def _given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return _present({name: getattr(args, name) for name in names})


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _refuse(names: Iterable[str], reason: str) -> None:
    """Raise SimulationError if there is an option that could not act."""
    flags = ", ".join(map(_flag, names))
    if flags:
        raise SimulationError(f"{flags}: cannot act: {reason}; leave it out")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
