"""A real HTTP server that takes uploads, well or as badly as a test wants, and gives them back.

It answers as `tests.file_server` does, path by path; a path without answers takes what is put.
"""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field

from tests.file_server import Answer, FileServer, Handler, _Server, whole


@dataclass
class StoreServer(FileServer):
    """`with StoreServer() as store:`; what was put lies in `store.stored` by its path."""

    host: str = "127.0.0.1"
    fixed_port: int = 0
    stored: dict[str, bytes] = field(default_factory=dict)

    def __enter__(self) -> StoreServer:
        self._server = _Server((self.host, self.fixed_port), StoreHandler)
        self._server.files = self
        self.closing = threading.Event()
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}:{self.port}{path}"


class StoreHandler(Handler):
    """Runs the answer whose turn it is for a GET or a PUT."""

    @property
    def store(self) -> StoreServer:
        files = self.server.files
        assert isinstance(files, StoreServer)
        return files

    @property
    def bare_path(self) -> str:
        return self.path.partition("?")[0]

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        if self.bare_path in self.store.stored and self.bare_path not in self.store.answers:
            body = self.store.stored[self.bare_path]
            self.store.answers[self.bare_path] = [whole(body, content_type="application/json")]
        super().do_GET()

    def do_PUT(self) -> None:  # noqa: N802 - the library's name
        self.store.answers.setdefault(self.bare_path, [taken()])
        super().do_GET()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))


def taken(code: int = 200) -> Answer:
    """Read the body and keep it."""

    def answer(handler: Handler) -> None:
        assert isinstance(handler, StoreHandler)
        handler.store.stored[handler.bare_path] = handler.body()
        handler.head(code, Content_Length=None if code == 204 else 0)

    return answer


def after_body(then: Answer) -> Answer:
    """Read the body, forget it and answer with `then`."""

    def answer(handler: Handler) -> None:
        assert isinstance(handler, StoreHandler)
        handler.body()
        then(handler)

    return answer


def reset_after(size_bytes: int) -> Answer:
    """Read so many bytes of the body and reset the connection."""

    def answer(handler: Handler) -> None:
        handler.rfile.read(size_bytes)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return answer
