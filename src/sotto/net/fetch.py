"""A URL in, its bytes in a file.

Invariant: the file holds one version of what the address serves, whole, or an error is raised.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import BinaryIO

import requests

from sotto.errors import (
    AudioEmpty,
    AudioUndecodable,
    SourceForbidden,
    SourceTooLarge,
    SourceUnreachable,
)
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

CHUNK_BYTES = 256 * 1024
LENGTH = re.compile(r"[0-9]{1,18}")
"""A length of more digits is none."""
RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
"""Where a part begins, and how long the whole is, if the server knows."""


def fetch(
    url: str,
    headers: Mapping[str, str],
    into: BinaryIO,
    limits: NetLimits,
    cancelled: threading.Event,
) -> None:
    """Write what `url` answers into `into`, an empty file open for reading and writing.

    Blocks until it is done, at most `fetch_timeout_s`; setting `cancelled` ends it within a
    moment. A broken download is tried again, from where it broke if the server can do that.

    Raises SourceForbidden, SourceUnreachable, SourceTimeout or SourceTooLarge; AudioEmpty for
    an empty answer and AudioUndecodable for a web page.
    """
    part = _Part(into)
    name = shown(url)
    with Watch(name, limits.fetch_timeout_s, cancelled) as watch:
        persist(lambda: _attempt(url, headers, part, limits, watch), watch)
    _check_content(part, name)


def _attempt(
    url: str, headers: Mapping[str, str], part: _Part, limits: NetLimits, watch: Watch
) -> None:
    """Bring what is missing of `part`; a server may answer with less than it was asked for."""
    name = shown(url)
    while True:
        had = part.received
        call = Call("GET", url, headers, part.wanted())
        with translated(name, part.breakage), answered(call, limits, watch) as response:
            _check_status(response, part, name)
            part.begin(response, name)
            _pour(response, part, limits.max_bytes, watch, name)
        if part.is_whole:
            return
        if part.received - had < CHUNK_BYTES:  # as many requests as bytes would be no download
            raise Broken(SourceUnreachable(f"{name}: {part.breakage()}"))


def _pour(
    response: requests.Response, part: _Part, max_bytes: int, watch: Watch, name: str
) -> None:
    """Read the body into the file as it comes, and no more of it than allowed."""
    too_large = SourceTooLarge(f"{name}: more than {max_bytes} bytes")
    if part.expected is not None and part.expected > max_bytes:
        raise too_large
    # read1 returns what is there; read would wait for a whole chunk, however slowly it drips
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        watch.check()
        if part.received + len(chunk) > max_bytes:
            raise too_large
        part.into.write(chunk)
        part.received += len(chunk)
    watch.check()


class _Part:
    """What has arrived of a file, and how to ask for the rest of the same file."""

    def __init__(self, into: BinaryIO) -> None:
        self.into = into
        self.received = 0
        self.expected: int | None = None
        self.content_type = ""
        self._validator: str | None = None

    def wanted(self) -> dict[str, str]:
        """Headers that ask for the rest, if the server can tell whether it is of the same file."""
        if self._validator is None:
            self.received = 0
        if not self.received:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": str(self._validator)}

    def forget(self) -> None:
        """Ask for all of it next time."""
        self._validator = None

    def begin(self, response: requests.Response, name: str) -> None:
        """Stand in the file where the body of `response` belongs."""
        found = response.headers
        encoded = "Content-Encoding" in found
        validator = None if encoded else _validator(found)
        if response.status_code == 206:
            part = RANGE.fullmatch(found.get("Content-Range", "").strip())
            begins = part is not None and int(part[1]) == self.received
            if part is None or not begins or validator != self._validator:
                self.forget()
                raise Broken(SourceUnreachable(f"{name}: the file changed while it was read"))
            if part[2] != "*":
                self.expected = int(part[2])
        else:
            self.received = 0
            length = found.get("Content-Length", "").strip()
            # Of a body that comes in chunks, the length is what its chunks say.
            known = LENGTH.fullmatch(length) and not encoded and "Transfer-Encoding" not in found
            self.expected = int(length) if known else None
        self.into.seek(self.received)
        self.into.truncate()
        self.content_type = found.get("Content-Type", "").lower()
        self._validator = validator

    @property
    def is_whole(self) -> bool:
        """Is it all there, as far as the server told how long it is?"""
        return self.expected is None or self.received >= self.expected

    def breakage(self) -> str:
        """How far it came, for a message."""
        if not self.received:
            return "no connection to the server, or it closed at once"
        of = "" if self.expected is None else f" of {self.expected}"
        return f"the connection broke after {self.received}{of} bytes"


def _validator(headers: Mapping[str, str]) -> str | None:
    """What names this version of the file: a strong ETag, else the time of its last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _check_status(response: requests.Response, part: _Part, name: str) -> None:
    status = response.status_code
    resumed = part.received > 0
    if status == 200 or (status == 206 and resumed):
        return
    answer = f"{name}: the server answers {status}"
    if status in (204, 205):
        raise AudioEmpty(f"{answer}, no content")
    if status in (401, 403):
        raise SourceForbidden(answer)
    is_behind_the_end = status == 416 and resumed  # where it may have broken off
    if is_behind_the_end:
        part.forget()
    if is_behind_the_end or status in WORTH_RETRYING:
        raise Broken(SourceUnreachable(answer))
    raise SourceUnreachable(answer)


def _check_content(part: _Part, name: str) -> None:
    """Raise for what is plainly no audio: nothing at all, or a page for people."""
    if not part.received:
        raise AudioEmpty(f"{name}: the answer is empty")
    part.into.seek(0)
    head = part.into.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    says_page = part.content_type.startswith(("text/html", "application/xhtml+xml"))
    is_text = all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in head)
    if head.startswith((b"<!doctype html", b"<html")) or (says_page and is_text):
        raise AudioUndecodable(f"{name}: the address answers with a web page, not audio")
