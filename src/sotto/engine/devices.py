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
"""Measured with base int8: encoding two windows together is slower than one after the other.
Decoding four together is 1.7 times as fast as one by one and as fast as eight; two together take a
tenth longer than four, 200 MB less on two cores, and a short job waits for a shorter call."""
CUDA = Batching(threads=1, encode=16, decode=16)
