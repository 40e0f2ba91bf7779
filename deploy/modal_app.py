"""The worker as an app on Modal: `modal deploy deploy/modal_app.py`.

Invariant: a job, its answer and its errors are what they are on RunPod, and what endpoint.toml says
holds here too wherever Modal has the same thing.
"""

from __future__ import annotations

import asyncio
import math
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import modal
import modal.experimental
import msgspec
from fastapi import Request, Response

from sotto import log
from sotto.endpoint.config import Endpoint, EndpointError, load
from sotto.endpoint.deployment import wanted
from sotto.endpoint.rules import too_short
from sotto.engine.devices import CUDA
from sotto.errors import RequestError
from sotto.settings import ROOT, Settings, variable
from sotto.worker import health, job
from sotto.worker.failure import failure
from sotto.worker.loop import SPARE_THREADS
from sotto.worker.post import as_result, encoded
from sotto.worker.storage import S3_CONFIG

HOME = PurePosixPath("/app")
"""Where everything lies in a container, as in the Docker image: there `ROOT` is this."""
WEIGHTS = str(HOME / "weights")
CUBLAS = "/opt/cuda"
PYTHON = "3.11"
BAKE_TIMEOUT_S = 3600
CORES = 4.0
"""Modal's own default is an eighth of a core; before the GPU has a window of it, an hour of speech
takes some ten seconds of one."""
MEMORY_MIB = 8192
STARTUP_S = 420
"""Time for a container to load and warm its model, as `sotto serve` allows its workers: without
one of its own, Modal ends a start that takes longer than a single input may."""
LEAST_WINDOW_S = 2
"""Modal refuses a shorter `scaledown_window`."""
FULL_CALLS = (CUDA.threads + 1) * CUDA.decode
"""Jobs of one window each that keep a GPU's calls full: some at work, the next one waiting."""


class BakeFailed(Exception):
    """The model is not in the Volume; the log has the reason."""


def deployable(endpoint: Endpoint) -> Endpoint:
    """The endpoint, if Modal can run it. Raises EndpointError."""
    if endpoint.workers.max == 0:
        raise EndpointError(
            "workers.max: 0 would be no limit on Modal; use 1 or more, or `modal app stop`"
        )
    reason = too_short(endpoint, "Modal")
    if reason:
        raise EndpointError(f"timeout_s: {reason}")
    return endpoint


def scaledown_window(idle_timeout_s: float) -> int | None:
    """For how long Modal keeps a container without an input; None: as Modal has it."""
    return max(LEAST_WINDOW_S, math.ceil(idle_timeout_s)) if idle_timeout_s else None


ENDPOINT = deployable(load(ROOT / "endpoint.toml"))
ENV = {
    name: value
    for name, value in wanted(ENDPOINT, os.environ).env.items()
    if name not in ENDPOINT.secrets
} | {variable("weights_dir"): WEIGHTS}
SETTINGS = Settings.from_env(ENV)
SECRETS = [
    modal.Secret.from_name(secret, required_keys=[name])
    for name, secret in ENDPOINT.secrets.items()
]
GPUS = [gpu.strip() for gpu in os.environ.get("GPU", "L4").split(",") if gpu.strip()]
"""Modal's names of GPUs, the one you like best first; none: a CPU. RunPod's pools are other ones,
so these come from the environment of `modal deploy`."""
AT_ONCE = SETTINGS.concurrency or (FULL_CALLS if GPUS else health.FEWEST_JOBS)

app = modal.App(ENDPOINT.name)
weights = modal.Volume.from_name(f"{ENDPOINT.name}-weights", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .pip_install_from_requirements(str(ROOT / "requirements.txt"), extra_options="--require-hashes")
    .pip_install_from_requirements(
        str(ROOT / "requirements-cuda.txt"),
        extra_options=f"--require-hashes --no-deps --target {CUBLAS}",
    )
    .env(
        {
            "GLIBC_TUNABLES": "glibc.malloc.arena_max=1",
            "HF_HUB_OFFLINE": "1",
            "LD_LIBRARY_PATH": f"{CUBLAS}/nvidia/cublas/lib",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": f"{HOME / 'src'}:{HOME}",
        }
    )
    .add_local_dir(ROOT / "src", str(HOME / "src"), ignore=["**/__pycache__"])
    .add_local_dir(ROOT / "builder", str(HOME / "builder"), ignore=["**/__pycache__"])
    .add_local_file(ROOT / "endpoint.toml", str(HOME / "endpoint.toml"))
)


@app.function(
    image=image, volumes={WEIGHTS: weights}, env={**ENV}, secrets=SECRETS, timeout=BAKE_TIMEOUT_S
)
def bake(model: str = SETTINGS.model, compute_type: str = "") -> None:
    """Put `model` into the Volume: fetched, quantised and proved, as in a build of the image.

    Modal commits a Volume when the function ends. Raises BakeFailed.
    """
    from builder.bake import main  # only this function needs what a bake loads

    into = Settings.from_env(os.environ).weights_dir
    chosen = ["--compute-type", compute_type] if compute_type else []
    if main([model, "--into", into, *chosen]) != 0:
        raise BakeFailed(model)


@app.cls(
    image=image,
    gpu=GPUS or None,
    cpu=CORES,
    memory=MEMORY_MIB,
    volumes={WEIGHTS: weights},
    env={**ENV},
    secrets=SECRETS,
    min_containers=ENDPOINT.workers.min,
    max_containers=ENDPOINT.workers.max,
    scaledown_window=scaledown_window(ENDPOINT.idle_timeout_s),
    timeout=math.ceil(ENDPOINT.timeout_s),
    startup_timeout=max(math.ceil(ENDPOINT.timeout_s), STARTUP_S),
)
@modal.concurrent(
    max_inputs=AT_ONCE,
    target_inputs=min(AT_ONCE, int(ENDPOINT.scaling.value))
    if ENDPOINT.scaling.kind == "request_count"
    else None,
)
class Worker:
    """One container: a model that is loaded once and serves the jobs of all who ask."""

    @modal.enter()
    def load(self) -> None:
        """Load the model and check the container, as a worker does before its first job.

        Raises SettingsError, Unfit, and for a model that does not load UnknownModel, EngineError.
        """
        settings = Settings.from_env(os.environ)
        log.configure(settings.log_level)
        self._service = job.open_service(settings)
        self._threads = ThreadPoolExecutor(AT_ONCE + SPARE_THREADS)
        engine = self._threads.submit(self._service.workshop.warm_up)
        for check in health.checks(settings, engine):
            check()

    @modal.method()
    async def run(self, given: Any) -> dict[str, Any]:
        """A job as for RunPod, `{"input": {…}}`; what RunPod's `/runsync` answers to it."""
        return await self._done(given)

    @modal.fastapi_endpoint(method="POST", requires_proxy_auth=True)
    async def runsync(self, request: Request) -> Response:
        """The same over HTTP, for those who have a proxy token of the workspace.

        A client that goes away does not end its job, as it may be on its way to the address where
        Modal keeps an answer that took longer than 150 s. Modal's own cancellation does.
        """
        try:
            given = msgspec.json.decode(await request.body())
        except (msgspec.DecodeError, ValueError, RecursionError):
            return _json({"error": 'body: not JSON; send {"input": {…}}'}, status=400)
        return _json(await self._done(given))

    @modal.exit()
    def close(self) -> None:
        """Stop the engine and the threads."""
        self._service.workshop.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _done(self, given: Any) -> dict[str, Any]:
        """What became of a job, whatever it was."""
        # By default a few threads for all jobs: some slow downloads would hold up every other.
        asyncio.get_running_loop().set_default_executor(self._threads)
        job_id = modal.current_input_id() or uuid.uuid4().hex
        try:
            output = await job.run({**checked(given), "id": job_id}, self._service)
        except RequestError as error:
            output = failure(error)
        if isinstance(output, dict) and output.get("refresh_worker"):
            await _retire()
        result = as_result(output, last=False)
        status = "FAILED" if "error" in result else "COMPLETED"
        return {"id": job_id, "status": status, **result}


def checked(given: Any) -> dict[str, Any]:
    """A job, if it asks of Modal what there is. Raises RequestError; `input` is checked later."""
    if not isinstance(given, dict):
        raise RequestError("", 'a job is an object, {"input": {…}}')
    for key in given:
        if key not in ("input", S3_CONFIG):
            reason = (
                f"not taken on Modal; a job has 'input', and '{S3_CONFIG}' if it is to be stored"
            )
            raise RequestError(str(key), reason)
    return given


async def _retire() -> None:
    """Have this container replaced once its jobs have ended: its engine has died."""
    if not modal.is_local():
        await modal.experimental.stop_fetching_inputs.aio()


def _json(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(encoded(answer), status, media_type="application/json")
