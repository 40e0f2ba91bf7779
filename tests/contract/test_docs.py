"""The documents say what the code does, and their links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.docs import BLOCK, BLOCKS, difference, documents, filled

from sotto.request import Options, VadParameters
from sotto.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", ".venv-convert", ".pytest_cache", "node_modules", "weights"}
MARKDOWN = sorted(
    path for path in ROOT.rglob("*.md") if NOT_OURS.isdisjoint(path.relative_to(ROOT).parts)
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|TBD)\b")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_the_tables_are_those_that_the_code_makes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert difference(path, text, filled(text)) == ""


def test_the_program_finds_nothing_to_write_from_any_folder(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "tools" / "docs.py"), "--check"]
    checked = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


@pytest.mark.parametrize("name", BLOCKS)
def test_every_table_has_its_place_in_a_document(name: str) -> None:
    places = [
        path for path in documents() for found in BLOCK.finditer(read(path)) if found[2] == name
    ]
    assert len(places) == 1


def test_a_table_that_nobody_makes_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled("<!-- generated: nonsense -->\n<!-- end -->")


def test_a_stale_table_is_made_anew_and_shown_as_a_difference() -> None:
    stale = "Before.\n<!-- generated: settings -->\nold\n<!-- end -->\nAfter.\n"
    fresh = filled(stale)
    assert fresh.startswith("Before.\n<!-- generated: settings -->\n| Variable |")
    assert fresh.endswith("|\n<!-- end -->\nAfter.\n")
    assert filled(fresh) == fresh
    assert "\n-old\n" in difference(ROOT / "docs" / "x.md", stale, fresh)


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_every_setting_is_documented(field: str) -> None:
    assert f"| `{variable(field)}` |" in read(ROOT / "docs" / "configuration.md")


@pytest.mark.parametrize("field", Options.__struct_fields__ + VadParameters.__struct_fields__)
def test_every_option_is_documented(field: str) -> None:
    assert f"| `{field}` |" in read(ROOT / "docs" / "api.md")


def test_no_document_shows_where_this_machine_keeps_the_project() -> None:
    assert [name_of(path) for path in MARKDOWN if str(ROOT) in read(path)] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_settings_named_in_a_document_exist(path: Path) -> None:
    wrong_on_purpose = {"SOTTO_MAX_AUDIO_SECONDS"}
    named = set(re.findall(r"\bSOTTO_[A-Z0-9_]*[A-Z0-9]\b", read(path)))
    assert named <= {variable(field) for field in Settings.__struct_fields__} | wrong_on_purpose


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_options_in_the_requests_of_a_document_exist(path: Path) -> None:
    for job_input in requests_in(read(path)):
        assert set(job_input) <= set(Options.__struct_fields__)
        assert set(job_input.get("vad_parameters", ())) <= set(VadParameters.__struct_fields__)


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_relative_links_of_a_document_resolve(path: Path) -> None:
    for link in LINK.findall(FENCE.sub("", read(path))):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), link
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(read(linked)), link


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_a_document_is_finished(path: Path) -> None:
    assert UNFINISHED.findall(read(path)) == []


@pytest.mark.parametrize("folder", ["src", "tools", "builder", "deploy"])
def test_the_code_is_finished(folder: str) -> None:
    sources = (ROOT / folder).rglob("*.py")
    assert [name_of(path) for path in sources if UNFINISHED.search(read(path))] == []


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def requests_in(text: str) -> Iterator[dict[str, object]]:
    """The `input` of every JSON object in `text` that has one, however it is quoted."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"\{\s*\"input\"", text):
        job, _ = decoder.raw_decode(text, found.start())
        yield job["input"]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
