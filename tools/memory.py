"""The rows of the tables in docs/models.md: what each model takes of a device.

Invariant: every number comes from sotto.models.memory, which is what a worker goes by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from sotto.engine.devices import CPU, CUDA
from sotto.models.memory import RESERVE_BYTES, need_bytes, weights_bytes
from sotto.models.shapes import SHAPES, Shape

MODELS: Mapping[str, Shape] = {n: s for n, s in SHAPES.items() if not n.endswith(".en")}
"""A model that knows only English takes what the other one of its size takes."""
GPU_TYPES = ("float32", "float16", "int8", "int8_float16")
GPUS_GIB = (16, 24, 48, 80, 141)
CONTEXT_BYTES = 512 * 1024**2
"""What CUDA's own context is taken for."""

GPU_HEAD = ("Model", "Compute type", "Weights", "One window", "One full call", "Two", "GPU")
CPU_HEAD = ("Model", "Weights", "One core", "Each further core", "Least", "Load from `float16`")


def gpu_rows() -> Iterator[tuple[str, ...]]:
    """A row for each model and compute type."""
    for name, shape in MODELS.items():
        for compute_type in GPU_TYPES:
            calls = partial(need_bytes, shape, compute_type, encode=CUDA.encode, decode=CUDA.decode)
            yield (
                f"`{name}`",
                f"`{compute_type}`",
                gigabytes(weights_bytes(shape, compute_type)),
                gigabytes(need_bytes(shape, compute_type, encode=1, decode=1)),
                gigabytes(calls()),
                gigabytes(calls(threads=2)),
                smallest_gpu(calls()),
            )


def cpu_rows() -> Iterator[tuple[str, ...]]:
    """A row for each model, in int8."""
    for name, shape in MODELS.items():
        of_weights = weights_bytes(shape, "int8")
        calls = partial(need_bytes, shape, "int8", encode=CPU.encode, decode=CPU.decode)
        full = calls(sample=CPU.sample)
        yield (
            f"`{name}`",
            gigabytes(of_weights),
            gigabytes(full),
            gigabytes(full - of_weights),
            gigabytes(calls()),
            gigabytes(weights_bytes(shape, "float16")),
        )


def smallest_gpu(need: int) -> str:
    """The smallest GPU that has this many bytes for models."""
    taken = CONTEXT_BYTES + RESERVE_BYTES
    fitting = [gib for gib in GPUS_GIB if gib * 1024**3 - taken >= need]
    return f"{fitting[0]} GB" if fitting else "none"


def gigabytes(size: int) -> str:
    """A size as it is read."""
    return f"{size / 1e9:.2f} GB"
