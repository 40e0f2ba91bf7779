"""JSON over HTTP: bodies in, answers out, and every error in the platform's shape.

Invariant: an error is answered as `{"error": "<reason>"}` with its status, and no reason repeats
what a body held.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sotto.gateway.jobs import Refused, UnknownJob

RUN_BYTES = 10 * 1024**2
RUNSYNC_BYTES = 20 * 1024**2
"""The platform's limits of an asynchronous and of a synchronous job, and of their results."""

Body = TypeVar("Body")


async def body(request: web.Request, limit_bytes: int) -> bytes:
    """The request's body. Raises HTTPRequestEntityTooLarge, HTTPBadRequest."""
    data = await read(request)
    if len(data) > limit_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=limit_bytes, actual_size=len(data))
    return data


async def read(request: web.Request) -> bytes:
    """The request's body, however large. Raises HTTPBadRequest for what is not encoded as it says.

    Whatever else aiohttp has against it, such as a body over its own limit, it raises as an answer.
    """
    try:
        return await request.read()
    except web.RequestPayloadError:
        raise web.HTTPBadRequest(text="body: cannot be read in its Content-Encoding") from None


def decoded(data: bytes, kind: type[Body]) -> Body:
    """The JSON in `data` as a `kind`. Raises HTTPBadRequest."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise web.HTTPBadRequest(text=f"body: {error}") from None
    except RecursionError:
        raise web.HTTPBadRequest(text="body: nested too deeply") from None


def answer(payload: Any, status: int = 200) -> web.Response:
    """`payload` as JSON."""
    body = msgspec.json.encode(payload)
    return web.Response(body=body, status=status, content_type="application/json")


def keyed(key: str, given: Callable[[web.Request], str]) -> Middleware:
    """Let only requests through that bring the key; `given` finds it in a request."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = given(request).encode("utf-8", "replace")
        if not hmac.compare_digest(found, key.encode()):
            raise web.HTTPUnauthorized(text="the API key is missing or wrong")
        return await handler(request)

    return check


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a handler raises, as an answer."""
    try:
        return await handler(request)
    except UnknownJob as error:
        return answer({"error": str(error)}, 404)
    except Refused as error:
        return answer({"error": str(error)}, 409)
    except web.HTTPError as error:
        return answer({"error": error.text}, error.status)
