"""The Dockerfile, read without an engine: its stages, what it takes in, what it leaves out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.contract.test_imports import MODULES, imports_of_ours

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if line
]
"""The instructions, one a line."""


@dataclass
class Stage:
    """One stage: what it begins from, the stages that it copies from, its instructions."""

    base: str
    copies: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)


def stages(**arguments: str) -> dict[str, Stage]:
    """The stages by name, with these build arguments."""
    defaults: dict[str, str] = {}
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in LINES:
        if begun := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            base = re.sub(r"\$\{(\w+)\}", lambda name: (defaults | arguments)[name[1]], begun[1])
            current = found[begun[2]] = Stage(base)
        elif current is None:
            argument = re.fullmatch(r"ARG (\w+)=?(\S*)", line)
            assert argument, line
            defaults[argument[1]] = argument[2]
        else:
            current.lines.append(line)
            current.copies |= set(re.findall(r"--from=(\S+)", line))
    return found


def needed(target: str, **arguments: str) -> set[str]:
    """The stages that a target is built from, itself among them."""
    all_stages = stages(**arguments)
    open_ones, found = [target], set()
    while open_ones:
        name = open_ones.pop()
        if name in all_stages and name not in found:
            found.add(name)
            open_ones += [all_stages[name].base, *all_stages[name].copies]
    return found


def sources(stage: Stage) -> list[str]:
    """What a stage copies of the repository."""
    copies = [line.split()[1:-1] for line in stage.lines if line.startswith("COPY ")]
    return [source for copy in copies if not copy[0].startswith("--from") for source in copy]


def options(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


# Stages


def test_every_stage_begins_from_the_base_or_from_an_earlier_stage() -> None:
    earlier = {"debian:bookworm-slim"}
    for name, stage in stages().items():
        assert stage.base in earlier, name
        assert stage.copies <= earlier, name
        earlier.add(name)


def test_the_gpu_image_is_what_is_built_when_nothing_is_said() -> None:
    assert list(stages())[-1] == "gpu"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_torch_is_installed_only_where_a_checkpoint_is_converted(target: str) -> None:
    assert "convert" not in needed(target)
    assert "bake" in needed(target)
    assert {"convert", "bake"} <= needed(target, BUILDER="convert")
    installing = [
        name
        for name, stage in stages().items()
        if any("builder/requirements.txt" in line for line in stage.lines)
    ]
    assert installing == ["convert"]


def test_each_device_gets_its_own_weights_and_only_a_gpu_gets_cuda() -> None:
    assert {"weights-cpu", "weights-gpu", "cuda"} & needed("cpu") == {"weights-cpu"}
    assert {"weights-cpu", "weights-gpu", "cuda"} & needed("gpu") == {"weights-gpu", "cuda"}
    assert "ARG COMPUTE_TYPE=int8" in stages()["weights-cpu"].lines
    assert "ARG COMPUTE_TYPE=float16" in stages()["weights-gpu"].lines


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_worker_is_the_last_layer_and_labels_come_after_it(target: str) -> None:
    lines = stages()[target].lines
    copies = [line for line in lines if line.startswith("COPY ")]
    assert copies[-1] == "COPY --from=app /app ./"
    after = lines[lines.index(copies[-1]) + 1 :]
    assert {line.split()[0] for line in after} == {"ARG", "LABEL", "USER"}


def test_it_runs_as_a_user_without_rights_and_gets_its_signals() -> None:
    assert 'CMD ["python", "-u", "handler.py"]' in stages()["runtime"].lines
    for target in ("cpu", "gpu"):
        assert "USER 10001:10001" in stages()[target].lines


# What it takes in


def test_what_bakes_a_model_has_every_module_that_it_imports() -> None:
    open_ones = list((ROOT / "builder").glob("*.py"))
    found: set[Path] = set()
    while open_ones:
        path = open_ones.pop()
        text = path.read_text(encoding="utf-8")
        package = ROOT / "src" / "sotto"
        inside = path.relative_to(package) if path.is_relative_to(package) else path.name
        module = ".".join(Path(inside).with_suffix("").parts)
        others = {MODULES[name] for name in imports_of_ours(text, module)} - found
        found |= others
        open_ones += others
    copied = [ROOT / source for source in sources(stages()["bake"])]
    lacking = [
        str(path.relative_to(ROOT))
        for path in found
        if not any(path == place or place in path.parents for place in copied)
    ]
    assert lacking == [], "copy them to the stage `bake`, or import less"
    assert len(found) > 3


def test_what_is_copied_reaches_the_build() -> None:
    allowed = {line[1:] for line in options(".dockerignore") if line.startswith("!")}
    for stage in stages().values():
        for source in sources(stage):
            assert source.strip("/").split("/")[0] in allowed | {source}, source
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-cuda.txt"])
def test_every_package_has_its_digests_and_no_host(name: str) -> None:
    text = "\n".join(line for line in options(name) if not line.startswith("#"))
    pins = re.findall(r"^\S+==\S+.*\\$", text, re.MULTILINE)
    assert text.count("--hash=sha256:") >= len(pins) > 0
    assert len(re.findall(r"^\S", text, re.MULTILINE)) == len(pins)
    assert "://" not in text


def test_what_is_taken_out_is_on_the_list_of_what_is_put_in() -> None:
    pinned = {line.partition("==")[0] for line in options("requirements.txt") if "==" in line}
    unused = [line for line in options("builder/unused.txt") if line and line[0] != "#"]
    assert set(unused) - pinned == set()
    assert len(set(unused)) == len(unused)


def test_no_package_that_the_worker_imports_is_taken_out() -> None:
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", all_sources(), re.MULTILINE))
    unused = {line.replace("-", "_") for line in options("builder/unused.txt")}
    assert imported & unused == set()


def all_sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in MODULES.values())


# How it is written


def test_no_host_and_no_secret_is_named() -> None:
    instructions = "\n".join(LINES)
    assert re.findall(r"https?://\S+", instructions) == [
        'https://github.com/sotto-worker/sotto"'
    ] * instructions.count("image.source=")
    assert not re.search(r"index-url|trusted-host|ARG \w*(TOKEN|SECRET)", instructions)


def test_buildah_and_buildkit_both_know_what_is_used() -> None:
    assert not re.search(r"^# *syntax *=", TEXT, re.MULTILINE)
    assert not re.search(r"<<-?['\"]?\w|--link|--parents|--exclude|RUN --network", "\n".join(LINES))


def test_hadolint_finds_nothing() -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("hadolint", path=places)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("hadolint is not installed")
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [program, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
