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
        heads = dict(zip(streams, await _firsts(streams), strict=True))
        while live := [(head.start_s, i) for i, head in enumerate(heads.values()) if head]:
            stream = streams[min(live)[1]]
            segment = heads[stream]
            if segment is not None:
                yield segment
            heads[stream] = await anext(stream, None)


async def _firsts(streams: Sequence[Stream]) -> list[Segment | None]:
    """The first segment of each, waited for together so that all begin at once."""
    tasks = [asyncio.ensure_future(_first(stream)) for stream in streams]
    await asyncio.gather(*tasks, return_exceptions=True)  # none may still run when one is closed
    return [task.result() for task in tasks]


async def _first(stream: Stream) -> Segment | None:
    return await anext(stream, None)
