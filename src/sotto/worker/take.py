"""Asks the platform for jobs, and reads each by itself.

The SDK reads an answer whole: one job that Python's JSON refuses, for a number of thousands of
digits or lists a thousand deep, costs all that came with it, and the log says nothing.

Invariant: a job that can be read is given out, whatever its neighbours are; one that cannot is
given out as Unreadable, so that whoever waits for it is told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sotto.net import sdk

log = logging.getLogger(__name__)

NO_JOBS = frozenset({204, 400})
"""Statuses of an answer without jobs; the second comes while a worker is frozen (FlashBoot)."""
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]', re.DOTALL)
"""Strings, and what structures JSON outside of them."""
OPENING, CLOSING = (b"{", b"["), (b"}", b"]")


class Unreadable(dict[str, Any]):
    """A job of which no more than its id is known; `reason` completes a sentence about it."""

    def __init__(self, job_id: str | None, reason: str) -> None:
        super().__init__(id=job_id)
        self.reason = reason


async def take(session: Any, places: int) -> list[Any]:
    """At most so many jobs; none if there is none. Raises what aiohttp raises."""
    jobs = sdk.load().serverless.modules.rp_job
    url = jobs._job_get_url(places)  # noqa: SLF001 - which says what is in flight, too
    async with session.get(url) as response:
        if response.status in NO_JOBS:
            return []
        response.raise_for_status()
        return await jobs_in(await response.read())


async def jobs_in(answer: bytes) -> list[Any]:
    """The jobs of an answer: an object, or a list of them."""
    if not answer.strip():
        return []
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        # In a thread: tens of megabytes of brackets take seconds, in which other jobs go on.
        try:
            jobs = await asyncio.to_thread(_one_by_one, answer)
        except asyncio.CancelledError:
            log.error("jobs came too late to be read piece by piece; left to the platform")
            raise
        if not jobs:
            log.error("the job queue's answer is no JSON; if it was a job, nobody will answer it")
        return jobs
    return found if isinstance(found, list) else [found]


def _one_by_one(answer: bytes) -> list[Any]:
    return [_job(text) for text in _objects(answer)]


def _job(text: bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return Unreadable(_id(text), "nested too deep to be read")
    except ValueError:
        return Unreadable(_id(text), "no JSON that can be read, or a number of thousands of digits")


def _objects(answer: bytes) -> Iterator[bytes]:
    """The text of the object, or of each object in the list."""
    outer = 1 if answer.lstrip().startswith(b"[") else 0
    start = 0
    for depth, token in _walked(answer):
        if depth == outer and token[0] in OPENING:
            start = token.start()
        elif depth == outer and token[0] in CLOSING:
            yield answer[start : token.end()]


def _id(text: bytes) -> str | None:
    """The object's own `id`, whatever stands inside its other values; None if it is no text."""
    key = last = b""
    for depth, token in _walked(text):
        part = token[0]
        if depth != 1:
            continue
        if part == b":":
            key = last
        elif part == b",":
            key = b""
        elif key == b'"id"' and part.startswith(b'"'):
            with suppress(ValueError):
                return str(json.loads(part))
            return None
        last = part
    return None


def _walked(text: bytes) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Each token with the number of objects and lists around it; a bracket is not in its own."""
    depth = 0
    for token in TOKEN.finditer(text):
        depth -= token[0] in CLOSING
        yield depth, token
        depth += token[0] in OPENING
