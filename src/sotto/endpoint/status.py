"""How an endpoint is now: workers, jobs, release, and what an idle minute costs at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.cost import UNKNOWN, dollars
from sotto.endpoint.difference import words
from sotto.endpoint.live import Jobs, Release, Worker, counted, jobs, newest_release, workers
from sotto.endpoint.prices import Catalogue, catalogue
from sotto.endpoint.wire import Live

IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Status:
    """An endpoint at one moment. `jobs`: None where its health cannot be had; `notes` say why.

    `idle_minute_usd`: what its idle workers cost in a minute; None if a price is unknown.
    """

    live: Live
    crew: tuple[Worker, ...]
    jobs: Jobs | None
    release: Release | None
    idle_minute_usd: float | None
    notes: tuple[str, ...]


def observe(api: Api, jobs_api: Api, live: Live) -> Status:
    """Look at an endpoint. Raises ApiError if its workers or releases cannot be had."""
    crew = workers(api, live.id)
    release = newest_release(api, live.id)
    notes = []
    found: Jobs | None = None
    try:
        found = jobs(jobs_api, live.id)
    except ApiError as error:
        notes.append(f"jobs are unknown: {error}")
    try:
        prices = catalogue(api)
    except ApiError as error:
        prices = Catalogue(())
        notes.append(f"prices are unknown: {error}")
    return Status(live, crew, found, release, _idle_minute_usd(prices, crew), tuple(notes))


def lines(status: Status) -> Iterator[str]:
    """The status, a line for each thing."""
    deployment = status.live.deployment
    least, most = words("workers_min", deployment.workers_min), words("", deployment.workers_max)
    yield f"endpoint  {deployment.name} ({status.live.id})"
    yield f"image     {words('image', deployment.image)}"
    yield f"release   {_release(status.release)}"
    yield f"workers   {counted(status.crew)}; from {least} to {most}"
    yield f"jobs      {_jobs(status.jobs)}"
    yield f"cost      {_cost(status)}"
    for note in status.notes:
        yield f"note      {note}"


def as_json(status: Status) -> dict[str, Any]:
    """The status for a program."""
    release, found = status.release, status.jobs
    return {
        "name": status.live.deployment.name,
        "id": status.live.id,
        "image": status.live.deployment.image,
        "workers": {
            "min": status.live.deployment.workers_min,
            "max": status.live.deployment.workers_max,
            "now": [
                {"status": one.status, "gpu_type": one.gpu_type, "is_stale": one.is_stale}
                for one in status.crew
            ],
        },
        "jobs": None
        if found is None
        else {
            "waiting": found.waiting,
            "running": found.running,
            "completed": found.completed,
            "failed": found.failed,
        },
        "release": None
        if release is None
        else {
            "version": release.version,
            "created_at": release.created_at,
            "workers_on_it": release.workers_on_it,
            "workers": release.workers,
        },
        "idle_minute_usd": status.idle_minute_usd,
        "notes": list(status.notes),
    }


def _idle_minute_usd(prices: Catalogue, crew: tuple[Worker, ...]) -> float | None:
    total = 0.0
    for one in crew:
        if one.status == IDLE:
            hour = None if one.gpu_type is None else prices.usd_an_hour(one.gpu_type)
            if hour is None:
                return None
            total += one.gpus * hour / 60
    return total


def _cost(status: Status) -> str:
    idle = [one for one in status.crew if one.status == IDLE]
    if not idle:
        return "an idle minute costs nothing now: no worker is idle"
    usd = status.idle_minute_usd
    minute = UNKNOWN if usd is None else dollars(usd)
    return f"an idle minute costs {minute} now, with {len(idle)} idle, by RunPod's list price"


def _release(release: Release | None) -> str:
    if release is None:
        return "none"
    version = "unknown" if release.version is None else release.version
    text = f"{version} of {release.created_at}"
    if release.workers:
        on_it = "an unknown number" if release.workers_on_it is None else release.workers_on_it
        text += f"; {on_it} of {release.workers} workers run it"
    return text


def _jobs(found: Jobs | None) -> str:
    if found is None:
        return "unknown"
    counts = {
        "waiting": found.waiting,
        "running": found.running,
        "completed": found.completed,
        "failed": found.failed,
    }
    return ", ".join(f"{'unknown' if n is None else n} {state}" for state, n in counts.items())
