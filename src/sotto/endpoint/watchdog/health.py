"""A RunPod endpoint as a queue: what its `/health` says of its jobs.

Invariant: an answer that lacks a number is not taken for an empty queue.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.watchdog.sight import Reading, Unreadable

Count = Annotated[int, Meta(ge=0)]


# The answer holds more, and the platform adds to it.
class _Jobs(msgspec.Struct, frozen=True, rename="camel"):
    in_queue: Count
    in_progress: Count
    completed: Count = 0
    failed: Count = 0
    retried: Count = 0


class _Health(msgspec.Struct, frozen=True):
    jobs: _Jobs


class EndpointQueue:
    """The queue of an endpoint; `api` is that of the clients."""

    def __init__(self, api: Api, endpoint_id: str) -> None:
        self.name = f"endpoint {endpoint_id}"
        self._api = api
        self._path = f"/v2/{endpoint_id}/health"

    def read(self) -> Reading:
        """How many jobs are where. Raises Unreadable."""
        try:
            jobs = msgspec.convert(self._api.get(self._path), _Health).jobs
        except ApiError as error:
            raise Unreadable(str(error)) from None
        except msgspec.ValidationError as error:
            raise Unreadable(f"GET {self._path}: not the health of an endpoint: {error}") from None
        return Reading(
            waiting=jobs.in_queue,
            in_progress=jobs.in_progress,
            progress=(jobs.completed, jobs.failed, jobs.retried),
        )
