"""The workflows and the bake file: safe, valid, and of one mind with the catalogue.

The linters are programs of the packages for development; where one lacks, its tests are skipped,
and fail in CI. They run without network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sotto.models import catalogue

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BAKE = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
RUNNERS = {"ubuntu-24.04"}
PINNED = re.compile(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)")


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a linter from beside the Python that runs the tests, or from the PATH."""
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else shutil.which(name)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed; requirements-dev.txt has it")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.name


HOLE = """\
on: pull_request_target
jobs:
  hole:
    runs-on: ubuntu-24.04
    steps:
      - run: echo ${{ github.event.pull_request.title }}
"""
"""A workflow that runs what a stranger writes into a title."""


# Linters


def test_zizmor_finds_no_hole() -> None:
    checked = run("zizmor", "--offline", "--no-progress", *WORKFLOWS)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_zizmor_would_find_one(tmp_path: Path) -> None:
    (tmp_path / "hole.yml").write_text(HOLE)
    checked = run("zizmor", "--offline", "--no-progress", tmp_path / "hole.yml")
    assert checked.returncode != 0
    assert "template-injection" in checked.stdout


def test_the_workflows_are_valid() -> None:
    schema = ("--builtin-schema", "vendor.github-workflows")
    checked = run("check-jsonschema", *schema, *WORKFLOWS)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_misspelt_key_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "misspelt.yml"
    path.write_text(HOLE.replace("runs-on", "runs-onn"))
    checked = run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)
    assert checked.returncode != 0


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM debian:latest\nRUN cd /tmp && curl example.invalid | sh\n")
    checked = run("hadolint", "--config", ROOT / ".hadolint.yaml", path)
    assert checked.returncode != 0
    assert "DL3007" in checked.stdout


def test_every_rule_that_hadolint_ignores_has_its_reason() -> None:
    lines = (ROOT / ".hadolint.yaml").read_text(encoding="utf-8").splitlines()
    ignored = [number for number, line in enumerate(lines) if line.strip().startswith("- DL")]
    assert ignored
    for number in ignored:
        assert lines[number - 1].strip().startswith("# ")


# What no linter sees


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_action_is_pinned_to_a_commit_and_says_which_version_it_is(path: Path) -> None:
    used = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert [line for line in used if not PINNED.search(line)] == []
    assert used


def test_an_action_is_of_one_version_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, commit, version in PINNED.findall(path.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(f"{commit} {version}")
    assert {action for action, found in pins.items() if len(found) > 1} == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_job_has_a_known_runner_and_a_time_limit(path: Path) -> None:
    for job in workflow(path.name)["jobs"].values():
        assert job["runs-on"] in RUNNERS
        assert 0 < job["timeout-minutes"] <= 90


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_only_what_publishes_may_write_and_only_packages(path: Path) -> None:
    said = workflow(path.name)
    assert said["permissions"] == {"contents": "read"}
    for name, job in said["jobs"].items():
        allowed = {"contents": "read", "packages": "write"} if name == "publish" else None
        assert job.get("permissions") == allowed


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_what_a_step_calls_is_there(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = [step for job in workflow(path.name)["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    for target in re.findall(r"\bmake ([\w-]+)", commands):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for program in re.findall(r"\btools/[\w-]+", commands):
        assert os.access(ROOT / program, os.X_OK), program


def test_nothing_is_pushed_before_it_was_tested_run_and_scanned() -> None:
    jobs = workflow("image.yml")["jobs"]
    pushing = [name for name, job in jobs.items() if "push: true" in yaml.safe_dump(job)]
    assert pushing == ["publish"]
    assert jobs["publish"]["needs"] == "test"
    assert jobs["test"]["if"] == "github.event_name == 'push'"
    steps = jobs["publish"]["steps"]
    done = [step.get("uses", step.get("run", "")).split("@")[0] for step in steps]
    pushed = next(at for at, step in enumerate(steps) if step.get("with", {}).get("push"))
    for needed in ('tools/smoke "$TAG"', "aquasecurity/trivy-action"):
        assert done.index(needed) < pushed
    assert steps[pushed]["with"] == {
        "source": ".",
        "targets": "${{ steps.name.outputs.target }}",
        "push": True,
        "sbom": True,
        "provenance": "mode=max",
    }


# The bake file


def listed(name: str) -> list[str]:
    """The strings of a list in the bake file."""
    found = re.search(rf"\b{name}\s*=\s*\[(.*?)\]", BAKE, re.DOTALL)
    assert found, name
    return re.findall(r'"([^"]+)"', found[1])


def test_there_is_an_image_of_every_model_for_each_device() -> None:
    matrix = workflow("image.yml")["jobs"]["publish"]["strategy"]["matrix"]
    assert listed("model") == matrix["model"] == list(catalogue.load())
    assert listed("device") == matrix["device"] == ["cpu", "gpu"]
    for device in listed("device"):
        assert re.search(rf"^FROM \S+ AS {device}$", DOCKERFILE, re.MULTILINE)


def test_the_licence_on_the_label_is_that_of_every_model() -> None:
    found = re.search(r'MODEL_LICENCE = "(.+)"', BAKE)
    assert found
    assert {model.licence for model in catalogue.load().values()} == {found[1]}


def test_the_dockerfile_knows_every_argument_and_secret_of_the_bake_file() -> None:
    block = re.search(r"\bargs = \{(.*?)\}", BAKE, re.DOTALL)
    assert block
    for name in re.findall(r"^\s*(\w+)\s*=", block[1], re.MULTILINE):
        assert re.search(rf"^ARG {name}\b", DOCKERFILE, re.MULTILINE), name
    secrets = set(re.findall(r'"id=(\w+),', BAKE))
    assert secrets == {"HF_TOKEN", "pip_conf", "ca_bundle"}
    for secret in secrets:
        assert f"--mount=type=secret,id={secret}" in DOCKERFILE
