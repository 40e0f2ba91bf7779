"""What clients ask of an endpoint: run, runsync, status, stream, cancel, retry, purge, health.

Invariant: a body is checked whole before a job exists, and what is not this endpoint's or not
known is answered 404.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from sotto.gateway import wire
from sotto.gateway.job import Order, Policy
from sotto.gateway.jobs import Jobs
from sotto.gateway.openai import OpenAi

DAY_MS = 86_400_000
WAIT_MS = (1_000, 300_000)
DEFAULT_WAIT_MS = "90000"
STREAM_WAIT_S = 1.0


class GivenPolicy(msgspec.Struct, frozen=True, rename="camel"):
    """A job's own policy; None: the endpoint's."""

    execution_timeout: Annotated[int, Meta(ge=5_000, le=7 * DAY_MS)] | None = None
    ttl: Annotated[int, Meta(ge=10_000, le=7 * DAY_MS)] | None = None
    low_priority: bool | None = None

    def over(self, policy: Policy) -> Policy:
        """The endpoint's `policy` with what is given here."""
        if self.execution_timeout is not None:
            policy = replace(policy, execution_timeout_s=self.execution_timeout / 1000)
        if self.ttl is not None:
            policy = replace(policy, ttl_s=self.ttl / 1000)
        if self.low_priority is not None:
            policy = replace(policy, low_priority=self.low_priority)
        return policy


class Submission(msgspec.Struct, frozen=True, rename="camel"):
    """The body of `/run` and `/runsync`; None is the same as not given."""

    input: dict[str, Any]
    webhook: Annotated[str, Meta(pattern=r"^https?://[^/]")] | None = None
    policy: GivenPolicy | None = None
    s3_config: dict[str, Any] | None = None


class JobCounts(msgspec.Struct, frozen=True, rename="camel"):
    """`jobs` of `/health`."""

    completed: int
    failed: int
    in_progress: int
    in_queue: int
    retried: int


class WorkerCounts(msgspec.Struct, frozen=True):
    """`workers` of `/health`."""

    idle: int
    running: int
    initializing: int
    ready: int
    unhealthy: int
    throttled: int = 0


class Clients:
    """The clients' side of an endpoint.

    `policy` holds for a job that names none. `unhealthy` tells how many workers are.
    """

    def __init__(self, jobs: Jobs, key: str, policy: Policy, unhealthy: Callable[[], int]) -> None:
        self._jobs = jobs
        self._key = key
        self._policy = policy
        self._unhealthy = unhealthy

    def app(self) -> web.Application:
        """The routes, behind the bearer key."""
        openai = OpenAi(self._jobs, self._policy)
        app = web.Application(middlewares=[wire.keyed(self._key, _bearer)])
        app.add_routes(
            [
                web.post("/run", self.run),
                web.post("/runsync", self.runsync),
                web.get("/status/{job}", self.status),
                web.get("/stream/{job}", self.stream),
                web.post("/cancel/{job}", self.cancel),
                web.post("/retry/{job}", self.retry),
                web.post("/purge-queue", self.purge),
                web.get("/health", self.health),
                web.get("/openai/{path:.*}", openai.get),
                web.post("/openai/{path:.*}", openai.post),
            ]
        )
        return app

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Queue a job and answer at once."""
        order = await self._order(request, wire.RUN_BYTES, sync=False)
        return wire.answer(self._jobs.submit(order).status())

    async def runsync(self, request: web.Request) -> web.StreamResponse:
        """Queue a job and answer at its end, or after `wait` milliseconds."""
        wait_s = _wait_s(request)
        order = await self._order(request, wire.RUNSYNC_BYTES, sync=True)
        job = self._jobs.submit(order)
        await self._jobs.end(job, wait_s)
        return wire.answer(job.status())

    async def status(self, request: web.Request) -> web.StreamResponse:
        """A job as it is now."""
        return wire.answer(self._jobs.get(request.match_info["job"]).status())

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """What has come of a job since the last call."""
        job = self._jobs.get(request.match_info["job"])
        items = await self._jobs.stream(job, STREAM_WAIT_S)
        stream = [{"output": item} for item in items]
        return wire.answer({"status": job.state, "stream": stream})

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """End a job."""
        job = self._jobs.cancel(request.match_info["job"])
        return wire.answer({"id": job.id, "status": job.state})

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Queue a failed job again."""
        job = self._jobs.retry(request.match_info["job"])
        return wire.answer({"id": job.id, "status": job.state})

    async def purge(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Empty the queue."""
        return wire.answer({"removed": self._jobs.purge(), "status": "completed"})

    async def health(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """How many jobs and workers are where."""
        jobs, census = self._jobs, self._jobs.census()
        return wire.answer(
            {
                "jobs": JobCounts(
                    completed=jobs.completed,
                    failed=jobs.failed,
                    in_progress=jobs.in_progress(),
                    in_queue=jobs.in_queue(),
                    retried=jobs.retried,
                ),
                "workers": WorkerCounts(
                    idle=census.idle,
                    running=census.running,
                    initializing=census.initializing,
                    ready=census.idle + census.running,
                    unhealthy=self._unhealthy(),
                ),
            }
        )

    async def _order(self, request: web.Request, limit_bytes: int, *, sync: bool) -> Order:
        given = wire.decoded(await wire.body(request, limit_bytes), Submission)
        return Order(
            input=given.input,
            policy=(given.policy or GivenPolicy()).over(self._policy),
            sync=sync,
            webhook=given.webhook,
            s3_config=given.s3_config,
        )


def _bearer(request: web.Request) -> str:
    """The key of a client: the platform takes it with and without the word before it."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _wait_s(request: web.Request) -> float:
    text = request.query.get("wait", DEFAULT_WAIT_MS)
    least_ms, most_ms = WAIT_MS
    if not re.fullmatch(r"[0-9]{4,6}", text) or not least_ms <= int(text) <= most_ms:
        reason = f"wait: {text[:40]!r} is not allowed; use {least_ms} to {most_ms} milliseconds"
        raise web.HTTPBadRequest(text=reason)
    return int(text) / 1000
