"""Decodes each file in a process of its own, so that a file can break no job but its own.

And so that files do not wait for each other. PyAV comes back to Python for every frame, 140,000
times an hour of mp3, and Python runs one thread at a time: with sixteen files in flight, threads
passed its lock around more than they decoded, and together they were slower than one alone.

A process that only knows how to decode is started with the worker (forking.py). It forks for each
file, which takes milliseconds; a child writes its blocks into a pipe, and is killed if nobody wants
the rest.

Invariant: nobody waits for a child, whatever it is stuck in, for longer than he wants to.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from sotto.audio import forking
from sotto.audio.decode import BLOCK_SAMPLES
from sotto.audio.forking import BLOCK, HEADER, VALUE
from sotto.audio.pcm import PcmBlocks
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable, SourceTimeout

PIPE_BYTES = 4 * BLOCK_SAMPLES
"""Room for a block that is decoded in advance."""
ERRORS: Mapping[str, type[AudioError]] = {
    kind.__name__: kind for kind in (AudioEmpty, AudioTooLong, AudioUndecodable)
}
KEPT = ("GLIBC_TUNABLES", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME")
"""What the decoder gets of the worker's environment, which holds keys and tokens."""
Message = tuple[bytes, bytearray]
"""A kind and the bytes of it."""
REPLY_BYTES = 32
GLANCE_S = 0.2
"""How often one who waits for a child looks whether he still wants to."""
LOCKED_S = 1.0
"""How long one who wants a child ended waits for his turn to say so."""
LOOK_S = 30.0
"""How long a file may take to tell how long it is, or how many channels it has."""
STOP_S = 5.0
"""How long the process that forks may take to end before it is killed."""


class Decoders:
    """Does what `sotto.audio.decode` does, with the same errors, in other processes.

    Besides, AudioUndecodable if the decoder dies of a file, and RuntimeError if something happens
    that is not the audio's fault.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start()

    @property
    def process_id(self) -> int:
        """The process that forks."""
        return self._process.pid

    def decode(
        self,
        path: Path,
        max_audio_s: float,
        channel: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> PcmBlocks:
        """See `decode.decode`; ends within GLANCE_S of when `stopped` says that it is to."""
        asked = self._asked("decode", path, stopped, max_audio_s=max_audio_s, channel=channel)
        with asked as answer:
            while (message := answer.read()) is not None:
                kind, content = message
                if kind != BLOCK:
                    return cast("str | None", _value(kind, content))
                yield np.frombuffer(content, np.float32)
        return None

    def count_channels(self, path: Path) -> int:
        """See `decode.count_channels`; SourceTimeout too if that takes too long."""
        message = self._told("count_channels", path)
        if message is None:
            raise SourceTimeout(f"in {LOOK_S:g} s the file did not tell what is in it")
        return cast(int, _value(*message))

    def length_s(self, path: Path) -> float | None:
        """See `decode.length_s`; None too if it takes too long to find out."""
        message = self._told("length_s", path)
        return None if message is None else cast("float | None", _value(*message))

    def close(self) -> None:
        """End the process that forks; children that are at work end with their readers."""
        with self._lock:
            self._stop()

    def _told(self, call: str, path: Path) -> Message | None:
        until = time.monotonic() + LOOK_S
        with self._asked(call, path, lambda: time.monotonic() > until) as answer:
            return answer.read()

    @contextmanager
    def _asked(
        self, call: str, path: Path, stopped: Callable[[], bool], **given: Any
    ) -> Iterator[_Answer]:
        """Have a child forked for this call. Gives what it writes, and ends it if more is left."""
        request = msgspec.json.encode({"call": call, "path": str(path), "given": given})
        reading, writing = os.pipe()
        with suppress(OSError, AttributeError):  # not possible everywhere, and only faster
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            child = self._forked(request, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        answer = _Answer(reading, stopped)
        try:
            yield answer
        finally:
            os.close(reading)
            if not answer.is_over:
                self._kill(child)

    def _forked(self, request: bytes, pipe: int) -> int:
        """The child that has been forked for a request, to write into this pipe."""
        with self._lock:
            child = self._sent(request, pipe)
            if child is None:
                self._stop()
                self._start()
                child = self._sent(request, pipe)
        if child is None:
            raise RuntimeError("no process can be started to decode in")
        return child

    def _sent(self, request: bytes, pipe: int) -> int | None:
        """The child that has been forked; None if the process that forks is gone."""
        try:
            socket.send_fds(self._socket, [request], [pipe])
            return int(self._socket.recv(REPLY_BYTES)) or None
        except (OSError, ValueError):
            return None

    def _kill(self, child: int) -> None:
        # Not for ever: Python may close a forgotten decoder in a thread that has the lock.
        if not self._lock.acquire(timeout=LOCKED_S):
            return
        try:
            with suppress(OSError):
                self._socket.sendall(str(child).encode())
                self._socket.recv(REPLY_BYTES)
        finally:
            self._lock.release()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        with closing(theirs):
            self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own Python
                [sys.executable, "-m", forking.__name__, str(os.getpid())],
                stdin=theirs.fileno(),
                env={**kept, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the worker, which says when it is over
            )

    def _stop(self) -> None:
        with suppress(OSError):  # the process is gone
            # To close it is not enough: a process that was forked from this one has it open too.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Answer:
    """What a child writes. `is_over`: its last message, or its end, has been read."""

    def __init__(self, pipe: int, stopped: Callable[[], bool]) -> None:
        self.is_over = False
        self._pipe = pipe
        self._stopped = stopped
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def read(self) -> Message | None:
        """The next message; None once it is to be stopped. Raises AudioUndecodable at the end."""
        header = self._bytes(HEADER.size)
        if header is None:
            return None
        kind, size = HEADER.unpack(header)
        content = self._bytes(size)
        if content is None:
            return None
        self.is_over = kind != BLOCK
        return kind, content

    def _bytes(self, size: int) -> bytearray | None:
        content = bytearray(size)
        at = 0
        while at < size:
            if not self._poll.poll(GLANCE_S * 1000):
                if self._stopped():
                    return None
                continue
            count = os.readv(self._pipe, [memoryview(content)[at:]])
            if not count:
                self.is_over = True
                raise AudioUndecodable("the decoder died of this file")
            at += count
        return content


def _value(kind: bytes, text: bytes | bytearray) -> Any:
    said = msgspec.json.decode(text)
    if kind == VALUE:
        return said
    name, message = said
    raise ERRORS[name](message) if name in ERRORS else RuntimeError(f"{name}: {message}")
