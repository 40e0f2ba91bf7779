"""Decodes each file in a process of its own, so that a file can break no job but its own.

And so that files do not wait for each other. PyAV comes back to Python for every frame, 140,000
times an hour of mp3, and Python runs one thread at a time: with sixteen files in flight, threads
passed its lock around more than they decoded, and together they were slower than one alone.

A process that only knows how to decode is started with the worker. It forks for each file, which
takes milliseconds; a child writes its blocks into a pipe, and ends at the next block once nobody
reads it.

Invariant: no process outlives the one that started it, but for the block it is at work on.
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
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from sotto.audio import decode as decoding
from sotto.audio.decode import BLOCK_SAMPLES
from sotto.audio.pcm import PcmBlocks
from sotto.audio.source import SourceFile
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable

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
REQUEST_BYTES = 64 * 1024
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

    def decode(self, file: SourceFile, max_audio_s: float, channel: int | None = None) -> PcmBlocks:
        """See `decode.decode`."""
        given = {"path": str(file.path), "size_bytes": file.size_bytes}
        with self._asked("decode", {**given, "max_audio_s": max_audio_s, "channel": channel}) as at:
            while True:
                kind, size = _header(at)
                if kind != BLOCK:
                    return cast("str | None", _value(kind, at.read(size)))
                content = at.read(size)
                if len(content) < size:
                    raise _died()
                yield np.frombuffer(content, np.float32)

    def count_channels(self, file: SourceFile) -> int:
        """See `decode.count_channels`."""
        given = {"path": str(file.path), "size_bytes": file.size_bytes}
        return cast(int, self._told("count_channels", given))

    def length_s(self, path: Path) -> float | None:
        """See `decode.length_s`."""
        return cast("float | None", self._told("length_s", {"path": str(path)}))

    def close(self) -> None:
        """End the process that forks; children that are at work end with their readers."""
        with self._lock:
            self._stop()

    def _told(self, call: str, given: Mapping[str, Any]) -> Any:
        with self._asked(call, given) as at:
            kind, size = _header(at)
            return _value(kind, at.read(size))

    def _asked(self, call: str, given: Mapping[str, Any]) -> BinaryIO:
        """Have a child forked for this call. Gives back what it writes."""
        request = msgspec.json.encode({"call": call, "given": given})
        reading, writing = os.pipe()
        with suppress(OSError, AttributeError):  # not possible everywhere, and only faster
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            with self._lock:
                if not self._sent(request, writing):
                    self._stop()
                    self._start()
                    if not self._sent(request, writing):
                        raise RuntimeError("no process can be started to decode in")
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return open(reading, "rb")  # noqa: PTH123 - a number, not a path

    def _sent(self, request: bytes, writing: int) -> bool:
        """Has a child been forked?"""
        try:
            socket.send_fds(self._socket, [request], [writing])
            return bool(self._socket.recv(1))
        except OSError:
            return False

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


def _header(at: BinaryIO) -> tuple[bytes, int]:
    header = at.read(HEADER.size)
    if len(header) < HEADER.size:
        raise _died()
    return cast("tuple[bytes, int]", HEADER.unpack(header))


def _value(kind: bytes, text: bytes) -> Any:
    said = msgspec.json.decode(text)
    if kind == VALUE:
        return said
    name, message = said
    raise ERRORS[name](message) if name in ERRORS else RuntimeError(f"{name}: {message}")


def _died() -> AudioUndecodable:
    return AudioUndecodable("the decoder died of this file")


def _decode(path: str, size_bytes: int, max_audio_s: float, channel: int | None) -> PcmBlocks:
    return decoding.decode(SourceFile(Path(path), size_bytes), max_audio_s, channel)


def _count_channels(path: str, size_bytes: int) -> int:
    return decoding.count_channels(SourceFile(Path(path), size_bytes))


def _length_s(path: str) -> float | None:
    return decoding.length_s(Path(path))


CALLS: Mapping[str, Callable[..., Any]] = {
    "decode": _decode,
    "count_channels": _count_channels,
    "length_s": _length_s,
}


def main(starter: int) -> None:
    """The process that forks, for as long as `starter` is its parent.

    Requests come on stdin, a socket, each with the pipe to write to.
    """
    gc.freeze()  # what is never looked at again stays shared with the children
    ended, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=os.dup(0)) as asking:
        while True:
            waiting, _, _ = select.select([asking.fileno(), ended], [], [], ORPHANED_S)
            if os.getppid() != starter:
                return
            if ended in waiting:
                os.read(ended, 4096)
                _reap()
            if asking.fileno() in waiting:
                request, pipes, _, _ = socket.recv_fds(asking, REQUEST_BYTES, 1)
                if not request:
                    return
                if os.fork() == 0:
                    _answer(request, pipes[0])
                    os._exit(0)
                os.close(pipes[0])
                asking.send(b".")


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _answer(request: bytes, pipe: int) -> None:
    """The child: do what was asked, and write what comes of it."""
    asked = msgspec.json.decode(request)
    with suppress(BrokenPipeError), open(pipe, "wb") as out:
        try:
            made = CALLS[asked["call"]](**asked["given"])
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
