"""RunPod's REST API v2 and GraphQL over real HTTP on 127.0.0.1, well or as badly as a test wants.

Bodies are checked by the shapes in platform_schema.json, and by the rules beside them that the API
documents in words. `tests.platform_state` holds what the API would hold.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.platform_state import Refused, State

LONGEST_HOLD_S = 60.0


@dataclass
class Trouble:
    """What goes wrong with the next `times` requests that it fits.

    `kind`: "fail" answers with `status`; "drop" closes the connection before the request has acted,
    "hang" after; "hold" acts and answers when it is told to.
    """

    kind: str
    method: str
    path_prefix: str
    times: int
    status: int = 0
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    reached: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the answer go, and hold no other."""
        self.times = 0
        self._released.set()

    def wait(self) -> None:
        """Return once a request is held. Fails after a minute."""
        assert self.reached.wait(LONGEST_HOLD_S), f"no {self.method} {self.path_prefix} came"

    def hold(self) -> None:
        self.reached.set()
        self._released.wait(LONGEST_HOLD_S)


class PlatformApi(State):
    """`with PlatformApi() as platform:`; `requests` are (method, path, body) in their order."""

    key = "rpa_SESAMEOPENSESAME"

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._troubles: list[Trouble] = []
        self._lock = threading.Lock()

    def __enter__(self) -> PlatformApi:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.platform = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for trouble in self._troubles:
            trouble.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead a command here."""
        return {
            "RUNPOD_API_KEY": self.key,
            "RUNPOD_API_URL": self.url,
            "RUNPOD_JOBS_URL": self.url,
        }

    def calls(self, *methods: str) -> list[tuple[str, str]]:
        """The (method, path) of every request, or of those by `methods`."""
        return [(m, path) for m, path, _ in list(self.requests) if not methods or m in methods]

    def fail(
        self,
        method: str,
        path_prefix: str,
        status: int,
        *,
        times: int = 1,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next `times` such requests with `status`, without acting.

        `body`: bytes as they are, anything else as JSON; None is a problem as the API tells it.
        """
        self._add(Trouble("fail", method, path_prefix, times, status, body, headers or {}))

    def hang(self, method: str, path_prefix: str, times: int = 1) -> None:
        """Carry the next `times` such requests out, and close the connection without an answer."""
        self._add(Trouble("hang", method, path_prefix, times))

    def drop(self, method: str, path_prefix: str, times: int = 1) -> None:
        """Close the connection of the next `times` such requests without carrying them out."""
        self._add(Trouble("drop", method, path_prefix, times))

    def hold(self, method: str, path_prefix: str) -> Trouble:
        """Carry the next such request out, and answer it when the trouble is released."""
        return self._add(Trouble("hold", method, path_prefix, 1))

    def _add(self, trouble: Trouble) -> Trouble:
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    def _trouble(self, method: str, path: str) -> Trouble | None:
        for trouble in self._troubles:
            fits = method == trouble.method and path.startswith(trouble.path_prefix)
            if fits and trouble.times > 0:
                trouble.times -= 1
                return trouble
        return None

    def serve(self, handler: _Handler) -> None:
        """Answer one request."""
        path, _, query = handler.path.partition("?")
        body = handler.body()
        with self._lock:
            self.requests.append((handler.command, path, body))
            self.headers.append(dict(handler.headers.items()))
            trouble = self._trouble(handler.command, path)
        if trouble is not None and trouble.kind == "drop":
            return
        if trouble is not None and trouble.kind == "fail":
            problem = _problem(trouble.status, "made to fail by the test")
            answer = problem if trouble.body is None else trouble.body
            handler.answer(trouble.status, answer, trouble.headers)
            return
        try:
            if handler.headers.get("Authorization") != f"Bearer {self.key}":
                raise Refused(401, "the bearer token is not valid")
            with self._lock:
                status, content = self.act(handler.command, path, query, body)
        except Refused as refused:
            status, content = refused.status, _problem(refused.status, str(refused))
        if trouble is not None and trouble.kind == "hang":
            return
        if trouble is not None and trouble.kind == "hold":
            trouble.hold()
        handler.answer(status, content, {})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    platform: PlatformApi

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many tests are about; nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.platform.serve(self)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def body(self) -> Any:
        """The JSON that was sent; bytes where it is none, None where there is nothing."""
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data

    def answer(self, status: int, content: object, headers: dict[str, str]) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silence."""


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"title": f"Problem {status}", "status": status, "detail": detail}
