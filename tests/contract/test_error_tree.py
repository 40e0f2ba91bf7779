"""The error tree: its codes, its drawing and its document say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sotto import errors
from sotto.errors import SottoError
from sotto.request import parse

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def below(kind: type[SottoError], depth: int = 0) -> Iterator[tuple[int, type[SottoError]]]:
    """`kind` and every class below it, in the order they are written in, with their depth."""
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from below(child, depth + 1)


TREE = list(below(SottoError))
CODED = {kind.code: kind for _, kind in TREE if kind.code}


def test_the_drawing_in_the_module_is_the_tree() -> None:
    drawn = re.findall(r"^    ( *)([A-Z]\w+)(?: +([a-z_]+))?", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 2, name, code) for indent, name, code in drawn] == [
        (depth, kind.__name__, kind.code) for depth, kind in TREE
    ]


def test_no_two_classes_have_the_same_code() -> None:
    assert len(CODED) == sum(bool(kind.code) for _, kind in TREE)


@pytest.mark.parametrize("code", CODED)
def test_a_code_is_in_snake_case(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


@pytest.mark.parametrize("kind", [kind for _, kind in TREE], ids=lambda kind: kind.__name__)
def test_a_class_that_is_raised_has_its_own_code_and_words_and_a_group_has_none(
    kind: type[SottoError],
) -> None:
    assert vars(kind).get("__doc__")
    if kind.__subclasses__() and "code" not in vars(kind):
        assert kind.remedy == ""
        return
    if kind is not SottoError:
        assert vars(kind).get("code"), "a leaf has a code"
        assert vars(kind).get("remedy"), "a code has a remedy"


@pytest.mark.parametrize(("code", "kind"), CODED.items())
def test_every_code_is_documented_with_its_meaning_and_remedy(
    code: str, kind: type[SottoError]
) -> None:
    [row] = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{code}` |")]
    assert ("| yes |" if kind.retryable else "| no |") in row
    assert kind.remedy in row


def test_the_documented_answer_is_what_such_a_job_gets() -> None:
    [block] = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    answer = json.loads(block)
    kind = CODED[answer["output"]["code"]]
    with pytest.raises(kind) as caught:
        parse({"audio": "https://example.com/a.mp3", "language": "english"})
    assert answer["status"] == "FAILED"
    assert answer["error"] == f"{kind.code}: {caught.value}"
    assert answer["output"] == {
        "code": kind.code,
        "retryable": kind.retryable,
        "field": getattr(caught.value, "field", None),
    }
