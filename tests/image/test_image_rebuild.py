"""What a change costs: which layers of an image are made anew."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.image.conftest import ARGUMENTS
from tests.image.engine import ROOT, Engine

FILES = (
    ".dockerignore",
    "CREDITS.md",
    "Dockerfile",
    "LICENSE",
    "requirements-cuda.txt",
    "requirements.txt",
    "test_input.json",
)


def copied(folder: Path) -> Path:
    """What an image is built from, in a folder of its own."""
    for name in FILES:
        shutil.copy2(ROOT / name, folder)
    for name in ("builder", "src"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "local")
        )
    return folder


def test_an_edit_of_the_worker_makes_only_the_last_layer_anew(
    engine: Engine, cpu: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    context = copied(tmp_path)
    before = engine.layers(engine.build("cpu", "localhost/sotto-test:before", context, **ARGUMENTS))
    pipeline = context / "src" / "sotto" / "pipeline.py"
    pipeline.write_text(pipeline.read_text(encoding="utf-8") + "\nEDITED = True\n")
    begun_s = time.monotonic()
    edited = engine.build("cpu", "localhost/sotto-test:edited", context, **ARGUMENTS)
    measured(f"built again after an edit in {time.monotonic() - begun_s:.1f} s")
    after = engine.layers(edited)
    assert len(after) == len(before)
    new = [place for place, layer in enumerate(after) if layer != before[place]]
    assert new == [len(before) - 1]
    source = "import sotto.pipeline; print(sotto.pipeline.EDITED)"
    assert engine.python(edited, source, "--env=PYTHONPATH=/app/src").strip() == "True"


def test_a_new_version_makes_no_layer_anew(engine: Engine, cpu: str, tmp_path: Path) -> None:
    context = copied(tmp_path)
    first, second = (
        engine.layers(
            engine.build(
                "cpu", f"localhost/sotto-test:{version}", context, VERSION=version, REVISION=version
            )
        )
        for version in ("one", "two")
    )
    assert first == second
