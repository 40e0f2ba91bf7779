"""A window's options in, the calls of `generate` out that search for its text.

Invariant: no call samples more texts than there is room for, and all candidates are sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sotto.engine.base import Decoding


def searches(decoding: Decoding, temperature: float, together: int) -> Iterator[dict[str, Any]]:
    """The arguments of each call: one search by beam, or `together` candidates at a time."""
    if temperature == 0:
        # CTranslate2 refuses to look for less than one text.
        patience = max(decoding.patience, 1 / decoding.beam_size)
        yield {"beam_size": decoding.beam_size, "patience": patience}
        return
    for done in range(0, decoding.best_of, together):
        yield {
            "beam_size": 1,
            "num_hypotheses": min(together, decoding.best_of - done),
            "sampling_topk": 0,
            "sampling_temperature": temperature,
        }
