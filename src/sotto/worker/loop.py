"""The worker's loop in place of the SDK's, which loses jobs: takes them, runs them, answers them.

Invariant: a job that was taken is answered, or it was stopped by the platform, or it is logged as
left to the platform, which gives it to another worker; and a job that has ended, however, has
given its place back.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sotto.errors import InternalError, RequestError
from sotto.net import sdk
from sotto.worker import channel
from sotto.worker.failure import failure
from sotto.worker.poll import Poll
from sotto.worker.post import Line, Post
from sotto.worker.take import Unreadable, take

log = logging.getLogger(__name__)

SPARE_THREADS = 4
"""Beside one thread for each job, for what all of them share."""
LAST_CALL_S = 0.5
"""How long an idle worker that must stop still listens for a job that is on its way to it."""


def install(*, concurrency: int, stop_grace_s: float) -> None:
    """Let the SDK's `serverless.start` run this loop instead of its own.

    `concurrency`: jobs in flight. `stop_grace_s`: time for them to end after SIGTERM.
    """
    sdk.load().serverless.modules.rp_scale.JobScaler = functools.partial(
        Loop, concurrency=concurrency, stop_grace_s=stop_grace_s
    )


class Loop:
    """What the SDK knows as a JobScaler: made with its configuration, and then started."""

    def __init__(self, config: dict[str, Any], *, concurrency: int, stop_grace_s: float) -> None:
        self._handler: Callable[[dict[str, Any]], Awaitable[Any]] = config["handler"]
        self._concurrency = concurrency
        self._stop_grace_s = stop_grace_s
        self._sdk = sdk.load().serverless.modules
        self._told_to_ping = self._sdk.worker_state.JobsProgress()
        self._post: Post
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, Any] = {}
        self._places = asyncio.Semaphore(concurrency)
        self._retired = asyncio.Event()
        self._grace_over = False
        self._last: str | None = None
        self._alone = asyncio.Event()

    def start(self) -> None:
        """Serve until a signal or a job's `refresh_worker` ends it."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # By default a few threads for all jobs: some slow downloads would hold up every other.
        loop.set_default_executor(ThreadPoolExecutor(self._concurrency + SPARE_THREADS))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        async with sdk.load().http_client.AsyncClientSession() as session:
            urls = self._sdk.rp_http
            self._post = Post(session, urls.JOB_DONE_URL, urls.JOB_STREAM_URL)
            stopping = asyncio.create_task(self._stop_jobs(session))
            taking = asyncio.create_task(self._take_jobs(session))
            # It ends early only by a fault of ours; a worker that takes nothing must not linger.
            taking.add_done_callback(lambda _: self._retired.set())
            await self._retired.wait()
            await self._drain(taking)
            stopping.cancel()
            if not taking.cancelled():
                taking.result()

    async def _take_jobs(self, session: Any) -> None:
        """Ask for as many jobs as there are places, until retired."""
        poll = Poll("the job queue")
        while not self._retired.is_set():
            places = self._concurrency - len(self._tasks)
            if places <= 0:
                await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                continue
            for job in await poll(take, session, places):
                self._begin(job)

    async def _stop_jobs(self, session: Any) -> None:
        """Cancel the jobs that the platform no longer wants."""
        poll = Poll("the stop channel")
        while True:
            for job_id in await poll(self._sdk.rp_job.get_stop_signals, session):
                task = self._tasks.get(job_id)
                if self._again.pop(job_id, None) is not None:
                    log.info("job %s stopped by the platform before it began anew", job_id)
                elif task is not None and not task.cancelling():
                    log.info("job %s stopped by the platform", job_id)
                    task.cancel()

    def _begin(self, job: Any) -> None:
        job_id = job.get("id") if isinstance(job, dict) else None
        if not isinstance(job_id, str):
            log.error("the job queue gave a job without an id; there is nobody to answer")
        elif self._grace_over:
            log.error("job %s came too late; left to the platform", job_id)
        elif job_id in self._tasks and self._tasks[job_id].cancelling():
            # It was stopped, and the platform gives it anew while its first run still tidies up.
            self._again[job_id] = job
        elif job_id in self._tasks:
            log.warning("job %s is on this worker already; it is not run twice", job_id)
        else:
            task = asyncio.create_task(self._work(job_id, job))
            self._tasks[job_id] = task
            self._told_to_ping.add(job_id)
            # Also runs for a task that is cancelled before its first step.
            task.add_done_callback(functools.partial(self._end, job_id))

    def _end(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self._tasks[job_id]
        self._told_to_ping.remove(job_id)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job %s was not answered", job_id, exc_info=error)
        if job_id in self._again:
            self._begin(self._again.pop(job_id))

    async def _work(self, job_id: str, job: dict[str, Any]) -> None:
        """One job from its start, when there is a place, to its result's arrival."""
        async with self._places:  # the platform may give more jobs than it was asked for
            line = Line(self._post, job_id)
            channel.assign(line)
            output = await self._output(job_id, job)
            await line.close()
        refresh = isinstance(output, dict) and output.get("refresh_worker")
        last = bool(refresh) and not self._retired.is_set()
        if last:
            # The platform stops the worker on this result: the siblings' results go first.
            log.warning("job %s asks for a fresh worker: no new jobs here", job_id)
            self._last = job_id
            self._retired.set()
            await self._alone.wait()
        await self._post.result(job_id, output, last=last)

    async def _output(self, job_id: str, job: dict[str, Any]) -> Any:
        """What the handler returns, or an `internal` error if it raises."""
        if isinstance(job, Unreadable):
            log.warning("job %s failed: invalid_request: %s", job_id, job.reason)
            return failure(RequestError("input", job.reason))
        try:
            return await self._handler(job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            log.error("job %s failed: internal: its handler gave itself up", job_id)
        except Exception:
            log.exception("job %s failed: internal", job_id)
        return failure(InternalError(f"job {job_id} failed; the worker's log has the reason"))

    def _stop(self) -> None:
        """A signal: take nothing new, and end with the jobs in flight or with the grace."""
        log.info("stop signal: no new jobs, %d in flight", len(self._tasks))
        self._retired.set()
        asyncio.get_running_loop().call_later(self._stop_grace_s, self._give_up)

    def _give_up(self) -> None:
        self._grace_over = True
        for job_id, task in self._tasks.items():
            log.error(
                "job %s did not end within %g s; left to the platform", job_id, self._stop_grace_s
            )
            task.cancel()

    async def _drain(self, taking: asyncio.Task[None]) -> None:
        """Return when all jobs have ended and none can arrive any more.

        The open poll is kept for as long as jobs run: one that is already on its way to this
        worker would be lost with the connection.
        """
        await asyncio.wait({taking}, timeout=LAST_CALL_S)
        while (siblings := self._siblings()) or not taking.done():
            if not siblings:
                taking.cancel()
            await asyncio.wait(siblings or {taking}, return_when=asyncio.FIRST_COMPLETED)
        self._alone.set()
        await asyncio.wait({taking, *self._tasks.values()})

    def _siblings(self) -> set[asyncio.Task[None]]:
        """The jobs in flight, but for the one whose result stops the worker."""
        return {task for job_id, task in self._tasks.items() if job_id != self._last}
