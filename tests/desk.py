"""A gateway at a desk, whose workers are real processes that its pool starts.

Invariant: nothing here waits longer than `HANG_S`; a test that would hang fails instead.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from tests.sound import wav

from sotto.endpoint.config import Endpoint, Scaling, Workers
from sotto.gateway.app import Gateway, GatewayOptions
from sotto.gateway.job import Job, Order
from sotto.gateway.pool import Patience, Pool

ROOT = Path(__file__).resolve().parents[1]
HANDLER = (sys.executable, str(ROOT / "handler.py"))
HANG_S = 60.0
KEY = "sesame"
OPTIONS = GatewayOptions(KEY, poll_s=1.0)
IMPATIENT = Patience(start_s=30.0, heed_s=0.2, stop_s=0.2)
SOUND = wav(np.random.default_rng(0).normal(0, 0.1, 16_000).clip(-1, 1))
SPOKEN = Order({"audio_base64": base64.b64encode(SOUND).decode(), "enable_vad": False})
"""A job with something to transcribe: a second of noise, silence included."""


@dataclass
class Desk:
    """A gateway whose workers the pool starts."""

    gateway: Gateway
    pool: Pool

    def submit(self, order: Order | None = None) -> Job:
        return self.gateway.jobs.submit(order or Order({}))

    async def end(self, job: Job, hang_s: float = HANG_S) -> Job:
        """The job, once it has ended."""
        assert await self.gateway.jobs.end(job, hang_s), job.state
        return job

    async def until(self, look: Callable[[], object]) -> None:
        """Return once `look` finds something."""
        async with asyncio.timeout(HANG_S):
            while not look():
                await self.gateway.jobs.changed.wait(0.05)

    async def health(self) -> dict[str, dict[str, int]]:
        """What clients are told of jobs and workers."""
        headers = {"Authorization": KEY}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{self.gateway.endpoint_url}/health") as response,
        ):
            told: dict[str, dict[str, int]] = await response.json()
            return told

    def processes(self) -> list[int]:
        """The processes of the workers."""
        return [member.process.pid for member in self.pool._members.values()]

    def workers(self) -> int:
        """How many workers the gateway knows."""
        census = self.gateway.jobs.census()
        return census.initializing + census.idle + census.running


@asynccontextmanager
async def desk(
    command: tuple[str, ...],
    endpoint: Endpoint,
    patience: Patience = IMPATIENT,
    environ: Mapping[str, str] | None = None,
    gateway: GatewayOptions = OPTIONS,
) -> AsyncIterator[Desk]:
    pools: list[Pool] = []

    def pool(of: Gateway) -> Pool:
        def environment(worker_id: str) -> dict[str, str]:
            return {**os.environ, **(environ or {}), **of.worker_environment(worker_id)}

        pools.append(Pool(endpoint, of.jobs, command, environment, patience))
        return pools[0]

    async with Gateway(gateway, pool) as opened:
        yield Desk(opened, pools[0])


def by_delay(least: int = 0, most: int = 1, *, idle_timeout_s: float = 600.0) -> Endpoint:
    return Endpoint(
        name="desk",
        workers=Workers(min=least, max=most, idle_timeout_s=idle_timeout_s),
        scaling=Scaling(kind="queue_delay", value=0.5),
    )
