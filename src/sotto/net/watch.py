"""The time a transfer has, and the end of its connections when that is over.

A socket's own timeout bounds one wait, not their sum: a server that sends or takes a byte now and
then would hold the thread for as long as it likes.

Invariant: a moment after the end of the time, or after the cancellation, no read or write is
blocked.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from sotto.errors import SourceTimeout, SourceUnreachable

GLANCE_S = 0.1


class Session(requests.Session):
    """A session that leaves an answer's body unread, whatever its status is.

    `lines`: second handles of the connections it has opened; they are closed with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[socket.socket] = []

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for line in self.lines:
            line.close()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: where a redirect may lead is looked at by us.

        requests would read the body of a redirect whole to look at the next one, also when it is
        told to follow none.
        """


class Watch:
    """Entered for one transfer; `name` is what messages call the address."""

    def __init__(self, name: str, seconds: float, cancelled: threading.Event) -> None:
        self._name = name
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._cancelled = cancelled
        self._session: Session | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sotto-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def left_s(self) -> float:
        """Seconds to the end, a moment at least."""
        return max(GLANCE_S, self._end - time.monotonic())

    def check(self) -> None:
        """Raise SourceTimeout if the time is over, SourceUnreachable if the job is cancelled."""
        if self._cancelled.is_set():
            raise SourceUnreachable(f"{self._name}: the job was cancelled meanwhile")
        if time.monotonic() >= self._end:
            raise SourceTimeout(f"{self._name}: not done within {self._seconds:g} s")

    def pause(self, seconds: float) -> None:
        """Wait, at most to the end; then check."""
        self._cancelled.wait(max(0.0, min(seconds, self._end - time.monotonic())))
        self.check()

    def session(self, adapter: HTTPAdapter) -> requests.Session:
        """A session over `adapter` whose connections end with the watch; one is open at a time."""
        session = Session()
        pools = adapter.poolmanager.pool_classes_by_scheme
        adapter.poolmanager.pool_classes_by_scheme = {
            scheme: functools.partial(_watched, session.lines, pool)
            for scheme, pool in pools.items()
        }
        session.trust_env = False  # neither a proxy nor a password from a .netrc of the worker's
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._session = session
        return session

    def _run(self) -> None:
        while not self._done.wait(GLANCE_S):
            if self._cancelled.is_set() or time.monotonic() >= self._end:
                session = self._session
                for line in tuple(session.lines) if session is not None else ():
                    with suppress(OSError):
                        line.shutdown(socket.SHUT_RDWR)


def _watched(lines: list[socket.socket], pool_class: Any, *where: Any, **how: Any) -> Any:
    """Make a connection pool that notes each line it opens, before any word is said on it."""
    pool = pool_class(*where, **how)
    plain = pool.ConnectionCls

    def opened(connection: Any) -> socket.socket:
        line: socket.socket = plain._new_conn(connection)  # noqa: SLF001 - before TLS
        # A second handle, since TLS takes the first one away, and then waits for the server.
        lines.append(line.dup())
        return line

    pool.ConnectionCls = type("WatchedConnection", (plain,), {"_new_conn": opened})
    return pool
