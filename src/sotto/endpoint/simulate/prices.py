"""What an hour of a GPU costs: the API's catalogue, kept in a file with the day it was asked.

Invariant: no price comes from here that the catalogue did not name, and each comes with its day.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sotto.endpoint import folders
from sotto.endpoint.api import Api, api_url, key_from
from sotto.endpoint.prices import catalogue
from sotto.endpoint.simulate.refusal import SimulationError

KEPT = "gpu-prices.json"
"""Where prices are kept, in the user's folder for caches."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a worker costs, in USD an hour. `told`: whose price it is, for people."""

    usd_an_hour: float
    told: str


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU that serverless workers can have, in its pool."""

    name: str
    pool: str
    usd_an_hour: float


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept: the GPUs, and the day of their prices, `2026-11-25`."""

    day: str
    gpus: tuple[Gpu, ...]


def prices(environ: Mapping[str, str], *, refresh: bool) -> Prices:
    """The prices that are kept, or the API's if there are none or fresh ones are wanted.

    Raises ApiError, SimulationError.
    """
    path = folders.cache(environ) / KEPT
    if not refresh:
        # What cannot be read is as good as not there: the API has it all.
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(path.read_bytes(), type=Prices)
    fresh = _asked(environ)
    _keep(fresh, path)
    return fresh


def price(gpu: str, known: Prices, excluded: Collection[str] = ()) -> Price:
    """The price of a pool, such as `ADA_24`, or of a GPU by name.

    A pool may hold several GPUs, and nobody knows which one a worker gets: the dearest counts that
    is not `excluded`. Raises SimulationError if there is no such GPU.
    """
    wanted = gpu.strip().lower()
    found = [one for one in known.gpus if one.name.lower() == wanted] or [
        one for one in known.gpus if one.pool.lower() == wanted and one.name not in excluded
    ]
    if not found:
        pools = ", ".join(sorted({one.pool for one in known.gpus})) or "none"
        raise SimulationError(
            f"--gpu: the catalogue of {known.day} has no {gpu[:60]!r} for serverless workers; "
            f"pools there are: {pools}; --refresh-prices asks again"
        )
    dearest = max(found, key=lambda one: (one.usd_an_hour, one.name))
    return Price(dearest.usd_an_hour, f"{dearest.name}, {dearest.pool}, catalogue of {known.day}")


def _asked(environ: Mapping[str, str]) -> Prices:
    """The API's prices of today, of all GPUs that serverless workers can have."""
    with Api(key_from(environ), api_url(environ)) as api:
        types = catalogue(api).types
    gpus = tuple(
        Gpu(one.id, one.pool, one.usd_an_hour)
        for one in types
        if one.pool is not None and one.usd_an_hour is not None
    )
    if not gpus:
        raise SimulationError("--gpu: the catalogue has no price of any GPU; give --price")
    return Prices(datetime.now(UTC).date().isoformat(), gpus)


def _keep(known: Prices, path: Path) -> None:
    """Write the prices down; where nothing can be written they are asked for again next time."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(known))
        part.replace(path)
