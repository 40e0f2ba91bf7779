"""One worker: a real process, with all that it starts, from its first breath to its last.

Invariant: the process leads a group of its own, and once it has ended nothing of that group lives:
the SDK's ping process outlives its parent. Every line it writes is in the log under its id.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

LONGEST_LINE_BYTES = 65_536
LAST_WORDS_S = 2.0
"""Time for what a dead worker wrote to arrive, if a stranger still holds its output open."""

log = logging.getLogger(__name__)


class WorkerProcess(asyncio.SubprocessProtocol):
    """A worker process; `start` makes one.

    Not asyncio's own Process: its `wait` waits for the output to be closed too, which the ping
    process of a worker that was killed never does.
    """

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self._unfinished = b""
        self._exited = asyncio.Event()
        self._closed = asyncio.Event()
        self._group_is_ours = True

    @classmethod
    async def start(
        cls, worker_id: str, command: Sequence[str], environ: Mapping[str, str]
    ) -> WorkerProcess:
        """Start `command` as a worker. Raises OSError if there is no such program."""
        loop = asyncio.get_running_loop()
        transport, worker = await loop.subprocess_exec(
            lambda: cls(worker_id),
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        log.info("%s: started, process %d", worker_id, transport.get_pid())
        return worker

    @property
    def pid(self) -> int:
        """The process, and the group that it leads."""
        return self._transport.get_pid()

    async def ended(self) -> int:
        """Wait until the process has ended, and end its group.

        Gives back its exit code; -n if signal n killed it.
        """
        await self._exited.wait()
        self.kill()
        self._group_is_ours = False
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._closed.wait()
        self._write_line(self._unfinished)
        self._transport.close()
        code = cast(int, self._transport.get_returncode())
        log.info("%s: ended, exit code %d", self.worker_id, code)
        return code

    async def terminate(self, grace_s: float) -> None:
        """Ask the process to end, and kill its group if it has not after `grace_s`."""
        # Not the group: the heartbeat goes on while the jobs in flight end.
        if not self._exited.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._exited.wait()
        except TimeoutError:
            log.warning("%s: killed, still there %g s after SIGTERM", self.worker_id, grace_s)
            self.kill()

    def kill(self) -> None:
        """Kill the process and its group at once."""
        if self._group_is_ours:
            # macOS answers EPERM where all that is left of a group is dead.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the process runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002
        """asyncio: the process wrote something."""
        *lines, rest = (self._unfinished + data).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._unfinished = rest
        for line in lines:
            self._write_line(line)

    def process_exited(self) -> None:
        """asyncio: the process is dead; others of its group may live."""
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """asyncio: the process is dead and nobody holds its output open."""
        self._closed.set()

    def _write_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            log.info("%s: %s", self.worker_id, text)
