"""The platform as a worker sees it, on 127.0.0.1, as well or as badly as a test wants it.

It speaks what the SDK 1.12 speaks: job-take, job-take-batch, job-done, job-stream, job-stop, ping.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

KEY = "sesame"
"""Stands in every address, as a key might; it must not reach a log."""


def job(job_id: str, *steps: tuple[str, object]) -> dict[str, Any]:
    """A job for tests/loop_worker.py."""
    return {"id": job_id, "input": steps}


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True)
class Take:
    """One request for jobs."""

    jobs: int
    in_progress: bool
    at_s: float


@dataclass(frozen=True)
class Message:
    """One request that tells something of a job; `status` is what it was answered, 0 for nothing.

    `kind`: "progress", "result" or "stream".
    """

    job_id: str
    kind: str
    body: dict[str, Any]
    request_id: str
    is_stream: str
    status: int


class Platform:
    """`async with Platform() as platform:`; everything it saw and what it will answer."""

    def __init__(self) -> None:
        self.takes: list[Take] = []
        self.listening = 0
        self.messages: list[Message] = []
        self.pings: list[str] = []
        self.refusals: defaultdict[str, list[int]] = defaultdict(list)
        """For each job the statuses of its next results, 0 breaks the connection; then 200."""
        self.stream_refusals: defaultdict[str, list[int]] = defaultdict(list)
        self.progress_takes_s = 0.0
        self.stop_status = 200
        self._offers: asyncio.Queue[web.Response] = asyncio.Queue()
        self._stops: asyncio.Queue[list[str]] = asyncio.Queue()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Platform:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v2/ep/job-take/{worker}", self._take)
        app.router.add_get("/v2/ep/job-take-batch/{worker}", self._take)
        app.router.add_get("/v2/ep/job-stop/{worker}", self._stop)
        app.router.add_get("/v2/ep/ping/{worker}", self._ping)
        app.router.add_post("/v2/ep/job-done/{worker}/{job}", self._done)
        app.router.add_post("/v2/ep/job-stream/{worker}/{job}", self._stream)
        app.router.add_get("/gates/{name}", self._gate)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def environment(self) -> dict[str, str]:
        """What a worker must find in its environment."""
        at = f"{self._base}/v2/ep"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{at}/job-take/$ID?key={KEY}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{at}/job-done/$RUNPOD_POD_ID/$ID?key={KEY}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{at}/job-stream/$RUNPOD_POD_ID/$ID?key={KEY}",
            "RUNPOD_WEBHOOK_PING": f"{at}/ping/$RUNPOD_POD_ID?key={KEY}",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_POD_ID": "w1",
            "RUNPOD_AI_API_KEY": "a-key",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
            "GATES": f"{self._base}/gates",
        }

    # What the test does

    def offer(self, *jobs: dict[str, Any]) -> None:
        """Give these jobs to the poll that is open, or to the next one."""
        self.answer(web.json_response(jobs[0] if len(jobs) == 1 else list(jobs)))

    def answer(self, response: web.Response) -> None:
        """Answer the poll that is open, or the next one, with this."""
        self._offers.put_nowait(response)

    def stop(self, *job_ids: str) -> None:
        """Tell the worker to stop these jobs."""
        self._stops.put_nowait(list(job_ids))

    def open(self, gate: str) -> None:
        """Let those through who wait at this gate, and whoever comes."""
        self._gates[gate].set()

    # What the test sees

    async def until(self, seen: Callable[[], object]) -> None:
        """Return when something has come in after which `seen()` holds."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(seen()))

    def of(self, job_id: str, kind: str) -> list[Message]:
        """What came of a job, in order, refused or not."""
        return [m for m in self.messages if (m.job_id, m.kind) == (job_id, kind)]

    def results(self) -> dict[str, dict[str, Any]]:
        """For each job its result, once one was taken; the order is that of their arrival."""
        taken = [m for m in self.messages if m.kind == "result" and m.status == 200]
        assert len({m.job_id for m in taken}) == len(taken), "a job was answered twice"
        return {m.job_id: m.body for m in taken}

    async def told(self, job_id: str) -> None:
        """Return when the job has told of its progress."""
        await self.until(lambda: self.of(job_id, "progress"))

    async def answered(self, *job_ids: str) -> None:
        """Return when the results of all these jobs are there."""
        await self.until(lambda: set(job_ids) <= set(self.results()))

    # What the worker meets

    async def _take(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "a-key"
        take = Take(
            jobs=int(request.query.get("batch_size", "1")),
            in_progress=request.query["job_in_progress"] == "1",
            at_s=asyncio.get_running_loop().time(),
        )
        self.takes.append(take)
        self.listening += 1
        try:
            await self._notify()
            return await self._offers.get()
        finally:
            self.listening -= 1

    async def _stop(self, _: web.Request) -> web.Response:
        if self.stop_status != 200:
            return web.Response(status=self.stop_status)
        return web.json_response({"jobsToStop": await self._stops.get()})

    async def _ping(self, request: web.Request) -> web.Response:
        self.pings.append(request.query.get("job_id", ""))
        await self._notify()
        return web.Response()

    async def _done(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        if json.loads(text).get("status") == "IN_PROGRESS":
            await asyncio.sleep(self.progress_takes_s)
            return await self._note(request, "progress", 200)
        refusals = self.refusals[request.match_info["job"]]
        return await self._note(request, "result", refusals.pop(0) if refusals else 200)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        refusals = self.stream_refusals[request.match_info["job"]]
        return await self._note(request, "stream", refusals.pop(0) if refusals else 200)

    async def _note(self, request: web.Request, kind: str, status: int) -> web.StreamResponse:
        assert request.content_type == "application/x-www-form-urlencoded"
        message = Message(
            job_id=request.match_info["job"],
            kind=kind,
            body=json.loads(await request.text(), parse_constant=refuse),
            request_id=request.headers["X-Request-ID"],
            is_stream=request.query["isStream"],
            status=status,
        )
        self.messages.append(message)
        await self._notify()
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status or 200)

    async def _gate(self, request: web.Request) -> web.Response:
        await self._gates[request.match_info["name"]].wait()
        return web.Response()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
