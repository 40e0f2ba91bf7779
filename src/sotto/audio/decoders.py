"""Decodes each file in a process of its own, so that a file can break no job but its own.

And so that files do not wait for each other. PyAV comes back to Python for every frame, 140,000
times an hour of mp3, and Python runs one thread at a time: with sixteen files in flight, threads
passed its lock around more than they decoded, and together they were slower than one alone.

A process that only knows how to decode is started with the worker. It forks for each file, which
takes milliseconds; a child writes its blocks into a pipe, and is killed if nobody wants the rest.

Invariant: no process outlives the one that started it, but for the block it is at work on; and
nobody waits for a child, whatever it is stuck in, for longer than he wants to.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from sotto.audio import decode as pyav
from sotto.audio.decode import BLOCK_SAMPLES
from sotto.audio.pcm import PcmBlocks
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable, SourceTimeout

PIPE_BYTES = 4 * BLOCK_SAMPLES
"""Room for a block that is decoded in advance."""
HEADER = struct.Struct("<cI")
BLOCK, VALUE, ERROR = b"b", b"v", b"e"
"""What a child writes: a kind, the bytes that follow, and these; a value or an error is its last.

A block is float32; a value is JSON, behind blocks what their generator returns; an error is its
type and its message, in JSON."""
ERRORS: Mapping[str, type[AudioError]] = {
    kind.__name__: kind for kind in (AudioEmpty, AudioTooLong, AudioUndecodable)
}
KEPT = ("GLIBC_TUNABLES", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME")
"""What the decoder gets of the worker's environment, which holds keys and tokens."""
Message = tuple[bytes, bytearray]
"""A kind and the bytes of it."""
REQUEST_BYTES = 64 * 1024
REPLY_BYTES = 32
NOBODY = 0
GLANCE_S = 0.2
"""How often one who waits for a child looks whether he still wants to."""
LOCKED_S = 1.0
"""How long one who wants a child ended waits for his turn to say so."""
LOOK_S = 30.0
"""How long a file may take to tell how long it is, or how many channels it has."""
STOP_S = 5.0
"""How long the process that forks may take to end before it is killed."""
ORPHANED_S = 5.0
"""How often the process that forks looks whether the one that started it is still there."""


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
                [sys.executable, "-m", __name__, str(os.getpid())],
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


CALLS: Mapping[str, Callable[..., Any]] = {
    call.__name__: call for call in (pyav.decode, pyav.count_channels, pyav.length_s)
}


def main(starter: int) -> None:
    """The process that forks, for as long as `starter` is its parent.

    Requests come on stdin, a socket, each with the pipe to write to; one without a pipe names a
    child to kill. Each is answered: with the child's number, or that of nobody.
    """
    children: set[int] = set()
    gc.freeze()  # what is never looked at again stays shared with the children
    ended, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=os.dup(0)) as asking:
        while True:
            waiting, _, _ = select.select([asking.fileno(), ended], [], [], ORPHANED_S)
            if os.getppid() != starter:
                for child in children:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                return
            if ended in waiting:
                os.read(ended, 4096)
                children.difference_update(_reaped())
            if asking.fileno() in waiting:
                request, pipes, _, _ = socket.recv_fds(asking, REQUEST_BYTES, 1)
                if not request:
                    return
                child = NOBODY
                if pipes:
                    child = os.fork()
                    if child == 0:
                        _answer(request, pipes[0])
                        os._exit(0)
                    os.close(pipes[0])
                    children.add(child)
                elif int(request) in children:  # else it has ended, and another may have its number
                    os.kill(int(request), signal.SIGKILL)
                asking.send(str(child).encode())


def _reaped() -> Iterator[int]:
    """The children that have ended."""
    with suppress(ChildProcessError):
        while child := os.waitpid(-1, os.WNOHANG)[0]:
            yield child


def _answer(request: bytes, pipe: int) -> None:
    """The child: do what was asked, and write what comes of it."""
    asked = msgspec.json.decode(request)
    with suppress(BrokenPipeError), open(pipe, "wb") as out:
        try:
            made = CALLS[asked["call"]](Path(asked["path"]), **asked["given"])
            if isinstance(made, Generator):
                made = _written(made, out)
        except BrokenPipeError:
            raise
        except Exception as error:
            _write(out, ERROR, msgspec.json.encode((type(error).__name__, str(error))))
        else:
            _write(out, VALUE, msgspec.json.encode(made))


def _written(blocks: Generator[Any, None, Any], out: BinaryIO) -> Any:
    """Write the blocks. Gives back what their generator returns."""
    while True:
        try:
            block = next(blocks)
        except StopIteration as end:
            return end.value
        _write(out, BLOCK, memoryview(block).cast("B"))


def _write(out: BinaryIO, kind: bytes, content: bytes | memoryview) -> None:
    out.write(HEADER.pack(kind, len(content)))
    out.write(content)
    out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
