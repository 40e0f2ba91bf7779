"""Modal on this machine: enough of its API that the real client deploys and a real container runs.

Invariant: every call is kept by its name; one that is not modelled is answered by an empty message.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grpclib.server import Server
from modal._serialization import serialize_data_format
from modal_proto import api_grpc, api_pb2
from tests.modal_container import ASGI, HANG_S, Container

IDS = {
    "app_id": "ap-1",
    "class_id": "cs-1",
    "environment_id": "en-1",
    "function_id": "fu-1",
    "image_id": "im-1",
    "mount_id": "mo-1",
    "secret_id": "st-1",
    "volume_id": "vo-1",
}
"""What everything is called: nothing that is tested asks for two of a kind."""


class ModalStub:
    """Entered, it listens on loopback. `asked`: the requests of each kind, in their order."""

    def __init__(self, home: Path) -> None:
        self.asked: defaultdict[str, list[Any]] = defaultdict(list)
        self.container: Container | None = None
        self._home = home
        self._url = ""
        self._loop = asyncio.new_event_loop()
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> ModalStub:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(HANG_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(HANG_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_S)
        self._loop.close()

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a client or a container that knows no Modal but this one."""
        others = {k: v for k, v in os.environ.items() if not k.startswith("MODAL_")}
        return {
            **others,
            "MODAL_SERVER_URL": self._url,
            "MODAL_CONFIG_PATH": str(self._home / "none.toml"),
            "MODAL_TOKEN_ID": "ak-1",
            "MODAL_TOKEN_SECRET": "as-1",
            "MODAL_HEARTBEAT_INTERVAL": "0.1",
            **more,
        }

    def deploy(self, app: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """`modal deploy`, as a person runs it in the folder above that of `app`."""
        command = [sys.executable, "-m", "modal", "deploy", str(app)]
        return subprocess.run(
            command,
            cwd=app.parents[1],
            env=self.environ(**more),
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )

    def deployed(self, name: str) -> Any:
        """The function, or the class `Name.*`, as it was deployed."""
        for request in self.asked["FunctionCreate"]:
            ranked = request.function_data.ranked_functions
            function = ranked[0].function if ranked else request.function
            if function.function_name == name:
                return function
        raise KeyError(name)

    @contextmanager
    def running(self, name: str, **more: str) -> Iterator[Container]:
        """A container of what was deployed as `name`; `more` of its environment."""
        arguments = self._home / "arguments"
        arguments.write_bytes(self._arguments(name).SerializeToString())
        logged = self._home / "container.log"
        environ = self.environ(
            MODAL_CONTAINER_ARGUMENTS_PATH=str(arguments),
            MODAL_TASK_ID="ta-1",
            MODAL_IS_REMOTE="1",
            **more,
        )
        for credential in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
            del environ[credential]
        with logged.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "modal._container_entrypoint"],
                cwd=self._home,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.container = Container(process, logged, self._loop)
        with process:
            try:
                yield self.container
            finally:
                process.kill()

    def _arguments(self, name: str) -> Any:
        function = self.deployed(name)
        layout = api_pb2.AppLayout(
            function_ids={name: IDS["function_id"]},
            class_ids={name.removesuffix(".*"): IDS["class_id"]},
            objects=[api_pb2.Object(object_id=IDS[kind]) for kind in ("function_id", "class_id")],
        )
        _describe(function, layout.objects[0].function_handle_metadata)
        layout.objects[1].class_handle_metadata.SetInParent()
        for dependency in function.object_dependencies:
            known = layout.objects.add(object_id=dependency.object_id)
            if dependency.object_id == IDS["volume_id"]:
                known.volume_metadata.SetInParent()
        return api_pb2.ContainerArguments(
            task_id="ta-1",
            function_id=IDS["function_id"],
            app_id=IDS["app_id"],
            function_def=function,
            app_layout=layout,
            environment_name="main",
        )

    async def _listen(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self._url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._server = Server([_servicer(self)])
        await self._server.start(sock=listening)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


def _describe(function: Any, metadata: Any) -> None:
    """Say of a function what its handles are told."""
    metadata.function_name = function.function_name
    for method, definition in function.method_definitions.items():
        known = metadata.method_handle_metadata[method]
        known.function_name = definition.function_name
        if definition.webhook_config.method:
            known.web_url = f"https://example.modal.run/{method}"


def _servicer(stub: ModalStub) -> Any:
    """All calls of the API, each answered by what `_ANSWERS` makes of it."""
    names = api_grpc.ModalClientBase.__abstractmethods__

    def call(name: str) -> Any:
        async def answer(self: Any, stream: Any) -> None:
            request = await stream.recv_message()
            stub.asked[name].append(request)
            handlers: Mapping[str, Any] = self.__mapping__()
            handler = next(h for path, h in handlers.items() if path.endswith(f"/{name}"))
            reply = handler.reply_type()
            for field in reply.DESCRIPTOR.fields_by_name.keys() & IDS.keys():
                if isinstance(getattr(reply, field), str):
                    setattr(reply, field, IDS[field])
            if name in _ANSWERS:
                reply = await _ANSWERS[name](stub, request, reply)
            await stream.send_message(reply)

        return answer

    return type("Servicer", (api_grpc.ModalClientBase,), {name: call(name) for name in names})()


async def _environment(_: ModalStub, __: Any, reply: Any) -> Any:
    reply.metadata.name = "main"
    reply.metadata.settings.image_builder_version = "2025.06"
    return reply


async def _image(_: ModalStub, __: Any, reply: Any) -> Any:
    reply.result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
    return reply


async def _function(_: ModalStub, request: Any, reply: Any) -> Any:
    if request.HasField("function_data"):
        reply.function_data.CopyFrom(request.function_data)
    else:
        reply.function_data.ranked_functions.add().function.CopyFrom(request.function)
    given = reply.function_data.ranked_functions[0].function
    _describe(given, reply.handle_metadata)
    return reply


async def _inputs(stub: ModalStub, _: Any, reply: Any) -> Any:
    assert stub.container is not None
    reply.inputs.append(await stub.container.inputs.get())
    return reply


async def _heartbeat(stub: ModalStub, _: Any, reply: Any) -> Any:
    assert stub.container is not None
    if not stub.container.cancelled.empty():
        reply.cancel_input_event.input_ids.append(stub.container.cancelled.get_nowait())
    return reply


async def _outputs(stub: ModalStub, request: Any, reply: Any) -> Any:
    assert stub.container is not None
    for item in request.outputs:
        stub.container.results[item.input_id].set_result(item)
    return reply


async def _data_in(stub: ModalStub, request: Any, _: Any) -> Any:
    assert stub.container is not None
    body = stub.container.bodies[request.attempt_token]
    message = {"type": "http.request", "body": body, "more_body": False}
    data = serialize_data_format(message, ASGI)
    return api_pb2.DataChunk(data_format=ASGI, data=data, index=1)


async def _data_out(stub: ModalStub, request: Any, reply: Any) -> Any:
    assert stub.container is not None
    stub.container.chunks[request.attempt_token].extend(request.data_chunks)
    return reply


_ANSWERS = {
    "ContainerHeartbeat": _heartbeat,
    "EnvironmentGetOrCreate": _environment,
    "FunctionCallGetDataIn": _data_in,
    "FunctionCallPutDataOut": _data_out,
    "FunctionCreate": _function,
    "FunctionGetInputs": _inputs,
    "FunctionPutOutputs": _outputs,
    "ImageGetOrCreate": _image,
}
