"""One job's windows through the engine: several in flight, results in file order.

Invariant: whatever ends the iteration, no window of the job stays queued and no thread stays busy
with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from sotto.asking import Asker
from sotto.audio.features import LogMel
from sotto.audio.windows import Window
from sotto.language import VOTES
from sotto.transcript.parts import Part

FEWEST = VOTES
"""Windows that a job may always have in flight: those that vote on its language wait together."""
Featured = tuple[Window, LogMel]
Coming = asyncio.Future[list[Part]]
END: Any = object()
"""Stands for the window behind the last one."""


async def in_order(
    windows: Iterator[Featured | None],
    asker: Asker,
    threads: Executor,
    ahead: Callable[[], int],
    stop: Callable[[], None],
) -> AsyncGenerator[list[Part], None]:
    """Decode `windows`, at most `ahead` of them cut and not yet given back, in file order.

    `ahead` is asked anew for each window; FEWEST may always be. A None among `windows` means that
    there is none yet: the thread is free for other jobs before the next one is asked for.

    `stop` ends the iterators that a thread may still pull.

    An error in a window, or in what makes the windows, is raised when its turn comes.
    """
    feed = _Feeder(windows, asker, threads, ahead)
    feeder = asyncio.create_task(feed.run())
    try:
        while (coming := await feed.queue.get()) is not None:
            yield await coming
            feed.give_back(coming)
    finally:
        stop()
        feeder.cancel()
        for coming in feed.asked:
            coming.cancel()
        await asyncio.gather(feeder, *feed.asked, return_exceptions=True)


class _Feeder:
    """Pulls windows in a thread and asks for each at once; `queue` holds what is to come."""

    def __init__(
        self,
        windows: Iterator[Featured | None],
        asker: Asker,
        threads: Executor,
        ahead: Callable[[], int],
    ) -> None:
        self.queue: asyncio.Queue[Coming | None] = asyncio.Queue()
        self.asked: set[Coming] = set()
        self._ahead = ahead
        self._given_back = asyncio.Event()
        self._windows = windows
        self._asker = asker
        self._threads = threads

    async def run(self) -> None:
        """Feed until the windows end; an error among them takes the place of one."""
        count, failure = 0, None
        try:
            while (featured := await self._pulled()) is not END:
                if featured is None:
                    continue
                self._put(self._asker.ask(*featured))
                count += 1
                await self._room()
        except Exception as error:
            failure = error
        await self._asker.end(count)
        if failure is not None:
            failed: Coming = asyncio.get_running_loop().create_future()
            failed.set_exception(failure)
            self._put(failed)
        self.queue.put_nowait(None)

    def give_back(self, coming: Coming) -> None:
        """This one is no longer waited for."""
        self.asked.discard(coming)
        self._given_back.set()

    def _put(self, coming: Coming) -> None:
        self.asked.add(coming)
        self.queue.put_nowait(coming)

    async def _room(self) -> None:
        """Wait until another window may be cut."""
        while len(self.asked) >= max(FEWEST, self._ahead()):
            self._given_back.clear()
            await self._given_back.wait()

    async def _pulled(self) -> Featured | None:
        """The next window, if there is one yet, or END.

        A thread that is at work on it is waited for, even when cancelled; one that is not is not.
        """
        pull = self._threads.submit(next, self._windows, END)
        pulled = asyncio.wrap_future(pull)
        try:
            return await asyncio.shield(pulled)
        finally:
            if not pull.done() and not pull.cancel():
                await asyncio.wait([pulled])
