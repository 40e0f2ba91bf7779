"""A URL in, its bytes in a file.

Invariant: the file holds one version of what the address serves, whole, or an error is raised;
every exception of requests and urllib3 is translated here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from sotto.errors import (
    AudioEmpty,
    AudioUndecodable,
    SourceError,
    SourceForbidden,
    SourceTimeout,
    SourceTooLarge,
    SourceUnreachable,
)
from sotto.net.address import (
    TemporarilyUnknown,
    origin,
    pinned_adapter,
    public_addresses,
    shown,
)
from sotto.net.headers import USER_AGENT
from sotto.net.watch import Watch

CHUNK_BYTES = 256 * 1024
PAUSES_S = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
WORTH_RETRYING = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class NetLimits:
    """How long a fetch may take and how much it may bring."""

    connect_timeout_s: float
    read_timeout_s: float
    fetch_timeout_s: float
    max_bytes: int


class _Broken(Exception):
    """An attempt failed in a way that may pass; `error` is for the caller if it does not."""

    def __init__(self, error: SourceError) -> None:
        super().__init__(str(error))
        self.error = error


class Net:
    """Fetches what callers point at, within limits; safe to use from many threads."""

    def __init__(self, limits: NetLimits) -> None:
        self.limits = limits

    def fetch(
        self, url: str, headers: Mapping[str, str], into: BinaryIO, cancelled: threading.Event
    ) -> None:
        """Write what `url` answers into `into`, an empty file open for reading and writing.

        Blocks until it is done, at most `fetch_timeout_s`; setting `cancelled` ends it within a
        moment. A broken download is tried again, from where it broke if the server can do that.

        Raises SourceForbidden, SourceUnreachable, SourceTimeout or SourceTooLarge; AudioEmpty for
        an empty answer and AudioUndecodable for a web page.
        """
        part = _Part(into)
        with Watch(shown(url), self.limits.fetch_timeout_s, cancelled) as watch:
            for pause_s in (*PAUSES_S, None):
                try:
                    self._attempt(url, headers, part, watch)
                    break
                except _Broken as broken:
                    watch.check()
                    if pause_s is None:
                        raise broken.error from broken
                    watch.pause(pause_s)
        _check_content(part, shown(url))

    def _attempt(self, url: str, headers: Mapping[str, str], part: _Part, watch: Watch) -> None:
        """Bring what is missing of `part`."""
        name = shown(url)
        try:
            with self._answer(url, headers, part.wanted(), watch) as response:
                _check_status(response, part.received > 0, name)
                part.begin(response, name)
                self._pour(response, part, watch, name)
        except TemporarilyUnknown as error:
            raise _Broken(SourceUnreachable(f"{name}: the host is not known just now")) from error
        except (requests.Timeout, ReadTimeoutError) as error:
            raise _Broken(SourceTimeout(f"{name}: the server does not answer")) from error
        except requests.exceptions.SSLError as error:
            raise SourceUnreachable(f"{name}: no secure connection to the server") from error
        except (requests.ConnectionError, HTTPError) as error:
            raise _Broken(SourceUnreachable(f"{name}: {part.breakage()}")) from error
        except requests.RequestException as error:
            raise SourceUnreachable(f"{name}: not an address that can be opened") from error

    @contextmanager
    def _answer(
        self, url: str, headers: Mapping[str, str], ours: Mapping[str, str], watch: Watch
    ) -> Iterator[requests.Response]:
        """The answer at the end of the redirects, its body still unread.

        The SDK's `safe_get` would take the headers along to wherever it is sent; here the caller's
        own stay behind with their origin.
        """
        for _ in range(MAX_REDIRECTS + 1):
            with self._hop(url, {**ours, **headers}, watch) as response:
                location = response.headers.get("Location")
                if response.status_code not in REDIRECTS or location is None:
                    yield response
                    return
            target = urljoin(url, location)
            if origin(target) != origin(url):
                headers = {}
            url = target
        raise SourceForbidden(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    @contextmanager
    def _hop(
        self, url: str, headers: Mapping[str, str], watch: Watch
    ) -> Iterator[requests.Response]:
        """One request, to the first of the host's addresses that takes the connection."""
        refusal = requests.ConnectionError()
        for address in public_addresses(url):
            watch.check()
            with watch.session(pinned_adapter(address)) as session:
                try:
                    response = session.get(
                        url,
                        headers=headers,
                        stream=True,
                        allow_redirects=False,
                        timeout=(self.limits.connect_timeout_s, self.limits.read_timeout_s),
                    )
                except requests.ConnectionError as error:
                    refusal = error
                    continue
                with response:
                    yield response
                    return
        raise refusal

    def _pour(self, response: requests.Response, part: _Part, watch: Watch, name: str) -> None:
        """Read the body into the file as it comes, and no more of it than allowed."""
        too_large = SourceTooLarge(f"{name}: more than {self.limits.max_bytes} bytes")
        if part.expected is not None and part.expected > self.limits.max_bytes:
            raise too_large
        # read1 returns what is there; read would wait for a whole chunk, however slowly it drips
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            watch.check()
            if part.received + len(chunk) > self.limits.max_bytes:
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
        """Our own headers: for the rest, if the server can tell whether it is of the same file."""
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if self._validator is None:
            self.received = 0
        if self.received:
            headers |= {"Range": f"bytes={self.received}-", "If-Range": str(self._validator)}
        return headers

    def begin(self, response: requests.Response, name: str) -> None:
        """Stand in the file where the body of `response` belongs."""
        found = response.headers
        encoded = "Content-Encoding" in found
        validator = None if encoded else _validator(found)
        if response.status_code == 206:
            begins = found.get("Content-Range", "").startswith(f"bytes {self.received}-")
            if not begins or validator != self._validator:
                self._validator = None
                raise _Broken(SourceUnreachable(f"{name}: the file changed while it was read"))
        else:
            self.received = 0
        self.into.seek(self.received)
        self.into.truncate()
        length = found.get("Content-Length", "")
        self.expected = self.received + int(length) if length.isdecimal() and not encoded else None
        self.content_type = found.get("Content-Type", "").lower()
        self._validator = validator

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


def _check_status(response: requests.Response, resumed: bool, name: str) -> None:
    status = response.status_code
    if status == 200 or (status == 206 and resumed):
        return
    answer = f"{name}: the server answers {status}"
    if status in (204, 205):
        raise AudioEmpty(f"{answer}, no content")
    if status in (401, 403):
        raise SourceForbidden(answer)
    if status in WORTH_RETRYING or (status == 416 and resumed):
        raise _Broken(SourceUnreachable(answer))
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
