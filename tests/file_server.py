"""A real HTTP server on 127.0.0.1 that serves files well or as badly as a test wants.

A path has a list of answers, one for each request in turn; the last one stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class FileServer:
    """`with FileServer() as server: server.answers["/a.wav"] = [whole(data)]`."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.files = self
        self.closing = threading.Event()
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: FileServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many tests are about; nothing to report."""


class Handler(BaseHTTPRequestHandler):
    """Runs the answer whose turn it is."""

    server: _Server

    def do_GET(self) -> None:
        files = self.server.files
        path = self.path.partition("?")[0]
        files.requests.append((self.path, dict(self.headers.items())))
        files.asked.set()
        answers = files.answers.get(path, [status(404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)
        self.close_connection = True

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def sleep(self, seconds: float) -> None:
        self.server.files.closing.wait(seconds)

    def log_message(self, *_: object) -> None:
        """Silence."""


def whole(
    body: bytes,
    *,
    etag: str | None = None,
    content_type: str | None = "audio/wav",
    length: int | str | None = -1,
    ranges: bool = True,
    break_after: int | None = None,
    longest_range: int | None = None,
    tells_total: bool = True,
) -> Answer:
    """Serve `body`; from the asked offset if `ranges` and the If-Range header fits `etag`.

    `length` -1 declares the true one, None declares none. `break_after` hangs up after so many
    bytes of this answer. `longest_range`: no more than so many are sent of what is asked for.
    `tells_total`: a part says how long the whole is.
    """

    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range")
        fits = handler.headers.get("If-Range") in (None, etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges and fits else 0
        end = len(body) if longest_range is None or not start else start + longest_range
        rest = body[start:end]
        total = len(body) if tells_total else "*"
        handler.head(
            206 if start else 200,
            Content_Type=content_type,
            ETag=etag,
            Content_Range=f"bytes {start}-{start + len(rest) - 1}/{total}" if start else None,
            Content_Length=len(rest) if length == -1 else length,
        )
        handler.wfile.write(rest if break_after is None else rest[:break_after])

    return answer


def status(code: int, body: bytes = b"sorry", **headers: object) -> Answer:
    return lambda handler: (
        handler.head(code, Content_Length=len(body), **headers),
        handler.wfile.write(body),
        None,
    )[-1]


def redirect(to: str, code: int = 302) -> Answer:
    return lambda handler: handler.head(code, Location=to, Content_Length=0)


def drip(body: bytes, pause_s: float) -> Answer:
    """One byte at a time."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Type="audio/wav", Content_Length=len(body))
        for byte in body:
            handler.wfile.write(bytes([byte]))
            handler.sleep(pause_s)

    return answer


def drip_headers(pause_s: float) -> Answer:
    """A header that never ends, a byte at a time."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        until = time.monotonic() + 60
        while time.monotonic() < until and not handler.server.files.closing.is_set():
            handler.wfile.write(b"a")
            handler.sleep(pause_s)

    return answer


def hang() -> Answer:
    """Take the request and say nothing."""
    return lambda handler: handler.sleep(60)


def raw(text: bytes) -> Answer:
    """Anything at all, unframed."""
    return lambda handler: (handler.wfile.write(text), None)[-1]
