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
from sotto.models.memory import need_bytes, weights_bytes
from sotto.models.weights import Weights

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

    Where the budget is short, a CPU samples fewer texts at once, and then there are fewer calls at
    once. A model that fits with one window at a time, but not with one full batch, gets all of the
    budget: batches shrink where memory ends. Raises EngineError if the weights cannot be read or
    the device lacks the compute type, OutOfMemory if the budget is too small for one window.
    """
    try:
        found = weights.read(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineError(f"model '{name}' cannot be loaded: {WEIGHTS}: {reason}") from error
    batching, fewest = _batching(options, device)
    need = partial(_need_bytes, found, device)
    compute_type = choose(
        options.compute_type, found.stored, device, partial(need, fewest), budget_bytes
    )
    if budget_bytes is None:
        return Plan(device.kind, compute_type, batching, need(batching, compute_type))
    while batching.sample > fewest.sample and need(batching, compute_type) > budget_bytes:
        batching = replace(batching, sample=batching.sample - 1)
    while batching.threads > fewest.threads and need(batching, compute_type) > budget_bytes:
        batching = replace(batching, threads=batching.threads - 1)
    full = need(batching, compute_type)
    least = need(Batching(threads=1, encode=1, decode=1, sample=1), compute_type)
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


def _need_bytes(found: Weights, device: Device, batching: Batching, compute_type: str) -> int:
    """What the model takes at most: when its calls are full or, on a CPU, while it is loaded.

    There the weights are in memory as they are stored until they have been turned into another
    type; those that a GPU gets are no part of what its models share.
    """
    full = need_bytes(
        found.shape,
        compute_type,
        encode=batching.encode,
        decode=batching.decode,
        sample=batching.sample,
        threads=batching.threads,
    )
    if device.kind == "cuda":
        return full
    return max(full, weights_bytes(found.shape, found.stored))


def _batching(options: EngineOptions, device: Device) -> tuple[Batching, Batching]:
    """How the model runs where memory is no matter, and with the least that may be in work."""
    best = CUDA if device.kind == "cuda" else replace(CPU, threads=cores())
    batching = Batching(
        threads=options.model_workers or best.threads,
        encode=options.encode_batch or best.encode,
        decode=options.decode_batch or best.decode,
        sample=options.decode_batch or best.sample,
    )
    return batching, replace(batching, threads=options.model_workers or 1, sample=batching.decode)
