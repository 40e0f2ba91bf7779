"""Which number format a model is loaded in.

Invariant: what is chosen is one of the formats that the device supports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sotto.errors import EngineError

PREFERRED = {
    "cuda": ("float16", "int8_float16", "int8_float32", "float32"),
    "cpu": ("int8", "int8_float32", "float32"),
}
"""The first that fits is taken. bfloat16 is only taken when asked for: it is no smaller than
float16, and less precise."""
NOT_TAKEN = frozenset({"int16"})
"""What CTranslate2 can do and the setting does not take."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where models run: "cpu" or "cuda", and the compute types that CTranslate2 supports there.

    `capability`: the compute capability of a GPU, such as "8.6", if it is known.
    """

    kind: str
    types: frozenset[str]
    capability: str | None = None

    def __str__(self) -> str:
        known = f" of compute capability {self.capability}" if self.capability else ""
        return f"{self.kind} device{known}"


def choose(
    requested: str,
    stored: str,
    device: Device,
    need: Callable[[str], int],
    room_bytes: int | None,
) -> str:
    """The compute type to load a model with that is `stored` in another, or in the same.

    `auto` takes the first of the device's preferred types that it supports and that fits: `need`
    tells the bytes that a type needs, `room_bytes` those that there are, None if that is not
    known. If none fits, the smallest is taken. Weights that are stored in int8 stay so where they
    can: as float16 they would take twice the room and be no better. Any other request is taken at
    its word. Raises EngineError if the device cannot do it.
    """
    if requested != "auto":
        possible = [requested] if requested in device.types else []
    else:
        possible = [one for one in PREFERRED[device.kind] if one in device.types]
    if not possible:
        raise EngineError(
            f"SOTTO_COMPUTE_TYPE: {requested!r} does not work on this {device}; "
            f"it can do: {', '.join(sorted(device.types - NOT_TAKEN)) or 'none'}"
        )
    if stored.startswith("int8"):
        possible.sort(key=lambda one: not one.startswith("int8"))
    fitting = (one for one in possible if room_bytes is None or need(one) <= room_bytes)
    return next(fitting, min(possible, key=need))
