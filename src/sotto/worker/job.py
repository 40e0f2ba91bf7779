"""One RunPod job in, the dictionary that answers it out.

Invariant: a job is always answered, with its output or with an error that has a code; only
cancellation passes through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from sotto.answer import answer, as_json
from sotto.errors import InternalError, RequestError, SottoError
from sotto.pipeline import transcribe
from sotto.request import parse
from sotto.workshop import Workshop

log = logging.getLogger(__name__)


async def run(job: Mapping[str, Any], workshop: Workshop) -> dict[str, Any]:
    """Answer a job as the platform's SDK wants it: the output, or `error` with its details."""
    job_id = str(job.get("id", ""))
    begun = time.perf_counter()
    try:
        output = await _output(job, workshop)
    except SottoError as error:
        log.warning("job %s failed: %s", job_id, error.code)
        return failure(error)
    except Exception:
        log.exception("job %s failed: internal", job_id)
        return failure(InternalError(f"job {job_id} failed; the worker's log has the reason"))
    seconds = time.perf_counter() - begun
    log.info("job %s done: %.1f s of audio in %.2f s", job_id, output["duration"], seconds)
    return output


def failure(error: SottoError) -> dict[str, Any]:
    """What the caller sees of an error: the SDK makes `error` the job's error, the rest its output.

    The message is made safe for JSON, since it may quote what the caller sent.
    """
    message = f"{error.code}: {error}".encode("utf-8", "replace").decode()
    details: dict[str, Any] = {"code": error.code, "retryable": error.retryable}
    if isinstance(error, RequestError):
        details["field"] = error.field.encode("utf-8", "replace").decode()
    return {"error": message, **details}


async def _output(job: Mapping[str, Any], workshop: Workshop) -> dict[str, Any]:
    request = parse(job.get("input"))
    tools, transcript = await workshop.open(request)
    async with aclosing(transcribe(request, tools, transcript)) as segments:
        async for _ in segments:
            pass
    engine = tools.batcher.engine
    return as_json(answer(request, transcript, model=engine.model, device=engine.device))
