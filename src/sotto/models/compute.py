"""Which number format fits which device.

Invariant: what is chosen is one of the formats that the device supports.
"""

from __future__ import annotations

from collections.abc import Set

from sotto.errors import EngineError

PREFERRED = {
    "cuda": ("float16", "int8_float32", "float32"),
    "cpu": ("int8", "int8_float32", "float32"),
}


def choose(requested: str, device: str, supported: Set[str]) -> str:
    """The compute type to load a model with on `device` ("cpu" or "cuda").

    `auto` takes the device's preferred type among `supported`; anything else is taken at its word.
    Raises EngineError if the device cannot do it.
    """
    wanted = PREFERRED[device] if requested == "auto" else (requested,)
    for compute_type in wanted:
        if compute_type in supported:
            return compute_type
    raise EngineError(
        f"compute_type: {requested!r} does not work on this {device} device; "
        f"it can do: {', '.join(sorted(supported)) or 'none'}"
    )
