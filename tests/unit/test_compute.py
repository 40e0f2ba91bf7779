"""Which compute type is chosen for which device."""

from __future__ import annotations

import pytest

from sotto.errors import EngineError
from sotto.models.compute import choose

CPU = {"float32", "int8", "int8_float32"}
AMPERE = {"float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32"}
PASCAL = {"float32", "int8", "int8_float32"}


@pytest.mark.parametrize(
    ("requested", "device", "supported"),
    [("float16", "cpu", CPU), ("bfloat16", "cuda", PASCAL), ("int8", "cpu", set())],
)
def test_a_type_that_the_device_lacks_is_refused_with_what_it_can_do(
    requested: str, device: str, supported: set[str]
) -> None:
    can = ", ".join(sorted(supported)) or "none"
    with pytest.raises(EngineError, match=f"'{requested}' .* {device} .* it can do: {can}$"):
        choose(requested, device, supported)


def test_auto_on_a_device_that_can_do_nothing_is_an_error() -> None:
    with pytest.raises(EngineError, match="it can do: none"):
        choose("auto", "cuda", set())


@pytest.mark.parametrize(
    ("device", "supported", "chosen"),
    [
        ("cpu", CPU, "int8"),
        ("cpu", {"float32"}, "float32"),
        ("cuda", AMPERE, "float16"),
        ("cuda", PASCAL, "int8_float32"),
        ("cuda", {"float32"}, "float32"),
    ],
)
def test_auto_takes_the_best_the_device_can_do(
    device: str, supported: set[str], chosen: str
) -> None:
    assert choose("auto", device, supported) == chosen


@pytest.mark.parametrize("requested", sorted(AMPERE))
def test_a_supported_type_is_taken_at_its_word(requested: str) -> None:
    assert choose(requested, "cuda", AMPERE) == requested
