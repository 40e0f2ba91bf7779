"""The gateway as a whole: an HTTP server on this machine, and the workers that it may start.

Invariant: the workers start after the server listens and end before it stops, so that they always
find it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from sotto.gateway import wire
from sotto.gateway.clients import Clients
from sotto.gateway.job import Policy
from sotto.gateway.jobs import Jobs
from sotto.gateway.webhooks import Webhooks
from sotto.gateway.workers_api import WorkersApi

EXPIRE_EVERY_S = 0.5
SHUTDOWN_S = 0.5
"""Time for answers that are under way when the gateway stops; polls are not waited for."""
LARGEST_BODY_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What an endpoint on this machine is like. `port` 0: any that is free."""

    api_key: str
    endpoint_id: str = "local"
    host: str = "127.0.0.1"
    port: int = 0
    execution_timeout_s: float = 600.0
    poll_s: float = 20.0
    webhook_interval_s: float = 10.0


class Pool(Protocol):
    """Whoever starts workers."""

    @property
    def unhealthy(self) -> int:
        """How many workers ended of themselves of late."""

    async def start(self) -> None:
        """Begin to start and stop workers."""

    async def close(self) -> None:
        """End them all."""


class Gateway:
    """`async with Gateway(options) as gateway`: an endpoint at `gateway.url`.

    `pool`: makes what starts workers for this gateway; None: workers are started by others.
    Raises OSError if the port cannot be had.
    """

    def __init__(
        self,
        options: GatewayOptions,
        pool: Callable[[Gateway], Pool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = ""
        self._options = options
        self._make_pool = pool
        self._pool: Pool | None = None
        self._webhooks = Webhooks(options.webhook_interval_s)
        self.jobs = Jobs(clock, ended=self._webhooks.send)
        self._workers_api = WorkersApi(self.jobs, secrets.token_urlsafe(), options.poll_s)

    @property
    def client_url(self) -> str:
        """What the client library calls `runpod.endpoint_url_base`."""
        return f"{self.url}/v2"

    @property
    def endpoint_url(self) -> str:
        """What `/run` and its siblings follow."""
        return f"{self.client_url}/{self._options.endpoint_id}"

    def worker_environment(self, worker_id: str) -> dict[str, str]:
        """The variables that make a process of the SDK a worker of this gateway."""
        return {
            **self._workers_api.addresses(f"{self.url}/worker"),
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_ENDPOINT_ID": self._options.endpoint_id,
            # They ask for the internet and for free memory that no desk need have.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    async def __aenter__(self) -> Gateway:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._webhooks)
            await self._listen(opened)
            expiring = asyncio.create_task(self.jobs.keep_expiring(EXPIRE_EVERY_S))
            opened.push_async_callback(_ended, expiring)
            if self._make_pool is not None:
                self._pool = self._make_pool(self)
                opened.push_async_callback(self._pool.close)
                await self._pool.start()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def _listen(self, opened: AsyncExitStack) -> None:
        options = self._options
        policy = Policy(execution_timeout_s=options.execution_timeout_s)
        clients = Clients(self.jobs, options.api_key, policy, self._unhealthy)
        app = web.Application(middlewares=[wire.errors_as_json], client_max_size=LARGEST_BODY_BYTES)
        app.add_subapp(f"/v2/{options.endpoint_id}", clients.app())
        app.add_subapp("/worker", self._workers_api.app())
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await runner.setup()
        opened.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, options.host, options.port)
        await site.start()
        self.url = site.name

    def _unhealthy(self) -> int:
        return 0 if self._pool is None else self._pool.unhealthy


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
