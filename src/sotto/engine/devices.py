"""How each kind of device is kept busy, as it was measured.

Invariant: numbers only; nothing here touches a device.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """How a device is kept busy.

    `threads`: model workers that share one copy of the weights, each with one thread on a CPU.
    `encode`, `decode`: windows in one call of the encoder and of the decoder. `sample`: texts that
    are sampled in one call of the decoder, each with its own copy of what is kept of the audio.
    """

    threads: int
    encode: int
    decode: int
    sample: int


CPU = Batching(threads=1, encode=1, decode=1, sample=5)
"""Measured with base int8 on two cores: encoding two windows together is slower than one after the
other. Two windows in one call of the decoder save a tenth of all time or, where MKL keeps the
weights laid out, a twentieth, and four save no more. But each takes 35 MB more in every thread, and
more the longer its text is, and a short job waits for a longer call."""
CUDA = Batching(threads=2, encode=16, decode=16, sample=16)
"""Measured with large-v3-turbo's shape in float16 on an H200: while one call searches, another
encodes. Two at once do a fifth more than one in greedy search, and a third more with five beams.
64 windows in a call do a sixth more than 16, and take four times their memory."""
