"""What the SDK's workers ask and tell: job-take, job-done, job-stream, job-stop, ping.

Invariant: a job that could not be handed over is in the queue again, and a result is either kept
or refused with an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from sotto.gateway import wire
from sotto.gateway.job import Job
from sotto.gateway.jobs import Jobs


class Handed(msgspec.Struct, frozen=True, rename="camel"):
    """A job as a worker gets it."""

    id: str
    input: Mapping[str, Any]
    s3_config: Mapping[str, Any] | UnsetType = UNSET

    @classmethod
    def of(cls, job: Job) -> Handed:
        """The part of a job that is the worker's business."""
        config = job.order.s3_config
        return cls(job.id, job.order.input, UNSET if config is None else config)


class Done(msgspec.Struct, frozen=True, rename="camel"):
    """What is posted to job-done: a result, or progress if it says so."""

    status: Literal["IN_PROGRESS"] | UnsetType = UNSET
    output: Any = UNSET
    error: Any = None
    stop_pod: bool = False


class Streamed(msgspec.Struct, frozen=True):
    """What is posted to job-stream."""

    output: Any


class WorkersApi:
    """The workers' side of an endpoint. `poll_s`: how long a poll stays open with no news."""

    def __init__(self, jobs: Jobs, key: str, poll_s: float) -> None:
        self._jobs = jobs
        self._key = key
        self._poll_s = poll_s

    def app(self) -> web.Application:
        """The routes, behind the key that the workers' addresses carry."""
        # In the address, not the header: there the SDK prefers a key that a developer has stored.
        check = wire.keyed(self._key, lambda request: request.query.get("key", ""))
        app = web.Application(middlewares=[check])
        app.add_routes(
            [
                web.get("/job-take/{worker}", self.take),
                web.get("/job-take-batch/{worker}", self.take_batch),
                web.get("/job-stop/{worker}", self.stop),
                web.get("/ping/{worker}", self.ping),
                web.post("/job-done/{worker}/{job}", self.done),
                web.post("/job-stream/{worker}/{job}", self.stream),
            ]
        )
        return app

    def addresses(self, base_url: str) -> dict[str, str]:
        """The SDK's variables with these routes; the SDK fills in the ids.

        It appends parameters with `&`, so that each address must have a query.
        """
        query = f"?key={self._key}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base_url}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base_url}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base_url}/job-stream/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base_url}/ping/$RUNPOD_POD_ID{query}",
            "RUNPOD_AI_API_KEY": self._key,
        }

    async def take(self, request: web.Request) -> web.StreamResponse:
        """One job, or 204."""
        return await self._hand_over(request, None)

    async def take_batch(self, request: web.Request) -> web.StreamResponse:
        """A list of up to `batch_size` jobs, or 204."""
        size = request.query.get("batch_size", "")
        if not re.fullmatch(r"[1-9][0-9]{0,5}", size):
            raise web.HTTPBadRequest(text=f"batch_size: {size[:40]!r} is not a count of jobs")
        return await self._hand_over(request, int(size))

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """The jobs to stop, or 204."""
        told = await self._jobs.workers.stops(request.match_info["worker"], self._poll_s)
        return wire.answer({"jobsToStop": told}) if told else web.Response(status=204)

    async def ping(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Nothing: the SDK's ping process outlives its worker, so that a ping proves nothing."""
        return web.Response()

    async def done(self, request: web.Request) -> web.StreamResponse:
        """A job's result or progress. 400 for a result over the platform's limit."""
        worker_id, job_id = request.match_info["worker"], request.match_info["job"]
        limit_bytes = self._limit_bytes(job_id)
        data = await wire.read(request)
        if len(data) > limit_bytes:
            raise web.HTTPBadRequest(text=f"result: {len(data)} bytes, {limit_bytes} are allowed")
        done = wire.decoded(data, Done)
        if done.status == "IN_PROGRESS":
            self._jobs.progress(worker_id, job_id, done.output)
        else:
            self._jobs.finish(worker_id, job_id, output=done.output, error=done.error)
            if done.stop_pod:
                self._jobs.workers.retire(worker_id)
        return web.Response()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """A part of a job's answer."""
        worker_id, job_id = request.match_info["worker"], request.match_info["job"]
        item = wire.decoded(await wire.read(request), Streamed)
        self._jobs.add_to_stream(worker_id, job_id, item.output)
        return web.Response()

    def _limit_bytes(self, job_id: str) -> int:
        return wire.RUNSYNC_BYTES if self._jobs.get(job_id).order.sync else wire.RUN_BYTES

    async def _hand_over(self, request: web.Request, count: int | None) -> web.StreamResponse:
        """Give a list of up to `count` jobs; None: one job, not in a list."""
        worker_id = request.match_info["worker"]
        taken = await self._jobs.take(worker_id, count or 1, self._poll_s)
        if not taken:
            return web.Response(status=204)
        handed = [Handed.of(job) for job in taken]
        response = wire.answer(handed if count else handed[0])
        try:
            await response.prepare(request)
            await response.write_eof()
        except asyncio.CancelledError:
            self._jobs.put_back(worker_id, taken)
            raise
        except ConnectionError:
            self._jobs.put_back(worker_id, taken)
        return response
