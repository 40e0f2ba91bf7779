"""RunPod's GPU catalogue: what a worker's hour costs, by pool and by GPU type.

Invariant: a price comes from the catalogue or is unknown; none is kept here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sotto.endpoint.api import Api

GPUS = "/v2/catalog/gpus"
MOST_USD = 1e6
"""What nobody pays for an hour of a GPU."""


@dataclass(frozen=True, slots=True)
class Spread:
    """From so many US dollars to so many."""

    low_usd: float
    high_usd: float

    def times(self, factor: float) -> Spread:
        """The same, `factor` times."""
        return Spread(self.low_usd * factor, self.high_usd * factor)


@dataclass(frozen=True, slots=True)
class Rate:
    """What an hour of a worker costs; `unpriced`: the pools of which nothing is known.

    `hour`: None where nothing is known of any.
    """

    hour: Spread | None
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GpuType:
    """A row of the catalogue. `usd_an_hour`: the list price for serverless, None if unknown."""

    id: str
    pool: str | None
    usd_an_hour: float | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The GPU types of RunPod."""

    types: tuple[GpuType, ...]

    def rate(self, pools: Collection[str], excluded_types: Collection[str]) -> Rate:
        """What a worker's hour costs on one of `pools`, whichever type of theirs it gets."""
        prices: list[float] = []
        unpriced = []
        for pool in pools:
            types = [one for one in self.types if one.pool == pool and one.id not in excluded_types]
            known = [one.usd_an_hour for one in types if one.usd_an_hour is not None]
            prices += known
            if not known or len(known) < len(types):
                unpriced.append(pool)
        hour = Spread(min(prices), max(prices)) if prices else None
        return Rate(hour, tuple(unpriced))

    def usd_an_hour(self, type_id: str) -> float | None:
        """What an hour of a worker on this type costs; None if unknown."""
        return next((one.usd_an_hour for one in self.types if one.id == type_id), None)


def catalogue(api: Api) -> Catalogue:
    """The catalogue as it is now; rows that make no sense are left out. Raises ApiError."""
    answer = api.get(GPUS)
    rows = answer.get("gpus") if isinstance(answer, dict) else None
    read = (_gpu_type(row) for row in (rows if isinstance(rows, list) else ()))
    return Catalogue(tuple(one for one in read if one is not None))


def _gpu_type(row: Any) -> GpuType | None:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        return None
    pool, price = row.get("pool"), row.get("price")
    usd = price.get("serverless") if isinstance(price, dict) else None
    if not isinstance(usd, int | float) or isinstance(usd, bool) or not 0 < usd < MOST_USD:
        usd = None
    return GpuType(row["id"], pool if isinstance(pool, str) else None, usd)
