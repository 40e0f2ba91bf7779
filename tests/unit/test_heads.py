"""Heads that a model does not have are replaced in its settings; nothing else is touched."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from builder.heads import fit

from sotto.models.shapes import SHAPES

TURBO, DISTILLED = SHAPES["turbo"], SHAPES["distil-large-v3"]
TEACHERS = [[7, 0], [10, 17], [25, 6]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"alignment_heads": "all"}',
        '{"alignment_heads": [[1]]}',
        '{"alignment_heads": [["7", "0"]]}',
        '{"alignment_heads": null}',
        '{"alignment_heads": []}',
        "{}",
        '{"alignment_heads": [[1, 0], [0, 19]]}',
    ],
)
def test_settings_that_make_no_sense_or_fit_are_left_as_they_are(config: Path, text: str) -> None:
    config.write_text(text)
    assert not fit("x", config, DISTILLED)
    assert config.read_text() == text


def test_settings_that_are_no_text_are_left_as_they_are(config: Path) -> None:
    config.write_bytes(b'{"alignment_heads": [[9, 9]], "a": "\xff"}')
    assert not fit("x", config, DISTILLED)
    assert b"\xff" in config.read_bytes()


def test_a_students_settings_lose_its_teachers_heads_with_a_warning(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"alignment_heads": [[1, 0], *TEACHERS], "lang_ids": [50259], "other": {"é": None}}
    config.write_text(json.dumps(settings))
    with caplog.at_level(logging.INFO):
        assert fit("student", config, DISTILLED)
    heads = [[1, head] for head in range(20)]
    assert json.loads(config.read_bytes()) == settings | {"alignment_heads": heads}
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert told.getMessage() == (
        "student: alignment heads: head 0 of layer 7 is not in the decoder, which has 2 layers of "
        "20 heads; taken instead: all of the upper half of the layers, as none are known"
    )


def test_a_student_of_a_known_shape_gets_the_heads_of_that(config: Path) -> None:
    config.write_text(json.dumps({"alignment_heads": TEACHERS}))
    assert fit("student", config, TURBO)
    assert json.loads(config.read_bytes())["alignment_heads"][0] == [2, 4]
    assert not fit("student", config, TURBO)
