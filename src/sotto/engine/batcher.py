"""The one place that decides which windows run together.

Invariant: the policy is the pure function `take_batch`; engine threads alone call the engine; every
ticket's future gets exactly one result, error or cancellation, whatever happens to the engine.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from sotto.engine.base import Ask, Decoded, Engine
from sotto.engine.failures import DeviceLost
from sotto.errors import EngineError, OutOfMemory, Overloaded

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A window that waits for the engine, and where its result goes.

    The future stays pending while the engine works, so that it can be cancelled at any time.
    """

    job: Hashable
    ask: Ask
    future: Future[Decoded] = field(default_factory=Future)


def take_batch(queues: Sequence[Sequence[Ticket]], limit: int) -> list[Ticket]:
    """Choose the windows of the next call: all with one key, weighing `limit` together at most.

    `queues` holds each job's tickets, oldest first, the job whose turn it is first. That job's
    oldest window sets the key; then the jobs give one window each in turn until the call is full
    or nothing with that key is left. One window is taken whatever it weighs.
    """
    queues = [queue for queue in queues if queue]
    if not queues:
        return []
    first = queues[0][0].ask
    key, limit = first.key, max(1, limit // first.weight)
    matching = [deque(ticket for ticket in queue if ticket.ask.key == key) for queue in queues]
    batch: list[Ticket] = []
    while len(batch) < limit and any(matching):
        for tickets in matching:
            if tickets and len(batch) < limit:
                batch.append(tickets.popleft())
    return batch


class Batcher:
    """Feeds one engine with the windows of all jobs in flight.

    It never waits for a batch to fill: an idle thread takes what is there, and batches fill by
    themselves while all threads are busy.
    """

    def __init__(self, engine: Engine, *, max_waiting: int = 4096) -> None:
        self.engine = engine
        self._max_waiting = max_waiting
        self._limit = engine.batch_limit
        self._queues: OrderedDict[Hashable, deque[Ticket]] = OrderedDict()
        self._changed = threading.Condition()
        self._running: set[Ticket] = set()
        self._calls = 0  # threads that are at a call
        self._alone = 0  # of those that are not, how many want to be at the only one
        self._closing = False
        self._fault: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._serve, name=f"sotto-engine-{i}", daemon=True)
            for i in range(engine.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def healthy(self) -> bool:
        """False once an engine thread has died: nothing will be decoded any more."""
        return self._fault is None

    @property
    def limit(self) -> int:
        """What the windows of one call weigh at most; halved when the device ran out of memory."""
        return self._limit

    def submit(self, job: Hashable, ask: Ask) -> Future[Decoded]:
        """Queue a window of `job`. Cancel the future to take it back.

        Raises Overloaded when too many windows wait, EngineError when the engine has died.
        """
        ticket = Ticket(job, ask)
        with self._changed:
            if self._fault is not None or self._closing:
                raise EngineError("the engine has stopped; this worker takes no more work")
            if self._waiting() >= self._max_waiting:
                self._drop_cancelled()
            if self._waiting() >= self._max_waiting:
                raise Overloaded(f"{self._max_waiting} windows wait for the device already")
            self._queues.setdefault(job, deque()).append(ticket)
            self._changed.notify()
        return ticket.future

    def close(self) -> None:
        """Finish what runs, fail what waits, free the engine."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._fail_waiting(EngineError("the worker is stopping"))
        self.engine.close()

    def _serve(self) -> None:
        """An engine thread's life. It holds no policy."""
        try:
            while self._turn():
                pass
        except BaseException as error:
            with self._changed:
                self._fault = error
                self._changed.notify_all()
            log.exception("an engine thread has died")
            self._fail_waiting(EngineError(f"the engine has died: {type(error).__name__}"))

    def _turn(self) -> bool:
        """Run the next batch, and hold on to nothing of it; False if there is none any more."""
        batch = self._next()
        if not batch:
            return False
        try:
            self._run(batch)
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()
        return True

    def _next(self) -> list[Ticket]:
        """Wait for work; an empty list means that there will be none."""
        with self._changed:
            while not self._closing and self._fault is None:
                if not self._alone and (batch := self._take()):
                    self._running.update(batch)
                    self._calls += 1
                    return batch
                self._changed.wait()
            return []

    def _take(self) -> list[Ticket]:
        """Remove the next batch from the queues; the jobs it serves go to the end of the turn."""
        self._drop_cancelled()
        # An even share for each thread, also those at work: all of them end at about the same time.
        weight = sum(ticket.ask.weight for queue in self._queues.values() for ticket in queue)
        share = -(-weight // len(self._threads))
        chosen = take_batch(list(self._queues.values()), min(self._limit, share))
        for ticket in chosen:
            queue = self._queues.pop(ticket.job)
            queue.remove(ticket)
            if queue:
                self._queues[ticket.job] = queue
        return chosen

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _drop_cancelled(self) -> None:
        for job, queue in list(self._queues.items()):
            kept = deque(ticket for ticket in queue if not ticket.future.cancelled())
            if kept:
                self._queues[job] = kept
            else:
                del self._queues[job]

    def _run(self, batch: list[Ticket], *, alone: bool = False) -> None:
        """Decode a batch; one that fails is tried again in halves, so that only the bad one fails.

        Out of memory with more than one window halves the limit for good. Where other threads'
        calls may hold memory, what failed is tried again without them: only then does it show
        whether it is too large. The loss of the device ends the thread.
        """
        allowed = self._limit
        try:
            results = self._decoded(batch)
        except DeviceLost:
            raise
        except Exception as error:
            full = isinstance(error, OutOfMemory)
            others_may_hold_it = full and not alone and len(self._threads) > 1
            if len(batch) == 1 and not others_may_hold_it:
                _fail(batch[0], error)
                self._ended(batch[0])
                return
        else:
            self._hand_out(batch, results)
            return
        # Out of the handler, since the error holds the failed call's memory as long as it lives.
        if full and len(batch) > 1:
            # Of what was allowed when the call began: two that fail together halve it once.
            self._halve_limit(allowed if others_may_hold_it else batch[0].ask.weight * len(batch))
        run = self._run_alone if others_may_hold_it else partial(self._run, alone=alone)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if wanted := self._still_wanted(half):
                run(wanted)

    def _decoded(self, batch: list[Ticket]) -> list[Decoded | Ask]:
        results = self.engine.decode([ticket.ask for ticket in batch])
        if len(results) != len(batch):
            raise EngineError(f"{len(batch)} windows went in, {len(results)} came out")
        return results

    def _hand_out(self, batch: list[Ticket], results: list[Decoded | Ask]) -> None:
        """Give each window its result, or queue it for another try."""
        for ticket, result in zip(batch, results, strict=True):
            if isinstance(result, Ask):
                self._again(ticket, result)
            else:
                with suppress(InvalidStateError):  # cancelled while it ran
                    ticket.future.set_result(result)
                self._ended(ticket)

    def _halve_limit(self, too_much: int) -> None:
        """Allow no call more than half of what was too much."""
        self._limit = min(self._limit, max(1, too_much // 2))
        log.warning("out of memory: a call may weigh %d windows from now on", self._limit)

    def _still_wanted(self, batch: list[Ticket]) -> list[Ticket]:
        """Those that have not been cancelled since."""
        wanted = [ticket for ticket in batch if not ticket.future.cancelled()]
        for ticket in batch:
            if ticket not in wanted:
                self._ended(ticket)
        return wanted

    def _run_alone(self, batch: list[Ticket]) -> None:
        """Decode once every other call has ended, and before another begins."""
        with self._changed:
            self._alone += 1
            self._calls -= 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._calls)
            self._calls += 1
        try:
            self._run(batch, alone=True)
        finally:
            with self._changed:
                self._alone -= 1
                self._changed.notify_all()

    def _again(self, ticket: Ticket, ask: Ask) -> None:
        """Queue a window for its next temperature, before the rest of its job."""
        ticket.ask = ask
        with self._changed:
            self._running.discard(ticket)  # at once: another thread may take it in a moment
            self._queues.setdefault(ticket.job, deque()).appendleft(ticket)
            self._changed.notify()

    def _ended(self, ticket: Ticket) -> None:
        with self._changed:
            self._running.discard(ticket)

    def _fail_waiting(self, error: EngineError) -> None:
        with self._changed:
            tickets = [ticket for queue in self._queues.values() for ticket in queue]
            tickets += self._running
            self._queues.clear()
            self._running.clear()
        for ticket in tickets:
            _fail(ticket, error)


def _fail(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):  # done or cancelled already
        ticket.future.set_exception(error)
