"""The process that decodes: it forks for each file, and the child writes into a pipe.

Invariant: no process outlives the one that started it, but for the block it is at work on.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from sotto.audio.decode import count_channels, decode, length_s

HEADER = struct.Struct("<cI")
BLOCK, VALUE, ERROR = b"b", b"v", b"e"
"""What a child writes: a kind, the bytes that follow, and these; a value or an error is its last.

A block is float32; a value is JSON, behind blocks what their generator returns; an error is its
type and its message, in JSON."""
REQUEST_BYTES = 64 * 1024
NOBODY = 0
ORPHANED_S = 5.0
"""How often the process that forks looks whether the one that started it is still there."""
CALLS: Mapping[str, Callable[..., Any]] = {
    call.__name__: call for call in (decode, count_channels, length_s)
}
"""What can be asked for, by name: each takes the file's path first."""


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
                        # Else, should the process that forks die, its starter would not hear of it
                        # before all children have ended.
                        asking.close()
                        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
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
