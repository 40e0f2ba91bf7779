"""`sotto serve`: the endpoint of an endpoint.toml on this machine, until it is interrupted.

Invariant: no worker outlives the command.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from sotto import log
from sotto.endpoint.config import Endpoint, EndpointError, load
from sotto.endpoint.rules import JOB_TIMEOUT, LEAST_JOB_S
from sotto.endpoint.shape import MARGIN_S
from sotto.gateway.app import Gateway, GatewayOptions
from sotto.gateway.pool import Patience, Pool
from sotto.settings import Settings, SettingsError, variable

HANDLER = Path(__file__).resolve().parents[1] / "handler.py"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
INTERRUPTED = 130
"""The exit code by which a shell knows that a command was interrupted."""
LOCAL_KEY = "local"
"""What clients send as a key where nobody else can reach the port."""
STOP_MARGIN_S = 5.0
"""How much longer than its own grace a worker is waited for: time to say what it leaves undone."""
GREETING = """\
The endpoint is up: {url}
Try it:

  curl -s {url}/runsync -H "Authorization: Bearer {key}" -d @test_input.json

Ctrl-C stops it once the jobs in flight have ended, or after SOTTO_STOP_GRACE_S seconds; a second
one stops it at once.
"""


class ServeError(Exception):
    """The endpoint cannot be served; the message names the option."""


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM. Gives back the exit code."""
    log.configure("info")
    try:
        if not HANDLER.is_file():
            raise ServeError(f"{HANDLER}: not here; serve from a checkout of the repository")
        endpoint = load(args.endpoint)
        options = GatewayOptions(
            api_key=_key(args.key, args.host),
            endpoint_id=endpoint.name,
            host=args.host,
            port=args.port,
            execution_timeout_s=endpoint.timeout_s,
        )
        return asyncio.run(_serve(endpoint, options))
    except (EndpointError, ServeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _serve(endpoint: Endpoint, options: GatewayOptions) -> int:
    interruption = _Interruption()

    def pool(gateway: Gateway) -> Pool:
        interruption.pool = _pool(endpoint, gateway)
        return interruption.pool

    async with AsyncExitStack() as opened:
        try:
            gateway = await opened.enter_async_context(Gateway(options, pool))
        except OSError as error:
            where = f"{options.host} port {options.port}"
            raise ServeError(f"--host, --port: {where}: {error.strerror or error}") from None
        # A key of somebody's own is theirs to know: on a pod, what is printed is kept as a log.
        key = LOCAL_KEY if options.api_key == LOCAL_KEY else "$API_KEY"
        sys.stdout.write(GREETING.format(url=gateway.endpoint_url, key=key))
        sys.stdout.flush()
        await interruption.asked.wait()
        sys.stdout.write("Stopping\n")
        sys.stdout.flush()
    return INTERRUPTED if interruption.is_urgent else 0


def _pool(endpoint: Endpoint, gateway: Gateway) -> Pool:
    filed = {**_job_timeout(endpoint), **endpoint.env}

    def environment(worker_id: str) -> dict[str, str]:
        # What somebody sets for this one run goes before what is filed.
        return {**filed, **os.environ, **gateway.worker_environment(worker_id)}

    patience = Patience(stop_s=_stop_grace_s({**filed, **os.environ}) + STOP_MARGIN_S)
    return Pool(endpoint, gateway.jobs, (sys.executable, str(HANDLER)), environment, patience)


def _stop_grace_s(environ: Mapping[str, str]) -> float:
    """How long the workers let their jobs run on once they must stop."""
    name = variable("stop_grace_s")
    given = {name: environ[name]} if name in environ else {}
    try:
        return Settings.from_env(given).stop_grace_s
    except SettingsError:  # the workers refuse it too, and say why
        return Settings().stop_grace_s


def _job_timeout(endpoint: Endpoint) -> dict[str, str]:
    """How long a job of the workers may run, as on RunPod; their own default if that is nothing."""
    job_s = endpoint.timeout_s - MARGIN_S
    return {JOB_TIMEOUT: f"{job_s:g}"} if job_s >= LEAST_JOB_S else {}


class _Interruption:
    """SIGINT and SIGTERM: the first asks for the end, each further one kills the workers.

    As events of the loop: an exception raised wherever the code is just then could leave a worker
    behind.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.is_urgent = False
        self.pool: Pool | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)

    def _interrupt(self) -> None:
        self.is_urgent = self.asked.is_set()
        self.asked.set()
        if self.is_urgent and self.pool is not None:
            self.pool.kill()


def _key(given: str | None, host: str) -> str:
    if given is None and host in LOOPBACK:
        return LOCAL_KEY
    if not given:
        raise ServeError(f"--key: give one that is not empty; only {LOOPBACK[0]} does without")
    return given
