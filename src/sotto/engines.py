"""A model's name in, the batcher that serves it out: each model is loaded once.

Invariant: the only place that chooses between the engines; two jobs that ask for the same model at
once wait for one load.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path

from sotto.engine.base import Engine
from sotto.engine.batcher import Batcher
from sotto.engine.devices import CPU, CUDA, Batching
from sotto.engine.fake import FakeEngine
from sotto.errors import UnknownModel
from sotto.models.compute import choose
from sotto.models.store import Store


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
    """The models of this process, loaded when first asked for."""

    def __init__(self, store: Store, options: EngineOptions) -> None:
        self._store = store
        self._options = options
        self._loads: dict[str, asyncio.Task[Batcher]] = {}

    async def get(self, name: str | None) -> tuple[Batcher, tuple[str, ...]]:
        """The batcher for the model called `name`, or for the default, and warnings to pass on.

        Raises UnknownModel, EngineError, OutOfMemory.
        """
        default = self._options.model
        try:
            return await self._loaded(name or default), ()
        except UnknownModel:
            if self._options.model_fallback != "baked" or name in (None, default):
                raise
        warning = f"model: {name!r} is not on this worker; '{default}' was used"
        return await self._loaded(default), (warning,)

    def close(self) -> None:
        """Stop all engines; what waits fails."""
        for load in self._loads.values():
            if load.done() and not load.cancelled() and load.exception() is None:
                load.result().close()

    async def _loaded(self, name: str) -> Batcher:
        if self._options.engine == "fake":
            folder = Path()
        else:
            folder = await asyncio.to_thread(self._store.find, name)
        key = str(folder)
        load = self._loads.get(key)
        if load is None or (load.done() and load.exception() is not None):
            load = asyncio.create_task(asyncio.to_thread(self._load, name, folder))
            self._loads[key] = load
        return await asyncio.shield(load)

    def _load(self, name: str, folder: Path) -> Batcher:
        return Batcher(build(name, folder, self._options), max_waiting=self._options.max_waiting)


def build(name: str, folder: Path, options: EngineOptions) -> Engine:
    """Load the model in `folder` with the engine that the options name."""
    if options.engine == "fake":
        return FakeEngine(model=name)
    from sotto.engine import whisper  # loads CTranslate2, which the fake does without

    device = options.device
    if device == "auto":
        device = "cuda" if whisper.cuda_devices() else "cpu"
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
