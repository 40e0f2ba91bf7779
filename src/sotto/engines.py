"""A model's name in, the batcher that serves it out: each model is loaded once.

Invariant: the only place that chooses between the engines; whoever asks for a model, from whatever
thread, waits for the one load of it, and no model serves before it is warm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from sotto.engine import arena
from sotto.engine.base import Engine
from sotto.engine.batcher import Batcher
from sotto.engine.devices import CPU, CUDA, Batching
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, UnknownModel
from sotto.models.compute import choose
from sotto.models.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How models are run; the fields are settings of the same name."""

    engine: str
    model: str
    model_fallback: str
    device: str
    compute_type: str
    model_workers: int
    encode_batch: int
    decode_batch: int
    max_waiting: int


class Engines:
    """The models of this process, loaded when first asked for; safe to use from many threads."""

    def __init__(self, store: Store, options: EngineOptions) -> None:
        self._store = store
        self._options = options
        self._loads: dict[str, Future[Batcher]] = {}
        self._changing = threading.Lock()
        # Threads of their own: where a model lies is not to be asked behind a slow download.
        self._threads = ThreadPoolExecutor(thread_name_prefix="sotto-load")
        if options.engine == "whisper":
            # Here, not in the thread that loads: two threads that import hold each other up.
            from sotto.engine import whisper  # noqa: F401

    async def get(self, name: str | None) -> tuple[Batcher, tuple[str, ...]]:
        """The batcher for the model called `name`, or for the default, and warnings to pass on.

        Raises UnknownModel, EngineError, OutOfMemory.
        """
        default = self._options.model
        try:
            return await self._loaded(name), ()
        except UnknownModel:
            if self._options.model_fallback != "baked" or name in (None, default):
                raise
        warning = f"model: {name!r} is not on this worker; '{default}' was used"
        return await self._loaded(default), (warning,)

    def load(self, name: str | None = None) -> Future[Batcher]:
        """Begin to load the model called `name`, or the default, or join the load of it.

        Blocks while the model's files are sought or downloaded, not while they are loaded. Raises
        UnknownModel, EngineError; the future raises EngineError, OutOfMemory.
        """
        name = name or self._options.model
        folder = Path() if self._options.engine == "fake" else self._store.find(name)
        with self._changing:
            load = self._loads.get(str(folder))
            if load is None or (load.done() and load.exception() is not None):
                load = self._threads.submit(self._load, name, folder)
                self._loads[str(folder)] = load
        return load

    def available(self) -> tuple[str, ...]:
        """The names of the models that are here, in alphabetical order; blocks for the disk."""
        if self._options.engine == "fake":
            return (self._options.model,)
        return self._store.available()

    @property
    def healthy(self) -> bool:
        """False once the engine of a model has died."""
        return all(batcher.healthy for batcher in self._ready())

    def close(self) -> None:
        """Stop all engines, once what is being loaded is; what waits fails."""
        self._threads.shutdown(cancel_futures=True)
        for batcher in self._ready():
            batcher.close()

    async def _loaded(self, name: str | None) -> Batcher:
        load = await asyncio.wrap_future(self._threads.submit(self.load, name))
        return await asyncio.shield(asyncio.wrap_future(load))

    def _load(self, name: str, folder: Path) -> Batcher:
        begun = time.perf_counter()
        engine = build(name, folder, self._options)
        try:
            engine.warm_up()
        except BaseException:
            engine.close()
            raise
        seconds = time.perf_counter() - begun
        log.info("model %s is warm on %s after %.2f s", engine.model, engine.device, seconds)
        return Batcher(engine, max_waiting=self._options.max_waiting)

    def _ready(self) -> list[Batcher]:
        loads = [load for load in list(self._loads.values()) if load.done()]
        return [
            load.result() for load in loads if not load.cancelled() and load.exception() is None
        ]


def build(name: str, folder: Path, options: EngineOptions) -> Engine:
    """Load the model in `folder` with the engine that the options name.

    Raises EngineError, OutOfMemory.
    """
    if options.engine == "fake":
        return FakeEngine(model=name)
    arena.share_one()
    from sotto.engine import whisper  # loads CTranslate2, which the fake does without

    device = options.device
    if device != "cpu":
        gpus = whisper.cuda_devices()
        if device == "cuda" and not gpus:
            raise EngineError("SOTTO_DEVICE: 'cuda' has no GPU to run on; use auto or cpu")
        device = "cuda" if gpus else "cpu"
    compute_type = choose(options.compute_type, device, whisper.compute_types(device))
    best = CUDA if device == "cuda" else replace(CPU, threads=cores())
    batching = Batching(
        threads=options.model_workers or best.threads,
        encode=options.encode_batch or best.encode,
        decode=options.decode_batch or best.decode,
    )
    return whisper.load(name, folder, device, compute_type, batching)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
