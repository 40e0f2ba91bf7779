"""A worker of a few lines: the real SDK, Sotto's loop, and jobs that say step by step what to do.

A job's input is `[[verb, value], ...]`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from sotto import log
from sotto.net import sdk
from sotto.worker import channel, loop

later: set[asyncio.Task[None]] = set()


class Odd:
    """Something that JSON cannot say."""


def endless() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


ODD: dict[str, Callable[[], Any]] = {
    "nan": lambda: {"duration": float("nan")},
    "infinity": lambda: [float("inf")],
    "surrogate": lambda: {"text": "caf\ud800"},
    "object": lambda: {"segments": [Odd()]},
    "set": lambda: {1, 2},
    "bytes": lambda: b"text",
    "tuple as key": lambda: {(1, 2): 3},
    "endless": endless,
    "nothing": dict,
}


async def gate(name: str) -> None:
    """Return when the test opens the gate of this name."""
    url = f"{os.environ['GATES']}/{name}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200


async def tell(stage: object) -> None:
    await channel.current().progress({"stage": stage})


async def stream(item: object) -> None:
    await channel.current().stream(item)


async def tell_and_go_on(stage: object) -> None:
    go_on(tell(stage))


async def tell_after(name: str) -> None:
    async def telling() -> None:
        await gate(name)
        await tell(name)

    go_on(telling())


def go_on(telling: Coroutine[Any, Any, None]) -> None:
    """Let it run beside the job, and after it."""
    task = asyncio.create_task(telling)
    later.add(task)
    task.add_done_callback(later.discard)


async def fail(message: str) -> None:
    raise RuntimeError(message)


async def tidy(name: str) -> None:
    """Wait for the gate "go", and tidy up until that of this name is open."""
    try:
        await gate("go")
    finally:
        await gate(name)


async def give_up(_: object) -> None:
    raise asyncio.CancelledError


VERBS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "gate": gate,
    "tell": tell,
    "tell and go on": tell_and_go_on,
    "tell after": tell_after,
    "stream": stream,
    "fail": fail,
    "tidy": tidy,
    "give up": give_up,
}


async def handle(job: dict[str, Any]) -> Any:
    for verb, value in job["input"]:
        if verb == "return":
            return value
        if verb == "return odd":
            return ODD[value]()
        await VERBS[verb](value)
    raise AssertionError("the last step returns or fails")


def main() -> None:
    log.configure("debug")
    with Path(os.environ["LOADED"]).open("a", encoding="utf-8") as loaded:
        loaded.write("once\n")
    if "START_METHOD" in os.environ:
        multiprocessing.set_start_method(os.environ["START_METHOD"])
    runpod = sdk.load()
    loop.install(
        concurrency=int(os.environ["CONCURRENCY"]), stop_grace_s=float(os.environ["GRACE_S"])
    )
    runpod.serverless.start({"handler": handle})


if __name__ == "__main__":
    main()
