"""Which compute type is chosen for which device, model and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from sotto.engine.whisper import compute_types
from sotto.errors import EngineError
from sotto.models.compute import Device, choose
from sotto.models.memory import need_bytes
from sotto.models.shapes import SHAPES
from sotto.settings import Settings

CPU = Device("cpu", frozenset({"float32", "int16", "int8", "int8_float32"}))
AMPERE = Device(
    "cuda",
    frozenset({"float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32"}),
    "8.6",
)
PASCAL = Device("cuda", frozenset({"float32", "int8", "int8_float32"}), "6.1")
BLACKWELL = Device("cuda", frozenset({"float32", "float16", "bfloat16"}), "12.0")
NOTHING = Device("cuda", frozenset())

NEED: Callable[[str], int] = partial(need_bytes, SHAPES["large-v3"])


def chosen(
    device: Device, stored: str = "float16", room: int | None = None, requested: str = "auto"
) -> str:
    return choose(requested, stored, device, NEED, room)


@pytest.mark.parametrize(
    ("requested", "device", "told"),
    [
        ("float16", CPU, "this cpu device; it can do: float32, int8, int8_float32"),
        (
            "bfloat16",
            PASCAL,
            "this cuda device of compute capability 6.1; it can do: float32, int8, int8_float32",
        ),
        (
            "int8_float16",
            BLACKWELL,
            "this cuda device of compute capability 12.0; it can do: bfloat16, float16, float32",
        ),
        ("int8", NOTHING, "this cuda device; it can do: none"),
        ("auto", NOTHING, "this cuda device; it can do: none"),
    ],
)
def test_a_type_that_the_device_lacks_is_refused_with_what_it_can_do(
    requested: str, device: Device, told: str
) -> None:
    with pytest.raises(EngineError) as caught:
        chosen(device, requested=requested)
    assert str(caught.value) == f"SOTTO_COMPUTE_TYPE: {requested!r} does not work on {told}"


def test_whatever_is_said_to_work_on_this_machine_is_taken_by_the_setting() -> None:
    here = Device("cpu", frozenset(compute_types("cpu")))
    with pytest.raises(EngineError) as caught:
        chosen(here, requested="nonsense")
    for named in str(caught.value).partition("it can do: ")[2].split(", "):
        assert Settings.from_env({"SOTTO_COMPUTE_TYPE": named}).compute_type == named


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (CPU, "int8"),
        (Device("cpu", frozenset({"float32"})), "float32"),
        (AMPERE, "float16"),
        (PASCAL, "int8_float32"),
        (BLACKWELL, "float16"),
        (Device("cuda", frozenset({"float32"})), "float32"),
    ],
)
@pytest.mark.parametrize("stored", ["float16", "float32", "bfloat16"])
def test_auto_takes_the_best_the_device_can_do(device: Device, stored: str, expected: str) -> None:
    assert chosen(device, stored) == expected


@pytest.mark.parametrize("requested", sorted(AMPERE.types))
@pytest.mark.parametrize("stored", ["float16", "int8"])
@pytest.mark.parametrize("room", [None, 0])
def test_a_supported_type_is_taken_at_its_word(
    requested: str, stored: str, room: int | None
) -> None:
    assert chosen(AMPERE, stored, room, requested) == requested


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (NEED("float16"), "float16"),
        (NEED("float16") - 1, "int8_float16"),
        (NEED("int8_float16"), "int8_float16"),
        (NEED("int8_float16") - 1, "int8_float16"),
        (0, "int8_float16"),
    ],
)
def test_auto_takes_what_fits_and_the_smallest_where_nothing_does(room: int, expected: str) -> None:
    assert chosen(AMPERE, room=room) == expected


def test_where_int8_is_off_nothing_smaller_than_float16_is_left() -> None:
    assert chosen(BLACKWELL, room=0) == "float16"


@pytest.mark.parametrize("stored", ["int8", "int8_float16", "int8_bfloat16"])
@pytest.mark.parametrize(
    ("device", "expected"),
    [(AMPERE, "int8_float16"), (PASCAL, "int8_float32"), (BLACKWELL, "float16"), (CPU, "int8")],
)
def test_what_is_stored_in_int8_stays_so_where_it_can(
    stored: str, device: Device, expected: str
) -> None:
    assert chosen(device, stored) == expected


def test_bfloat16_is_never_chosen_by_itself() -> None:
    only = Device("cuda", frozenset({"bfloat16", "float32"}))
    assert chosen(only, "bfloat16") == "float32"
