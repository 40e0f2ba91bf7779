"""A model hub on 127.0.0.1 that can misbehave on request.

Serves `{repository}/resolve/{revision}/{file}` with byte ranges, and what the real hub tells of a
repository at `api/models/{repository}/revision/{revision}`. Invariant: faults of a file, or of
`API`, are used up in order, one a request; then it is served properly.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

API = "api"
LARGE = (".bin", ".safetensors")
"""Files whose sha256 the hub has; of the others it says none."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong in one answer; the first field that is set decides."""

    status: int = 0
    redirect: str = ""
    body: bytes | None = None
    silent: bool = False
    break_after_bytes: int | None = None
    hang_after_bytes: int | None = None
    no_ranges: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived; header names are in lower case."""

    file: str
    path: str
    headers: dict[str, str]


@dataclass
class HubServer:
    """Use as a context manager; `files` and `faults` go by the last part of the path.

    The hub knows a repository once `commit` is set, under that and the names in `branches`; `about`
    is added to what it tells. `token`, if set, is the only one that opens it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    commit: str = ""
    branches: tuple[str, ...] = ("main",)
    about: dict[str, object] = field(default_factory=dict)
    token: str = ""

    def __enter__(self) -> HubServer:
        self.closing = threading.Event()
        self.reached = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests_for(self, file: str) -> list[Seen]:
        return [request for request in self.seen if request.file == file]


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: HubServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        file = self.path.rsplit("/", 1)[-1]
        if self.path.startswith("/api/"):
            file = API
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.hub.seen.append(Seen(file, self.path, headers))
        queued = self.server.hub.faults.get(file, [])
        self._answer(file, queued.pop(0) if queued else Fault())

    def _answer(self, file: str, fault: Fault) -> None:
        if fault.silent:
            self._hang()
        elif fault.redirect:
            self._head(302, 0, {"Location": fault.redirect, **self._linked(file)})
        elif fault.body is not None:
            self._head(200, len(fault.body), {})
            self.wfile.write(fault.body)
        elif fault.status:
            self._head(fault.status, 0, {})
        elif not self._is_open():
            self._head(401, 0, {"X-Error-Code": "RepoNotFound"})
        elif file == API:
            self._tell()
        elif file not in self.server.hub.files:
            self._head(404, 0, {})
        else:
            self._send(file, fault)

    def _is_open(self) -> bool:
        token = self.server.hub.token
        return not token or self.headers.get("Authorization") == f"Bearer {token}"

    def _tell(self) -> None:
        hub = self.server.hub
        revision = unquote(self.path.partition("/revision/")[2].partition("?")[0])
        if not hub.commit:
            self._head(404, 0, {"X-Error-Code": "RepoNotFound"})
        elif revision not in {hub.commit, *hub.branches}:
            self._head(404, 0, {"X-Error-Code": "RevisionNotFound"})
        else:
            files = [_described(name, content) for name, content in hub.files.items()]
            about = {"sha": hub.commit, "gated": False, "siblings": files, **hub.about}
            body = json.dumps(about).encode()
            self._head(200, len(body), {})
            self.wfile.write(body)

    def _linked(self, file: str) -> dict[str, str]:
        """What the hub says of a large file, wherever it redirects to for it."""
        content = self.server.hub.files.get(file)
        if content is None or not file.endswith(LARGE):
            return {}
        digest = hashlib.sha256(content).hexdigest()
        return {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}

    def _send(self, file: str, fault: Fault) -> None:
        content, linked = self.server.hub.files[file], self._linked(file)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not fault.no_ranges else 0
        if start >= len(content) > 0 and start:
            self._head(416, 0, {"Content-Range": f"bytes */{len(content)}", **linked})
            return
        body = content[start:]
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._head(206 if start else 200, len(body), linked | (span if start else {}))
        for limit in (fault.break_after_bytes, fault.hang_after_bytes):
            if limit is not None:
                body = body[:limit]
        self.wfile.write(body)
        self.server.hub.reached.set()
        if fault.hang_after_bytes is not None:
            self._hang()
        if fault.break_after_bytes is not None:
            self.close_connection = True

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang(self) -> None:
        self.server.hub.closing.wait()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


def _described(name: str, content: bytes) -> dict[str, object]:
    """A file as the hub tells of it; only large ones come with a sha256."""
    file: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
    if name.endswith(LARGE):
        file["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return file
