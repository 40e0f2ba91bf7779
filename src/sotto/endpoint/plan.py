"""What an apply would do, and what that costs: the wanted, the live and the prices, together.

Invariant: reads only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sotto.endpoint import models_api
from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.cost import Step, consequence
from sotto.endpoint.deployment import Deployment
from sotto.endpoint.difference import Change, difference
from sotto.endpoint.live import find, look_at
from sotto.endpoint.prices import Catalogue, Rate, catalogue
from sotto.endpoint.wire import Live


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to change, each with its consequence for the bill in words.

    `live`: None where there is no endpoint yet. `notes`: what else to know, a line each.
    """

    wanted: Deployment
    live: Live | None
    changes: tuple[tuple[Change, str], ...]
    rate: Rate
    notes: tuple[str, ...]


def make(api: Api, wanted: Deployment) -> Plan:
    """Compare `wanted` with what is there. Raises ApiError, DeployError."""
    live = find(api, wanted.name)
    if live is not None:
        live = with_model(api, live, wanted)
    prices, notes = _prices(api, wanted)
    before = None if live is None else live.deployment
    step = Step(
        before=before,
        after=wanted,
        rate_before=None if before is None else _rate(prices, before),
        rate=_rate(prices, wanted),
    )
    changes = difference(before, wanted)
    told = tuple((change, consequence(change, step)) for change in changes)
    return Plan(wanted, live, told, step.rate, (*notes, *_image_notes(wanted)))


def current(api: Api, id_: str, wanted: Deployment) -> Live:
    """The endpoint with this id, as far as `wanted` needs to know it. Raises ApiError."""
    return with_model(api, look_at(api, id_), wanted)


def with_model(api: Api, live: Live, wanted: Deployment) -> Live:
    """`live` with its cached model, if one is wanted, or none. Raises ApiError."""
    if wanted.cached_model is None:
        return live
    model = models_api.cached_model(api, live.id)
    return replace(live, deployment=replace(live.deployment, cached_model=model))


def _prices(api: Api, wanted: Deployment) -> tuple[Catalogue, list[str]]:
    """The catalogue, empty if it cannot be had, and what to know of it."""
    try:
        prices = catalogue(api)
    except ApiError as error:
        return Catalogue(()), [f"prices are unknown: {error}"]
    known = {one.pool for one in prices.types if one.pool}
    strangers = [pool for pool in wanted.pools or () if pool not in known]
    listed = ", ".join(sorted(known))
    return prices, [f"gpu.pools: {one} is not in the catalogue: {listed}" for one in strangers]


def _rate(prices: Catalogue, deployment: Deployment) -> Rate:
    gpu = prices.rate(deployment.pools or (), deployment.excluded_types or ())
    return Rate(gpu.hour and gpu.hour.times(deployment.gpu_count or 1), gpu.unpriced)


def _image_notes(wanted: Deployment) -> list[str]:
    name, _, tag = (wanted.image or "").rpartition("/")[2].partition(":")
    if "@" in name + tag or tag not in ("", "latest"):
        return []
    return [
        f"image: {wanted.image} has no tag of its own, so that another build under the same name "
        "is no change, and workers may run either"
    ]
