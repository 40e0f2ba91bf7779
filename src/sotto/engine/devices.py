"""How each kind of device is kept busy, as it was measured.

Invariant: numbers only; nothing here touches a device.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """How a device is kept busy.

    `threads`: model workers that share one copy of the weights, each with one thread on a CPU.
    `encode`, `decode`: windows in one call of the encoder and of the decoder.
    """

    threads: int
    encode: int
    decode: int


CPU = Batching(threads=1, encode=1, decode=2)
"""Measured with base int8 on two cores: encoding two windows together is slower than one after the
other. For every token the decoder reads its weights and the keys and values of each window's audio,
more than a core's cache holds, so two windows in a call save a quarter of its time, and four
another eighth; four take 160 MB more, and a short job waits for a longer call."""
CUDA = Batching(threads=1, encode=16, decode=16)
