"""A `Deployment` to the bodies of the REST API v2, and its answers back.

Invariant: an answer that lacks something, has null for it or has more than was known is read as far
as it goes; only an endpoint without an id or a name is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from sotto.endpoint.api import ApiError
from sotto.endpoint.deployment import Deployment
from sotto.endpoint.ids import ID

FLASHBOOT = {"off": "OFF", "on": "FLASHBOOT", "priority": "PRIORITY_FLASHBOOT"}
SCALERS = {
    "queue_delay": ("QUEUE_DELAY", "queueDelay"),
    "request_count": ("REQUEST_COUNT", "requestCount"),
}
MOST = 1e15
"""A number above it is none that anybody set."""
FLASHBOOT_MARK = " -fb"
"""What RunPod's older interfaces put behind the name of an endpoint with FlashBoot."""


@dataclass(frozen=True, slots=True)
class Live:
    """An endpoint that is there; its `cached_model` is not known, as REST does not tell it."""

    id: str
    deployment: Deployment


def create_body(deployment: Deployment) -> dict[str, Any]:
    """The CreateEndpointRequest that makes `deployment`."""
    body = _fields(deployment)
    gpu = {name: value for name, value in body.pop("gpu").items() if value}
    given = {name: value for name, value in body.items() if value not in (None, [])}
    return {"name": deployment.name, "type": "QUEUE", **given, "gpu": gpu}


def update_body(deployment: Deployment, changed: Set[str]) -> dict[str, Any]:
    """The UpdateEndpointRequest that brings the fields of `deployment` that are `changed`.

    What belongs together goes together: pools with their exclusions, all of the environment, all
    numbers of workers.
    """
    whole = _fields(deployment)
    parts = {name for field in changed for name in BODY_FIELDS[field]}
    body = {name: value for name, value in whole.items() if name in parts}
    gpu = {name: value for name, value in whole["gpu"].items() if f"gpu.{name}" in parts}
    return {**body, **({"gpu": gpu} if gpu else {})}


BODY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "registry": ("registry",),
    "disk_gb": ("disk",),
    "timeout_s": ("timeout",),
    "flashboot": ("flashboot",),
    "data_centers": ("dataCenterIds",),
    "network_volumes": ("networkVolumes",),
    "cached_model": (),
    "pools": ("gpu.pools", "gpu.excludedTypes"),
    "excluded_types": ("gpu.pools", "gpu.excludedTypes"),
    "gpu_count": ("gpu.count",),
    "min_cuda": ("gpu.minCudaVersion", "gpu.allowedCudaVersions"),
    "allowed_cuda": ("gpu.minCudaVersion", "gpu.allowedCudaVersions"),
    "workers_min": ("workers",),
    "workers_max": ("workers",),
    "idle_timeout_s": ("workers",),
    "scaling": ("workers", "scaling"),
    "scaling_value": ("scaling",),
    "env": ("env",),
}
"""Which parts of a body a field of a deployment is told by."""


def _fields(deployment: Deployment) -> dict[str, Any]:
    """All of a body but for the name and the type, which do not change."""
    kind, value_name = SCALERS[deployment.scaling or "queue_delay"]
    value = deployment.scaling_value or 0.0
    workers = {"min": deployment.workers_min, "max": deployment.workers_max}
    if kind == "QUEUE_DELAY":
        workers["idleTimeout"] = deployment.idle_timeout_s
    return {
        "image": deployment.image,
        "registry": deployment.registry or None,
        "disk": deployment.disk_gb,
        "timeout": round((deployment.timeout_s or 0.0) * 1000),
        "flashboot": FLASHBOOT[deployment.flashboot or "off"],
        "dataCenterIds": list(deployment.data_centers or ()),
        "networkVolumes": list(deployment.network_volumes or ()),
        "gpu": {
            "pools": list(deployment.pools or ()),
            "excludedTypes": list(deployment.excluded_types or ()),
            "count": deployment.gpu_count,
            "minCudaVersion": deployment.min_cuda,
            "allowedCudaVersions": list(deployment.allowed_cuda or ()),
        },
        "workers": workers,
        "scaling": {"type": kind, value_name: value if kind == "QUEUE_DELAY" else round(value)},
        "env": dict(deployment.env),
    }


def endpoints(answer: Any) -> list[Live]:
    """The endpoints of a ListEndpointsResponse. Raises ApiError for anything else."""
    listed = answer.get("endpoints") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise ApiError("GET /v2/serverless: the answer has no list of endpoints")
    read = (live(one) for one in listed)
    return [one for one in read if one is not None]


def live(answer: Any) -> Live | None:
    """The endpoint that `answer` tells of; None for what has no id or no name."""
    if not isinstance(answer, dict):
        return None
    id_, name = answer.get("id"), answer.get("name")
    if not isinstance(id_, str) or not ID.fullmatch(id_) or not isinstance(name, str):
        return None
    gpu, workers = _table(answer, "gpu"), _table(answer, "workers")
    scaling, scaling_value = _scaling(_table(answer, "scaling"))
    timeout_ms = _number(answer.get("timeout"))
    flashboot = _text(answer.get("flashboot"))
    idle_timeout_s = 0 if scaling == "request_count" else _whole(workers.get("idleTimeout"))
    deployment = Deployment(
        name=name.removesuffix(FLASHBOOT_MARK),
        kind="cpu" if answer.get("cpu") else (_text(answer.get("type")) or "queue").lower(),
        image=_text(answer.get("image")),
        registry=_text(answer.get("registry")) or "",
        disk_gb=_whole(answer.get("disk")),
        timeout_s=None if timeout_ms is None else timeout_ms / 1000,
        flashboot=next((ours for ours, theirs in FLASHBOOT.items() if theirs == flashboot), None),
        data_centers=_texts(answer.get("dataCenterIds")),
        network_volumes=_texts(answer.get("networkVolumes")),
        cached_model=None,
        pools=_texts(gpu.get("pools")),
        excluded_types=_texts(gpu.get("excludedTypes") or []),
        gpu_count=_whole(gpu.get("count", 1)),
        min_cuda=_text(gpu.get("minCudaVersion")) or "",
        allowed_cuda=_texts(gpu.get("allowedCudaVersions") or []),
        workers_min=_whole(workers.get("min")),
        workers_max=_whole(workers.get("max")),
        idle_timeout_s=idle_timeout_s,
        scaling=scaling,
        scaling_value=scaling_value,
        env={k: v for k, v in _table(answer, "env").items() if isinstance(v, str)},
    )
    return Live(id_, deployment)


def _scaling(told: dict[str, Any]) -> tuple[str | None, float | None]:
    for ours, (kind, value_name) in SCALERS.items():
        if told.get("type") == kind:
            return ours, _number(told.get(value_name))
    return None, None


def _table(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(part for part in value if isinstance(part, str))


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MOST:
        return None
    return float(value)


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else round(number)
