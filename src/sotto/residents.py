"""The models in memory: which are there, who works with them, and which goes when room is needed.

Invariant: what the models are charged never exceeds the budget, a model that a job works with is
never unloaded, and of the jobs that wait for room the oldest is served first, together with all
that wait for the same model: none of them waits for ever.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sotto.engine import arena
from sotto.engine.batcher import Batcher
from sotto.engine.failures import DeviceLost
from sotto.errors import EngineError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to hold: how it is told from others, its charge, and how it is loaded.

    `load` blocks; what it raises reaches all who wait for the model.
    """

    key: str
    name: str
    memory_bytes: int
    load: Callable[[], Batcher]


@dataclass(slots=True, eq=False)
class Resident:
    """A model that is in memory, or on its way there.

    `charged_bytes`: what it holds of the budget; at first what is unloaded for it, if that is more.
    `loading` ends with the `batcher`, which is set by then. `jobs` work with it now, and `used` is
    the turn in which one last began or ended.
    """

    wanted: Wanted
    charged_bytes: int
    used: int
    loading: Future[Batcher] = field(default_factory=Future)
    batcher: Batcher | None = None
    jobs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    wanted: Wanted
    granted: Future[Resident]


def make_room(
    residents: Iterable[Resident], wanted_bytes: int, budget_bytes: int | None
) -> list[Resident] | None:
    """The models to unload for one that wants this much, the longest unused first.

    Only those go that are loaded and that no job works with. None: they do not make room enough.
    """
    residents = list(residents)
    if budget_bytes is None:
        return []
    over = sum(one.charged_bytes for one in residents) + wanted_bytes - budget_bytes
    idle = [one for one in residents if one.batcher is not None and one.jobs == 0]
    going = []
    for one in sorted(idle, key=lambda one: one.used):
        if over <= 0:
            break
        going.append(one)
        over -= one.charged_bytes
    return going if over <= 0 else None


class Residents:
    """Models that share the memory of a device; safe to use from many threads.

    `threads` load the models. The budget is set before the first model is asked for; None is no
    bound.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.budget_bytes: int | None = None
        self._threads = threads
        self._residents: dict[str, Resident] = {}
        self._asks: list[_Ask] = []
        self._turns = itertools.count()
        self._changing = threading.Lock()
        self._closed = False
        self._is_lost = False

    def ask(self, wanted: Wanted) -> Future[Resident]:
        """Ask for a model to work with.

        The future gives it when there is room, as one that is on its way at least, and one job
        more works with it: end that with `give_back`, or the wait with `withdraw`. The model must
        fit the budget alone. Raises EngineError when all is being closed.
        """
        granted: Future[Resident] = Future()
        with self._changing:
            if self._closed:
                raise _stopping()
            self._asks.append(_Ask(wanted, granted))
            self._serve()
        return granted

    def give_back(self, resident: Resident) -> None:
        """One job less works with it."""
        with self._changing:
            resident.jobs -= 1
            resident.used = next(self._turns)
            self._serve()

    def withdraw(self, granted: Future[Resident]) -> None:
        """Nobody waits for that ask any more, whether it has been served or not."""
        if granted.cancel():
            with self._changing:
                self._serve()
        elif granted.exception() is None:
            self.give_back(granted.result())

    @property
    def healthy(self) -> bool:
        """False once an engine has died, also one that has made room since, or the device is lost.

        No model will work here again for certain: what ended one may have ended the device.
        """
        with self._changing:
            return not self._is_lost and all(batcher.healthy for batcher in self._loaded())

    def close(self) -> None:
        """Fail who waits for room, and unload all models, once what is being loaded is."""
        with self._changing:
            self._closed = True
            for ask in self._asks:
                if ask.granted.set_running_or_notify_cancel():
                    ask.granted.set_exception(_stopping())
            self._asks.clear()
        self._threads.shutdown(cancel_futures=True)
        with self._changing:
            left = self._loaded()
        for batcher in left:
            batcher.close()

    def _loaded(self) -> list[Batcher]:
        """Those that are in memory; `_changing` is held."""
        return _batchers(self._residents.values())

    def _serve(self) -> None:
        """Grant what can be granted, the oldest ask first; `_changing` is held."""
        while self._asks:
            self._asks = [ask for ask in self._asks if not ask.granted.cancelled()]
            if not self._asks:
                return
            wanted = self._asks[0].wanted
            resident = self._residents.get(wanted.key) or self._begin(wanted)
            if resident is None:
                return
            served = [ask for ask in self._asks if ask.wanted.key == wanted.key]
            self._asks = [ask for ask in self._asks if ask.wanted.key != wanted.key]
            for ask in served:
                if ask.granted.set_running_or_notify_cancel():
                    resident.jobs += 1
                    resident.used = next(self._turns)
                    ask.granted.set_result(resident)

    def _begin(self, wanted: Wanted) -> Resident | None:
        """Begin to load a model; None while there is no room for it. `_changing` is held."""
        going = make_room(self._residents.values(), wanted.memory_bytes, self.budget_bytes)
        if going is None:
            return None
        # Now: whose call ended an engine may ask how the worker is before it has been unloaded.
        self._is_lost |= any(not batcher.healthy for batcher in _batchers(going))
        for one in going:
            del self._residents[one.wanted.key]
        freed = sum(one.charged_bytes for one in going)
        resident = Resident(wanted, max(wanted.memory_bytes, freed), used=next(self._turns))
        self._residents[wanted.key] = resident
        resident.loading = self._threads.submit(self._load, resident, going)
        return resident

    def _load(self, resident: Resident, going: list[Resident]) -> Batcher:
        """Unload those that are going, then load; a thread's work."""
        try:
            self._unload(going)
            with self._changing:
                resident.charged_bytes = resident.wanted.memory_bytes
                self._serve()
            batcher = resident.wanted.load()
        except BaseException as error:
            with self._changing:
                self._is_lost |= isinstance(error, DeviceLost)
                self._residents.pop(resident.wanted.key, None)
                self._serve()
            raise
        with self._changing:
            resident.batcher = batcher
            self._serve()
        return batcher

    def _unload(self, going: list[Resident]) -> None:
        for one in going:
            if one.batcher is None:
                continue
            is_lost = False
            try:
                one.batcher.close()
                log.info("model %s is unloaded to make room", one.wanted.name)
            except Exception:
                log.exception("model %s cannot be unloaded", one.wanted.name)
                is_lost = True  # or its memory is: the process can only be replaced
            with self._changing:  # its last call may have ended it after nobody waited for it
                self._is_lost |= is_lost or not one.batcher.healthy
        if going:
            arena.give_back()


def _batchers(residents: Iterable[Resident]) -> list[Batcher]:
    """Those of the models that are loaded."""
    return [one.batcher for one in residents if one.batcher is not None]


def _stopping() -> EngineError:
    return EngineError("the worker is stopping")
