"""What goes out to the platform about a job: its result, its progress, items of its stream.

Invariant: a result is offered until the platform has it or has refused it for good, and one that
does not arrive is logged with its job; each request bears the id of its own job; and nothing of a
job goes out once its result is on the way.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from sotto.errors import InternalError, ResultTooLarge
from sotto.worker.failure import failure

log = logging.getLogger(__name__)

TOO_LARGE = frozenset({400, 413})
"""What the platform answers to a result beyond its limit; the first is its own, documented."""

WORTH_RETRYING = frozenset({408, 425, 429})
"""Besides every 5xx."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try may take, and the pauses between it and the further ones."""

    try_s: float
    pauses_s: tuple[float, ...]


RESULT = Patience(60.0, (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0))
STREAM = Patience(10.0, (0.5, 1.0))
PROGRESS = Patience(5.0, ())


class Post:
    """The way out for all jobs of a worker.

    `done_url` and `stream_url` have a query, and `$ID` where the id of the job belongs.
    """

    def __init__(self, session: aiohttp.ClientSession, done_url: str, stream_url: str) -> None:
        self._session = session
        self._done_url = done_url
        self._stream_url = stream_url

    async def result(self, job_id: str, output: Any, *, last: bool = False) -> None:
        """Send what the handler returned; `last` asks the platform to stop this worker."""
        try:
            body = encoded(as_result(output, last))
        except ValueError as error:
            log.error("job %s failed: internal: its result is not JSON: %s", job_id, error)
            output = failure(InternalError(f"job {job_id}: the worker made no JSON of its result"))
            body = encoded(as_result(output, last))
        status = await self._send(self._done_url, job_id, body, RESULT)
        if status in TOO_LARGE:
            log.error("job %s: HTTP %d to a result of %d bytes", job_id, status, len(body))
            body = encoded(as_result(_too_large(len(body)), last))
            status = await self._send(self._done_url, job_id, body, RESULT)
        if not accepted(status):
            log.error("job %s: its result did not arrive: %s", job_id, _told(status))

    async def stream(self, job_id: str, item: Any) -> bool:
        """Send one item of the job's stream. Returns whether it arrived."""
        try:
            body = encoded({"output": item})
        except ValueError as error:
            log.error("job %s: an item of its stream is not JSON: %s", job_id, error)
            return False
        status = await self._send(self._stream_url, job_id, body, STREAM)
        if not accepted(status):
            log.warning("job %s: its stream broke: %s", job_id, _told(status))
        return accepted(status)

    async def progress(self, job_id: str, update: Mapping[str, Any]) -> None:
        """Send how far the job is; one that does not arrive is no loss."""
        body = encoded({"status": "IN_PROGRESS", "output": update})
        await self._send(self._done_url, job_id, body, PROGRESS)

    async def _send(self, url: str, job_id: str, body: bytes, patience: Patience) -> int:
        """The HTTP status of the platform's last answer, 0 for none."""
        status = await self._try(url, job_id, body, patience.try_s)
        for pause_s in patience.pauses_s:
            if 0 < status < 500 and status not in WORTH_RETRYING:
                break
            await asyncio.sleep(pause_s)
            status = await self._try(url, job_id, body, patience.try_s)
        return status

    async def _try(self, url: str, job_id: str, body: bytes, seconds: float) -> int:
        # The SDK sets the job's id on the session, where jobs overwrite each other's.
        headers = {
            "X-Request-ID": job_id,
            "Content-Type": "application/x-www-form-urlencoded",
            "charset": "utf-8",
        }
        try:
            async with self._session.post(
                # For the platform a job that streams still has the answer as its output, not the
                # list of its items: hence never `isStream=true`.
                f"{url.replace('$ID', job_id)}&isStream=false",
                data=io.BytesIO(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0


class Line:
    """The channel of one job on the platform: one message at a time, until the result."""

    def __init__(self, post: Post, job_id: str) -> None:
        self._post = post
        self._job_id = job_id
        self._turn = asyncio.Lock()
        self._open = True
        self._streams = True

    async def progress(self, update: Mapping[str, Any]) -> None:
        """Send `update`, unless the result is on the way."""
        async with self._turn:
            if self._open:
                await self._post.progress(self._job_id, update)

    async def stream(self, item: Any) -> None:
        """Send `item`. Once one did not arrive the stream ends: better short than with holes."""
        async with self._turn:
            if self._open and self._streams:
                self._streams = await self._post.stream(self._job_id, item)

    async def close(self) -> None:
        """Wait for the message that is under way, and let no other through."""
        async with self._turn:
            self._open = False


def as_result(output: Any, last: bool) -> dict[str, Any]:
    """What the platform gets for what a handler returned: the SDK's rules, but `{}` is kept."""
    result: dict[str, Any] = {"stopPod": True} if last else {}
    if not isinstance(output, dict):
        return {**result, "output": output}
    error = output.get("error")
    rest = {key: output[key] for key in output if key not in ("error", "refresh_worker")}
    if error:
        result["error"] = error
    if rest or not error:
        result["output"] = rest
    return result


def encoded(message: Mapping[str, Any]) -> bytes:
    """`message` as JSON in UTF-8. Raises ValueError for what JSON cannot say."""
    try:
        return json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def accepted(status: int) -> bool:
    """Has the platform taken what was sent?"""
    return 200 <= status < 300


def _too_large(size_bytes: int) -> dict[str, Any]:
    return failure(
        ResultTooLarge(
            f"the platform refused an answer of {size_bytes} bytes; have it stored with "
            "`upload_url`, `s3Config` or `SOTTO_S3_*`"
        )
    )


def _told(status: int) -> str:
    return f"HTTP {status}" if status else "no answer"
