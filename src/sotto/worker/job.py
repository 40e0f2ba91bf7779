"""One RunPod job in, what answers it out.

Invariant: a job is always answered, with its output or with an error that has a code; only
cancellation passes through. However it ends, nobody works for it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sotto.answer import answer, as_json
from sotto.engine.base import Engine
from sotto.engines import Engines
from sotto.errors import EngineError, InternalError, JobTimeout, SottoError
from sotto.pipeline import transcribe
from sotto.request import Request, parse
from sotto.settings import Settings
from sotto.transcript.transcript import Transcript
from sotto.worker import channel, openai
from sotto.worker.delivery import Delivery
from sotto.worker.failure import failure
from sotto.worker.feed import Feed
from sotto.worker.progress import Progress
from sotto.worker.storage import bucket_of_settings
from sotto.worker.work import Work
from sotto.workshop import Workshop

GLANCE_S = 1.0
"""How often a job is looked at for its progress; one that ends sooner tells of none."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What the jobs of a worker share, and the seconds that each may run."""

    workshop: Workshop
    delivery: Delivery
    timeout_s: float


def open_service(settings: Settings, engines: Engines | None = None) -> Service:
    """A worker's service over `engines`, or its own. Raises SettingsError for half a store."""
    bucket = bucket_of_settings(settings)
    workshop = Workshop(settings, engines)
    delivery = Delivery(workshop.net, bucket, settings.result_limit_bytes, settings.link_lifetime_s)
    return Service(workshop, delivery, settings.job_timeout_s)


async def run(job: Mapping[str, Any], service: Service) -> Any:
    """Answer a job as the platform's SDK wants it: the output, or `error` with its details.

    `refresh_worker` is set in an answer when this worker can do no more.
    """
    work = Work(str(job.get("id", "")))
    log.info("job %s begun", work.job_id)
    try:
        output = await _in_time(job, service, work)
    except SottoError as error:
        log.warning("job %s failed: %s; %s", work.job_id, error.code, work)
        if isinstance(error, EngineError):
            log.warning("job %s: the cause: %s", work.job_id, error)
        output = _failure(job, error)
    except asyncio.CancelledError:
        log.info("job %s stopped; %s", work.job_id, work)
        raise
    except Exception:
        log.exception("job %s failed: internal; %s", work.job_id, work)
        reason = f"job {work.job_id} failed; the worker's log has the reason"
        output = _failure(job, InternalError(reason))
    else:
        log.info("job %s done: %s", work.job_id, work)
    if isinstance(output, dict) and not service.workshop.healthy:
        log.error("job %s: the engine has died; this worker is to be replaced", work.job_id)
        output["refresh_worker"] = True
    return output


def _failure(job: Mapping[str, Any], error: SottoError) -> dict[str, Any]:
    return openai.failure(error) if openai.wanted(job.get("input")) else failure(error)


async def _in_time(job: Mapping[str, Any], service: Service, work: Work) -> Any:
    """The job's output. Raises JobTimeout when the job has run for as long as it may."""
    try:
        async with asyncio.timeout(service.timeout_s) as limit:
            return await _output(job, service, work)
    except TimeoutError:
        if not limit.expired():
            raise
        allowed = f"SOTTO_JOB_TIMEOUT_S: the {service.timeout_s:g} s that a job may run are over"
        raise JobTimeout(f"{allowed}; {work.how_far()}") from None


async def _output(job: Mapping[str, Any], service: Service, work: Work) -> Any:
    job_input: Any = job.get("input")
    shape = None
    if openai.wanted(job_input):
        if openai.lists_models(job_input):
            return openai.models(await asyncio.to_thread(service.workshop.models))
        job_input, shape = openai.as_job(job_input)
    request = parse(job_input)
    target = service.delivery.target(job, request)
    async with _reported(work):
        output = await _answered(request, service, work)
        work.delivering()
        return await service.delivery.deliver(target, shape.output(output) if shape else output)


async def _answered(request: Request, service: Service, work: Work) -> dict[str, Any]:
    """The answer to `request`; with `stream` its segments are told on the way."""
    async with service.workshop.open(request) as (tools, transcript):
        engine = tools.batcher.engine
        work.model_is_there(transcript, engine.device)
        feed = Feed(channel.current(), with_words=request.options.word_timestamps)
        async with feed, aclosing(transcribe(request, tools, transcript)) as segments:
            async for segment in segments:
                if request.options.stream:
                    feed.add(segment)
    # Three hours of words take half a second, in which the other jobs go on.
    return await asyncio.to_thread(_plain, request, transcript, engine)


def _plain(request: Request, transcript: Transcript, engine: Engine) -> dict[str, Any]:
    return as_json(answer(request, transcript, model=engine.model, device=engine.device))


@asynccontextmanager
async def _reported(work: Work) -> AsyncIterator[None]:
    """Tell how far the job is for as long as the block lasts."""
    progress = Progress(channel.current())

    async def report() -> None:
        while True:
            await asyncio.sleep(GLANCE_S)
            progress.tell(work.how_far())

    reporting = asyncio.create_task(report())
    try:
        yield
    finally:
        reporting.cancel()
