"""What a change costs, and that it arrives: which layers of an image are made anew."""

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
    layers = []
    for version in ("one", "two"):
        given = {"VERSION": version, "REVISION": f"of-{version}"}
        image = engine.build("cpu", f"localhost/sotto-test:{version}", context, **given)
        labels = engine.inspect(image)["Config"]["Labels"]
        # buildah's cache overlooks arguments that only a label shows, as docs/image.md says.
        if engine.program == "docker":
            assert labels["org.opencontainers.image.version"] == version
            assert labels["org.opencontainers.image.revision"] == f"of-{version}"
        layers.append(engine.layers(image))
    assert layers[0] == layers[1]


def test_another_model_is_inside_and_served(engine: Engine, cpu: str) -> None:
    """Even where all that the builder remembers is of the first."""
    given = {"MODEL": "tiny.en", "MODEL_NAME": "small.one"}
    image = engine.build("cpu", "localhost/sotto-test:another", **given)
    config = engine.inspect(image)["Config"]
    assert "SOTTO_MODEL=small.one" in config["Env"]
    assert config["Labels"]["sotto.model"] == "small.one"
    assert engine.run(image, "ls", "weights").out.split() == ["small.one"]
    done = engine.run(image)
    assert done.code == 0, done.told
    assert "model small.one on cpu" in done.out
