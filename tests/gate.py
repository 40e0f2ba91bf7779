"""A door before the fake engine, and windows that can be told apart there.

Invariant: nothing here waits longer than `HANG_S`; a test that would hang fails instead.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from sotto.engine.base import Ask, Decoding, Thresholds

HANG_S = 10
KNOWN = {
    "beam_size": 5,
    "patience": 1.0,
    "best_of": 5,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "max_new_tokens": None,
    "suppress_tokens": (-1,),
}
DECODING = Decoding(**{field.name: KNOWN[field.name] for field in fields(Decoding)})
"""The options of a request that gives none."""


def features(number: int, frames: int = 200) -> NDArray[np.float32]:
    """A log-mel spectrogram that carries its number."""
    return np.full((80, frames), number, np.float32)


def ask(number: int, **changes: object) -> Ask:
    """A window that can be told from others by its number."""
    values: dict[str, object] = {"temperatures": (0.0, 0.2, 0.4), **changes}
    return Ask(features(number), DECODING, Thresholds(2.4, -1.0, 0.6), **values)


def number(one: Ask) -> int:
    """The number that `features` wrote into the window."""
    return int(one.features[0, 0])


@dataclass
class Gate:
    """A fault for FakeEngine that stops each call until it is let in, and lists the calls."""

    calls: list[list[Ask]] = field(default_factory=list)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, asks: Sequence[Ask]) -> None:
        self.calls.append(list(asks))
        self.entered.release()
        assert self.turns.acquire(timeout=HANG_S)

    @property
    def rows(self) -> list[list[int]]:
        """The numbers of the windows in each call so far."""
        return [[number(one) for one in asks] for asks in self.calls]

    def await_call(self) -> None:
        """Return when the engine stands at the door with a call not yet waited for."""
        assert self.entered.acquire(timeout=HANG_S)

    def let(self, calls: int) -> None:
        """Let this many calls through."""
        self.turns.release(calls)

    def open(self) -> None:
        """Let everything through from now on."""
        self.let(1000)
