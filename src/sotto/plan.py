"""A model's folder and a device in, how the model runs there out: format, batches and memory.

Invariant: decided before anything is loaded, from the header of model.bin alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sotto.engine.devices import CPU, CUDA, Batching
from sotto.errors import EngineError, OutOfMemory
from sotto.models import weights
from sotto.models.catalogue import WEIGHTS
from sotto.models.compute import Device, choose
from sotto.models.memory import need_bytes

GB = 1e9


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How models are run; the fields are settings of the same name."""

    engine: str
    model: str
    model_fallback: str
    model_memory_bytes: int
    device: str
    compute_type: str
    model_workers: int
    encode_batch: int
    decode_batch: int
    max_waiting: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model runs, and the bytes of the device that are kept for it."""

    device: str
    compute_type: str
    batching: Batching
    memory_bytes: int


def plan(
    name: str, folder: Path, options: EngineOptions, device: Device, budget_bytes: int | None
) -> Plan:
    """Plan how the model called `name` runs on `device`, whose models share the budget.

    A model that fits with one window at a time, but not with full batches, gets all of the budget:
    batches shrink where memory ends. Raises EngineError if the weights cannot be read or the device
    lacks the compute type, OutOfMemory if the budget is too small for one window.
    """
    try:
        found = weights.read(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineError(f"model '{name}' cannot be loaded: {WEIGHTS}: {reason}") from error
    batching = _batching(options, device)
    need = partial(
        need_bytes,
        found.shape,
        encode=batching.encode,
        decode=batching.decode,
        threads=batching.threads,
    )
    compute_type = choose(options.compute_type, found.stored, device, need, budget_bytes)
    full = need(compute_type)
    if budget_bytes is None:
        return Plan(device.kind, compute_type, batching, full)
    least = need_bytes(found.shape, compute_type, encode=1, decode=1)
    if least > budget_bytes:
        raise OutOfMemory(
            f"model: {name!r} needs {least / GB:.3f} GB on the {device} in {compute_type}, and "
            f"models may have {budget_bytes / GB:.3f} GB there; use a smaller model or compute "
            "type, or a larger device, or raise SOTTO_MODEL_MEMORY_BYTES"
        )
    return Plan(device.kind, compute_type, batching, min(full, budget_bytes))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _batching(options: EngineOptions, device: Device) -> Batching:
    best = CUDA if device.kind == "cuda" else replace(CPU, threads=cores())
    return Batching(
        threads=options.model_workers or best.threads,
        encode=options.encode_batch or best.encode,
        decode=options.decode_batch or best.decode,
    )
