"""`/openai/v1/...`: a call of that API in, a job for the worker's own route, its answer out.

Invariant: every answer of a handler here is one that a client of that API understands, errors
included; a job whose caller has gone is cancelled, since nobody else knows its id.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from sotto.gateway import wire
from sotto.gateway.job import FINAL, Job, Order, Policy, State
from sotto.gateway.jobs import Jobs

LONGEST_WAIT_S = 300.0
CALLERS_FAULT = "invalid_request_error"
"""The type of error that is the caller's fault; any other is the server's."""


class OpenAi:
    """The route that hands calls of that API to a worker."""

    def __init__(self, jobs: Jobs, policy: Policy) -> None:
        self._jobs = jobs
        self._policy = policy

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A call without a body."""
        return await self._run({"openai_route": _route(request)})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """A call with a JSON body."""
        if request.content_type != "application/json":
            return _refusal(
                415,
                f"Content-Type: '{request.content_type}' is not taken, forms and uploads included; "
                "send application/json, with `file` as a URL or a data URI",
            )
        try:
            given = wire.decoded(await wire.body(request, wire.RUNSYNC_BYTES), dict[str, Any])
        except (web.HTTPBadRequest, web.HTTPRequestEntityTooLarge) as error:
            return _refusal(error.status, str(error.text))
        return await self._run({"openai_route": _route(request), "openai_input": given})

    async def _run(self, job_input: dict[str, Any]) -> web.StreamResponse:
        job = self._jobs.submit(Order(job_input, self._policy, sync=True))
        try:
            await self._jobs.end(job, LONGEST_WAIT_S)
            return _answer(job)
        finally:
            if job.state not in FINAL:
                self._jobs.cancel(job.id)


def _route(request: web.Request) -> str:
    return f"/{request.match_info['path']}"


def _answer(job: Job) -> web.Response:
    if job.state is State.COMPLETED:
        if isinstance(job.output, str):
            return web.Response(text=job.output)
        return wire.answer(None if job.output is msgspec.UNSET else job.output)
    if job.state not in FINAL:
        return _failure(504, f"the job did not end within {LONGEST_WAIT_S:g} s")
    if not isinstance(job.error, dict):
        return _failure(500, str(job.error) if job.error else f"the job is {job.state}")
    is_callers_fault = job.error.get("type") == CALLERS_FAULT
    return wire.answer({"error": job.error}, 400 if is_callers_fault else 500)


def _refusal(status: int, message: str) -> web.Response:
    return _error(status, message, CALLERS_FAULT)


def _failure(status: int, message: str) -> web.Response:
    return _error(status, message, "server_error")


def _error(status: int, message: str, kind: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": None}
    return wire.answer({"error": error}, status)
