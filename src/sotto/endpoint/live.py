"""What the API tells of an endpoint: itself, its workers, its releases, its jobs.

Invariant: reads only. An answer that lacks something is read as far as it goes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.deployment import DeployError
from sotto.endpoint.difference import printable
from sotto.endpoint.wire import Live, endpoints, live

ENDPOINTS = "/v2/serverless"
STATUSES = ("running", "idle", "initializing", "throttled", "unhealthy")
READY = frozenset({"running", "idle"})


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker. `status`: one of STATUSES, or what else the API says; `gpu_type`: None if unknown.

    `is_stale`: it runs an older release.
    """

    status: str
    gpu_type: str | None
    gpus: int
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Release:
    """The newest release of an endpoint, and how far its workers have come to it."""

    version: int | None
    created_at: str
    workers_on_it: int | None
    workers: int | None


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many jobs are where; None where the API does not say."""

    waiting: int | None
    running: int | None
    completed: int | None
    failed: int | None


def find(api: Api, name: str) -> Live | None:
    """The endpoint called `name`. Raises ApiError, and DeployError if there are several."""
    found = [one for one in endpoints(api.get(ENDPOINTS)) if one.deployment.name == name]
    if len(found) > 1:
        ids = ", ".join(sorted(one.id for one in found))
        raise DeployError(
            f"{len(found)} endpoints are called '{name}': {ids}; leave one and destroy the others: "
            "sotto endpoint destroy --id ID"
        )
    return found[0] if found else None


def look_at(api: Api, id_: str) -> Live:
    """The endpoint with this id. Raises ApiError."""
    path = f"{ENDPOINTS}/{id_}"
    found = live(api.get(path))
    if found is None:
        raise ApiError(f"GET {path}: the answer is no endpoint")
    return found


def workers(api: Api, id_: str) -> tuple[Worker, ...]:
    """The workers that there are now. Raises ApiError."""
    return tuple(
        Worker(
            status=printable(str(one.get("status", "unknown"))).lower(),
            gpu_type=one["gpuTypeId"] if isinstance(one.get("gpuTypeId"), str) else None,
            gpus=_count(one.get("gpuCount")) or 1,
            is_stale=one.get("isStale") is True,
        )
        for one in _rows(api.get(f"{ENDPOINTS}/{id_}/workers"), "workers")
    )


def counted(crew: tuple[Worker, ...]) -> str:
    """How many workers are how, in words."""
    counts = Counter(one.status for one in crew)
    known = [status for status in STATUSES if counts[status]]
    others = sorted(set(counts).difference(STATUSES))
    return ", ".join(f"{counts[status]} {status}" for status in [*known, *others]) or "none"


def ready(crew: tuple[Worker, ...]) -> int:
    """How many workers can take a job on the newest release."""
    return sum(one.status in READY and not one.is_stale for one in crew)


def newest_release(api: Api, id_: str) -> Release | None:
    """The newest release; None if there is none. Raises ApiError."""
    answer = api.get(f"{ENDPOINTS}/{id_}/releases")
    rows = _rows(answer, "releases")
    if not rows:
        return None
    told = answer.get("rollout")
    rollout = told if isinstance(told, dict) else {}
    version = rows[0].get("version")
    return Release(
        version=_count(answer.get("endpointVersion") if version is None else version),
        created_at=printable(str(rows[0].get("createdAt") or "an unknown time")),
        workers_on_it=_count(rollout.get("workersOnLatest")),
        workers=_count(rollout.get("workersTotal")),
    )


def jobs(api: Api, id_: str) -> Jobs:
    """The jobs of an endpoint, by its own health. `api`: at JOBS_URL. Raises ApiError."""
    path = f"/v2/{id_}/health"
    answer = api.get(path)
    if not isinstance(answer, dict):
        raise ApiError(f"GET {path}: the answer does not tell the endpoint's health")
    told = answer.get("jobs")
    counts = told if isinstance(told, dict) else {}
    return Jobs(
        waiting=_count(counts.get("inQueue")),
        running=_count(counts.get("inProgress")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
    )


def _rows(answer: Any, name: str) -> list[dict[str, Any]]:
    listed = answer.get(name) if isinstance(answer, dict) else None
    return [row for row in (listed if isinstance(listed, list) else []) if isinstance(row, dict)]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
