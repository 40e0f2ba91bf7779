"""A worker in a container: started, watched and stopped from outside.

Invariant: whatever happens, the container is gone in the end; what it logged is added to an error.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.engine import Engine

from sotto.gateway.app import Gateway, GatewayOptions
from sotto.gateway.job import Job, Order

HANG_S = 300.0
NAME = "worker-1"
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--user=65534:65534",
)
"""As little as a container can have and run."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was started in the background."""

    engine: Engine
    name: str

    async def signal(self, name: str) -> None:
        """Send the signal `name`, "TERM" for one, to its first process."""
        await asyncio.to_thread(self.engine.must, "kill", f"--signal={name}", self.name)

    async def ended(self) -> int:
        """Wait until it has ended; the exit code."""
        return int(await asyncio.to_thread(self.engine.must, "wait", self.name))

    async def log(self) -> str:
        """What it has written."""
        return (await asyncio.to_thread(self.engine, "logs", self.name)).told

    async def started_s(self) -> float:
        """When its first process was made, in seconds since the machine was booted."""
        return await asyncio.to_thread(self._started_s)

    def _started_s(self) -> float:
        pid = self.engine.must("inspect", "--format={{.State.Pid}}", self.name).strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        ticks = int(stat.rpartition(")")[2].split()[19])
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """A gateway and the one worker that it has."""

    gateway: Gateway
    container: Container

    async def end(self, given: Mapping[str, object]) -> Job:
        """A job with this input, once it has ended."""
        job = self.gateway.jobs.submit(Order(dict(given)))
        assert await self.gateway.jobs.end(job, HANG_S), job.state
        return job


@asynccontextmanager
async def container(
    engine: Engine, image: str, environ: Mapping[str, str]
) -> AsyncIterator[Container]:
    """A hardened container of `image` that reaches this machine's ports."""
    one = Container(engine, f"sotto-test-{secrets.token_hex(4)}")
    given = [f"--env={name}={value}" for name, value in environ.items()]
    try:
        await asyncio.to_thread(
            engine.must,
            *("run", "--detach", "--network=host", "--name", one.name),
            *HARDENED,
            *given,
            image,
        )
        async with asyncio.timeout(HANG_S):
            yield one
    except BaseException as error:
        error.add_note(await one.log())
        raise
    finally:
        await asyncio.to_thread(engine, "rm", "--force", one.name)


@asynccontextmanager
async def at_work(engine: Engine, image: str, **environ: str) -> AsyncIterator[Work]:
    """The image as the worker of an endpoint on this machine."""
    async with Gateway(GatewayOptions("sesame", poll_s=1.0)) as gateway:
        given = {**gateway.worker_environment(NAME), **environ}
        async with container(engine, image, given) as one:
            yield Work(gateway, one)
