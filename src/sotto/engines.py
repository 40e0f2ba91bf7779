"""A model's name in, the batcher that serves it out, for as long as a job works with it.

Invariant: the only place that chooses between the engines; whoever asks for a model, from whatever
thread, waits for the one load of it, and no model serves before it is warm.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from sotto.engine import arena, memory
from sotto.engine.base import Engine
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, UnknownModel
from sotto.models.compute import Device
from sotto.models.memory import RESERVE_BYTES
from sotto.models.store import Store
from sotto.plan import EngineOptions, Plan, plan
from sotto.residents import Resident, Residents, Wanted

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_SOUGHT = 32
"""Models that are looked for at once, each in a thread; more than a worker knows by name."""


class Engines:
    """The models of this process, loaded when first asked for; safe to use from many threads."""

    def __init__(self, store: Store, options: EngineOptions) -> None:
        self._store = store
        self._options = options
        # A thread for each model that may be sought: none waits behind the download of another.
        self._threads = ThreadPoolExecutor(MOST_SOUGHT, thread_name_prefix="sotto-find")
        self._residents = Residents(ThreadPoolExecutor(thread_name_prefix="sotto-load"))
        self._plans: dict[Path, Plan] = {}
        self._device: Device | None = None
        self._planning = threading.Lock()
        self._sought: dict[str, Future[Wanted]] = {}
        arena.share_one()  # before the threads of ours, which would have pools of their own
        if options.engine == "whisper":
            # Here, not in the thread that loads: two threads that import hold each other up.
            from sotto.engine import whisper  # noqa: F401

    @asynccontextmanager
    async def lease(self, name: str | None) -> AsyncIterator[tuple[Batcher, tuple[str, ...]]]:
        """The batcher of the model called `name`, or of the default, and warnings to pass on.

        The model stays loaded for as long as the block lasts. Waits for the load and, while the
        models in use leave no room for it, until they do. Raises UnknownModel, EngineError,
        OutOfMemory.
        """
        resident, warnings = await self._held(name)
        try:
            batcher = await _shielded(resident.loading)
            yield batcher, warnings
        finally:
            self._residents.give_back(resident)

    def load(self) -> Future[Batcher]:
        """Begin to load the default model, or join the load of it.

        Blocks while the model's files are sought or downloaded, and until there is room for it; not
        while it is loaded. Raises UnknownModel, EngineError, OutOfMemory; so does the future.
        """
        resident = self._residents.ask(self._wanted(self._options.model)).result()
        self._residents.give_back(resident)
        return resident.loading

    def available(self) -> tuple[str, ...]:
        """The names of the models that are here, in alphabetical order; blocks for the disk."""
        if self._options.engine == "fake":
            return (self._options.model,)
        return self._store.available()

    @property
    def healthy(self) -> bool:
        """False once the engine of a model has died, or the device is lost."""
        return self._residents.healthy

    def close(self) -> None:
        """Stop all engines, once what is being loaded is; what waits or is downloaded fails."""
        self._store.stop()
        self._residents.close()
        self._threads.shutdown(cancel_futures=True)

    async def _held(self, name: str | None) -> tuple[Resident, tuple[str, ...]]:
        """A model that is kept for us, and warnings."""
        default = self._options.model
        try:
            return await self._granted(name or default), ()
        except UnknownModel:
            if self._options.model_fallback != "baked" or name in (None, default):
                raise
        warning = f"model: {name!r} is not on this worker; '{default}' was used"
        return await self._granted(default), (warning,)

    async def _granted(self, name: str) -> Resident:
        wanted = await _shielded(self._seek(name))
        granted = self._residents.ask(wanted)
        try:
            return await asyncio.wrap_future(granted)
        except asyncio.CancelledError:
            self._residents.withdraw(granted)
            raise

    def _seek(self, name: str) -> Future[Wanted]:
        """Look for a model, or join who does: a download takes one thread, however many wait."""
        sought = self._sought.get(name)
        if sought is None:
            sought = self._sought[name] = self._threads.submit(self._wanted, name)
            sought.add_done_callback(lambda _: self._sought.pop(name))
        return sought

    def _wanted(self, name: str) -> Wanted:
        """The model called `name` with its plan; blocks for the disk, or a download."""
        if self._options.engine == "fake":
            return Wanted("", name, 0, partial(self._load, name, Path(), None))
        folder = self._store.find(name)
        with self._planning:
            if folder not in self._plans:
                self._plans[folder] = self._planned(name, folder)
            how = self._plans[folder]
        return Wanted(str(folder), name, how.memory_bytes, partial(self._load, name, folder, how))

    def _planned(self, name: str, folder: Path) -> Plan:
        if self._device is None:
            self._device = device(self._options.device)
            self._residents.budget_bytes = self._budget(self._device.kind)
        return plan(name, folder, self._options, self._device, self._residents.budget_bytes)

    def _budget(self, kind: str) -> int | None:
        """Bytes that models may have on the device; None if that is not known."""
        if self._options.model_memory_bytes:
            return self._options.model_memory_bytes
        free = memory.free_bytes(kind)
        return None if free is None else free - RESERVE_BYTES

    def _load(self, name: str, folder: Path, how: Plan | None) -> Batcher:
        begun = time.perf_counter()
        engine = build(name, folder, how)
        try:
            engine.warm_up()
        except BaseException:
            engine.close()
            raise
        seconds = time.perf_counter() - begun
        kind = f", in {how.compute_type}" if how else ""
        log.info(
            "model %s is warm on %s after %.2f s%s", engine.model, engine.device, seconds, kind
        )
        return Batcher(engine, max_waiting=self._options.max_waiting)


def _shielded(shared: Future[T]) -> asyncio.Future[T]:
    """What others wait for as well: it goes on when this wait is given up.

    Then nobody here asks how it ended, which asyncio would log as an oversight.
    """
    ours = asyncio.wrap_future(shared)
    ours.add_done_callback(lambda done: done.cancelled() or done.exception())
    return asyncio.shield(ours)


def device(wanted: str) -> Device:
    """The device that `wanted`, "auto", "cpu" or "cuda", means on this machine.

    Raises EngineError if it is not there.
    """
    from sotto.engine import whisper  # loads CTranslate2, which the fake does without

    gpus = whisper.cuda_devices() if wanted != "cpu" else 0
    if wanted == "cuda" and not gpus:
        raise EngineError("SOTTO_DEVICE: 'cuda' has no GPU to run on; use auto or cpu")
    kind = "cuda" if gpus else "cpu"
    capability = memory.capability() if gpus else None
    return Device(kind, frozenset(whisper.compute_types(kind)), capability)


def build(name: str, folder: Path, how: Plan | None) -> Engine:
    """Load the model in `folder` as planned; without a plan, the engine that has no weights.

    Raises EngineError, OutOfMemory.
    """
    if how is None:
        return FakeEngine(model=name)
    from sotto.engine import whisper  # as above

    return whisper.load(name, folder, how.device, how.compute_type, how.batching)
