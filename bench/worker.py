"""A worker process behind the local gateway, as the platform would run it.

Invariant: what starts here has ended when its block ends.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench import AS_STARTED
from bench.measure import ROOT
from bench.ours import ENVIRON
from sotto.gateway.app import Gateway, GatewayOptions
from sotto.gateway.process import WorkerProcess

HANDLER = (sys.executable, str(ROOT / "handler.py"))
KEY = "bench"
WORKER_ID = "bench"
LONGEST_WAIT_MS = 300_000
LOOK_S = 0.001
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """A worker that has asked for its first job `ready_s` after its process was started."""

    gateway: Gateway
    pid: int
    ready_s: float


@asynccontextmanager
async def running(command: Sequence[str], environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """Start a worker and wait until it asks for a job. Raises RuntimeError if it ends before."""
    async with Gateway(GatewayOptions(api_key=KEY)) as gateway:
        own = {**AS_STARTED, **ENVIRON, **gateway.worker_environment(WORKER_ID), **environ}
        begun = time.perf_counter()
        process = await WorkerProcess.start(WORKER_ID, command, own)
        ended = asyncio.create_task(process.ended())
        try:
            while not gateway.jobs.workers.is_ready(WORKER_ID):
                if ended.done():
                    raise RuntimeError(f"the worker ended with code {ended.result()}")
                await asyncio.sleep(LOOK_S)
            yield Running(gateway, process.pid, time.perf_counter() - begun)
        finally:
            await process.terminate(STOP_S)
            await ended


def embedded(path: str) -> dict[str, Any]:
    """The input of a job for a file: its bytes as base64."""
    return {"audio_base64": base64.b64encode(Path(path).read_bytes()).decode("ascii")}


async def outputs(gateway: Gateway, inputs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Send every input as a job at once; the outputs. Raises RuntimeError if a job fails."""
    headers = {"Authorization": f"Bearer {KEY}"}
    # No limit on connections: every job waits for its answer on its own.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        return await asyncio.gather(*(_output(session, gateway, one) for one in inputs))


async def _output(
    session: aiohttp.ClientSession, gateway: Gateway, given: Mapping[str, Any]
) -> Any:
    url = f"{gateway.endpoint_url}/runsync?wait={LONGEST_WAIT_MS}"
    async with session.post(url, json={"input": given}) as response:
        answer = await response.json()
    if answer.get("status") != "COMPLETED":
        raise RuntimeError(f"a job ended as {answer.get('status')}: {answer.get('error')}")
    return answer["output"]
