"""Several streams of segments in, one stream in the order of their starts out.

Invariant: all streams go on while one is waited for, and all are closed whatever ends the
iteration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing

from sotto.transcript.segments import Segment

Stream = AsyncGenerator[Segment, None]


async def merged(streams: Sequence[Stream]) -> AsyncGenerator[Segment, None]:
    """The segments of all streams, each of which is in order by itself."""
    async with AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(aclosing(stream))
        heads = await _firsts(streams)
        while waiting := [(head.start_s, at, head) for at, head in enumerate(heads) if head]:
            _, at, head = min(waiting)  # no two have one `at`: segments are never compared
            yield head
            heads[at] = await anext(streams[at], None)


async def _firsts(streams: Sequence[Stream]) -> list[Segment | None]:
    """The first segment of each, waited for together so that all begin at once.

    The first error ends the wait for all.
    """
    tasks = [asyncio.ensure_future(_first(stream)) for stream in streams]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        return [task.result() for task in sorted(done, key=tasks.index)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # none may run when one is closed


async def _first(stream: Stream) -> Segment | None:
    return await anext(stream, None)
