"""What runs of an app on Modal: a checkout as it is brought into a container, and a container.

Invariant: nothing here waits longer than `HANG_S`; a test that would hang fails instead.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections import defaultdict
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from modal._serialization import deserialize_data_format, serialize_data_format
from modal_proto import api_pb2

ROOT = Path(__file__).resolve().parents[1]
HANG_S = 90.0
PICKLE, ASGI = api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_ASGI


class Checkout:
    """A checkout with an endpoint.toml of its own, and what becomes of it in a container."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.root, self._mounted = folder / "app", folder / "root"
        for part in ("builder", "deploy", "src"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, self.root / part, ignore=ignored)
        for part in ("requirements.txt", "requirements-cuda.txt"):
            shutil.copy(ROOT / part, self.root)
        (self.root / "endpoint.toml").write_text(endpoint, encoding="utf-8")
        self.app = self.root / "deploy" / "modal_app.py"

    @property
    def environ(self) -> dict[str, str]:
        """Where the person who deploys has the package."""
        return _python_path(self.root / "src", self.root)

    def as_in_a_container(self) -> dict[str, str]:
        """Leave only what Modal brings into a container, where it brings it; the paths there."""
        self._mounted.mkdir()
        shutil.copy(self.app, self._mounted)
        shutil.rmtree(self.root / "deploy")
        for requirements in self.root.glob("requirements*.txt"):
            requirements.unlink()
        return _python_path(self.root / "src", self.root, self._mounted)


class Container:
    """A process that runs Modal's own entry point; jobs go in and results come out."""

    def __init__(
        self, process: subprocess.Popen[bytes], logged: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.process = process
        self.inputs: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.bodies: dict[str, bytes] = {}
        self.chunks: defaultdict[str, list[Any]] = defaultdict(list)
        self.results: dict[str, Future[Any]] = {}
        self._logged = logged
        self._loop = loop
        self._count = 0

    def submit(self, method: str, *args: Any) -> str:
        """Give it an input; the id of that."""
        return self._submit(method, args)

    def post(self, method: str, body: bytes) -> str:
        """Send a request to its web endpoint; the id of that."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [],
            "http_version": "1.1",
            "scheme": "https",
            "client": ("127.0.0.1", 1),
        }
        return self._submit(method, (scope,), body)

    def value(self, input_id: str) -> Any:
        """What the method gave back. Fails the test if it raised, or if nothing comes."""
        item = self.result(input_id)
        assert item.result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, item.result
        return deserialize_data_format(item.result.data, item.data_format, None)

    def response(self, input_id: str) -> tuple[int, bytes]:
        """The HTTP status and the body that were sent for a request."""
        self.result(input_id)
        messages = [deserialize_data_format(c.data, ASGI, None) for c in self.chunks[input_id]]
        body = b"".join(message.get("body", b"") for message in messages)
        return messages[0]["status"], body

    def result(self, input_id: str) -> Any:
        """How an input ended, as Modal is told."""
        until = time.monotonic() + HANG_S
        while not wait([self.results[input_id]], timeout=0.2).done:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
        return self.results[input_id].result()

    def cancel(self, input_id: str) -> None:
        """Tell it, as Modal does with a heartbeat, that an input is no longer wanted."""
        self._loop.call_soon_threadsafe(self.cancelled.put_nowait, input_id)

    def stop(self) -> int:
        """Let it end once its inputs have; its exit code."""
        item = api_pb2.FunctionGetInputsItem(kill_switch=True)
        self._loop.call_soon_threadsafe(self.inputs.put_nowait, item)
        return self.process.wait(HANG_S)

    def await_log(self, text: str) -> None:
        """Return once it has written this."""
        until = time.monotonic() + HANG_S
        while text not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        """All that it has written."""
        return self._logged.read_text(encoding="utf-8")

    def _submit(self, method: str, args: tuple[Any, ...], body: bytes = b"") -> str:
        self._count += 1
        input_id = f"in-{self._count}"
        self.bodies[input_id] = body
        self.results[input_id] = Future()  # one, for two threads: who waits, who answers
        data = serialize_data_format((args, {}), PICKLE)
        item = api_pb2.FunctionGetInputsItem(
            input_id=input_id,
            function_call_id=input_id,
            attempt_token=input_id,
            input=api_pb2.FunctionInput(args=data, data_format=PICKLE, method_name=method),
        )
        self._loop.call_soon_threadsafe(self.inputs.put_nowait, item)
        return input_id


def _python_path(*folders: Path) -> dict[str, str]:
    given = filter(None, [os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), *given])}
