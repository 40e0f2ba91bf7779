"""Bytes in, stored at an address that a caller or the operator gave.

Invariant: either the server has answered that it took the body, or UploadFailed is raised.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import requests
from urllib3.exceptions import HTTPError

from sotto.errors import SourceError, UploadFailed
from sotto.net.address import shown
from sotto.net.exchange import (
    WORTH_RETRYING,
    Broken,
    Call,
    NetLimits,
    answered,
    persist,
    translated,
)
from sotto.net.watch import Watch

TAKEN = frozenset({200, 201, 202, 204})
REFUSAL_BYTES = 4096
S3_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an upload goes, and the headers it takes; both may hold secrets, so neither is shown.

    `by_operator`: the address comes from the worker's settings and may be private.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    by_operator: bool = False


def put(
    destination: Destination, body: bytes, limits: NetLimits, cancelled: threading.Event
) -> None:
    """Send `body` to `destination` with PUT.

    Blocks until it is done, at most `fetch_timeout_s`; setting `cancelled` ends it within a
    moment. A broken upload, or one that the server could not take just now, is tried again.

    Raises UploadFailed.
    """
    call = Call(
        "PUT",
        destination.url,
        destination.headers,
        body=body,
        by_operator=destination.by_operator,
    )
    try:
        with Watch(shown(call.url), limits.fetch_timeout_s, cancelled) as watch:
            persist(lambda: _attempt(call, limits, watch), watch)
    except SourceError as error:
        raise UploadFailed(str(error)) from None


def _attempt(call: Call, limits: NetLimits, watch: Watch) -> None:
    name = shown(call.url)
    with translated(name, _breakage), answered(call, limits, watch) as response:
        watch.check()  # an answer that the end of the time cut off reads like a whole one
        status = response.status_code
        if status in TAKEN:
            return
        refusal = UploadFailed(f"{name}: the server answers {status}{_code(response)}")
        raise Broken(refusal) if status in WORTH_RETRYING else refusal


def _breakage() -> str:
    return "no connection to the server, or it broke"


def _code(response: requests.Response) -> str:
    """An S3 server's own name for what is wrong, after a space; the rest may quote signatures."""
    try:
        found = S3_CODE.search(response.raw.read1(REFUSAL_BYTES, decode_content=True))
    except HTTPError:
        return ""
    return f" {found[1].decode()}" if found else ""
