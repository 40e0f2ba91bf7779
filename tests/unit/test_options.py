"""The options themselves: each described, each default allowed, names as users know them."""

from __future__ import annotations

import typing

import msgspec
import pytest
from faster_whisper.vad import VadOptions
from msgspec import Meta

from sotto.options import Options, VadParameters
from sotto.request import parse

URL = "https://host.example/a.wav"
STRUCTS = (Options, VadParameters)
FIELDS = [(struct, field) for struct in STRUCTS for field in struct.__struct_fields__]


@pytest.mark.parametrize(("struct", "field"), FIELDS)
def test_every_option_says_what_it_means(struct: type[msgspec.Struct], field: str) -> None:
    hint = typing.get_type_hints(struct, include_extras=True)[field]
    (meta,) = (extra for extra in hint.__metadata__ if isinstance(extra, Meta))
    assert meta.description
    assert meta.description[0].isupper() or meta.description.startswith("http")
    assert meta.description.endswith((".", "?"))


def test_defaults_written_out_are_allowed_and_change_nothing() -> None:
    defaults = msgspec.to_builtins(Options())
    assert parse({**defaults, "audio": URL}).options == parse({"audio": URL}).options


def test_the_vad_parameters_are_called_as_in_faster_whisper() -> None:
    assert set(VadParameters.__struct_fields__) <= set(VadOptions.__dataclass_fields__)


@pytest.mark.parametrize("struct", STRUCTS)
def test_options_cannot_be_changed(struct: type[msgspec.Struct]) -> None:
    with pytest.raises(AttributeError):
        setattr(struct(), struct.__struct_fields__[0], None)
