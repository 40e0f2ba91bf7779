"""What is in the images and what is not: sizes, layers, libraries, packages, secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.image.conftest import ARGUMENTS
from tests.image.engine import ROOT, WORK, Engine

Measured = Callable[[str], None]

MB = 10**6
CPU_IMAGE_MB = 620
GPU_IMAGE_WITHOUT_MODEL_MB = 1400
SOURCES_MB = 4
CHUNK_BYTES = 64 * 2**20

IMPORT_ALL = """
import importlib, pkgutil
from sotto.net import sdk
sdk.load()
import runpod.serverless.modules.rp_fastapi, sotto
names = [found.name for found in pkgutil.walk_packages(sotto.__path__, "sotto.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
OPEN_ALL = """
import ctypes, pathlib
files = [path for path in pathlib.Path("/opt").rglob("*.so*") if path.is_file()]
for path in files:
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        print(path, error)
assert len(files) > 100
"""
NAMED_BY_CTRANSLATE2 = """
import pathlib, re
(library,) = pathlib.Path("/opt/venv").rglob("libctranslate2*.so*")
names = re.findall(rb"lib(?:cu|nv)[\\w-]+\\.so[.\\d]*", library.read_bytes())
print(*sorted({name.decode() for name in names}))
"""
SIGN = """
from sotto.worker.storage import Bucket
bucket = Bucket("https://s3.example", "bucket", "id", "secret", "eu-west-1")
print(bucket.link("key", 60))
"""


def size_mb(engine: Engine, image: str, folder: str) -> float:
    """What a folder takes on disk."""
    done = engine.run(image, "du", "-s", "--block-size=1", folder)
    assert done.code == 0, done.told
    return int(done.out.split()[0]) / MB


# Sizes


def test_the_cpu_image_is_small(engine: Engine, cpu: str, measured: Measured) -> None:
    size = engine.inspect(cpu)["Size"] / MB
    measured(f"CPU image with base in int8: {size:.0f} MB")
    assert size <= CPU_IMAGE_MB, engine.must("history", cpu)


def test_the_gpu_image_is_small(engine: Engine, gpu: str, measured: Measured) -> None:
    size = engine.inspect(gpu)["Size"] / MB - size_mb(engine, gpu, "/app/weights")
    measured(f"GPU image without its model: {size:.0f} MB")
    assert size <= GPU_IMAGE_WITHOUT_MODEL_MB, engine.must("history", gpu)


def test_the_worker_itself_is_next_to_nothing(engine: Engine, image: str) -> None:
    assert size_mb(engine, image, "/app/src") < SOURCES_MB


# The model


@pytest.mark.parametrize(("target", "compute_type"), [("cpu", "int8"), ("gpu", "float16")])
def test_the_model_is_baked_as_its_device_runs_it_best(
    request: pytest.FixtureRequest, engine: Engine, target: str, compute_type: str
) -> None:
    image = request.getfixturevalue(target)
    done = engine.run(image, "cat", "weights/base/model.json")
    record = json.loads(done.out)
    assert record["name"] == "base"
    assert record["compute_type"] == compute_type
    assert record["licence"] == ARGUMENTS["MODEL_LICENCE"]


def test_the_labels_say_what_it_is(engine: Engine, image: str) -> None:
    labels = engine.inspect(image)["Config"]["Labels"]
    told = {name.removeprefix("org.opencontainers.image."): labels[name] for name in labels}
    assert told["title"] == "sotto"
    assert told["version"] == ARGUMENTS["VERSION"]
    assert told["revision"] == ARGUMENTS["REVISION"]
    assert told["licenses"] == "MIT"
    assert told["source"].startswith("https://")
    assert told["sotto.model"] == "base"
    assert told["sotto.model.licence"] == ARGUMENTS["MODEL_LICENCE"]


# Who it runs as


def test_it_runs_as_nobody_who_can_change_it(engine: Engine, image: str) -> None:
    done = engine.run(image, "sh", "-c", "id -u; find /app /opt -writable ! -type l | head")
    assert done.out.splitlines() == ["10001"]
    config = engine.inspect(image)["Config"]
    assert config["Cmd"] == ["python", "-u", "handler.py"]


# What is not there


def test_it_has_no_tools_to_build_with(engine: Engine, image: str) -> None:
    look = "for tool in cc gcc g++ ld strip make pip pip3 git curl wget; do command -v $tool; done"
    assert engine.run(image, "sh", "-c", f"{look}; true").out == ""
    folders = "ls -d /opt/pip /bake /root/.cache /run/secrets /etc/pip.conf 2>/dev/null; true"
    assert engine.run(image, "sh", "-c", folders).out == ""
    assert engine.run(image, "python", "-m", "pip").code == 1


def test_no_secret_of_the_build_is_in_a_layer_or_the_history(engine: Engine, image: str) -> None:
    saved = WORK / "saved.tar"
    try:
        engine.must("save", "--output", str(saved), image)
        found = within(saved, [engine.canary.encode(), b"Where the container starts"])
    finally:
        saved.unlink(missing_ok=True)
    assert found == {b"Where the container starts"}


def test_the_history_names_no_host_to_fetch_from(engine: Engine, image: str) -> None:
    history = engine.must("history", "--no-trunc", "--format={{.CreatedBy}}", image)
    config = json.dumps(engine.inspect(image)["Config"]["Env"])
    addresses = set(re.findall(r"https?://[^\s\"]+", history + config))
    assert addresses <= {"https://github.com/sotto-worker/sotto"}
    assert not re.search(r"index-url|trusted-host|HF_TOKEN=", history + config)


def within(path: Path, needles: list[bytes]) -> set[bytes]:
    """Which of the needles are in a file."""
    found: set[bytes] = set()
    overlap = max(map(len, needles))
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(CHUNK_BYTES):
            text = rest + chunk
            found |= {needle for needle in needles if needle in text}
            rest = text[-overlap:]
    return found


# Packages and libraries


def test_the_packages_are_those_on_the_list_less_the_unused(engine: Engine, image: str) -> None:
    source = (
        "from importlib.metadata import distributions as d;"
        "print(*(f'{each.name}=={each.version}' for each in d()))"
    )
    pinned = set(re.findall(r"^([\w.-]+==[^\s;]+)", read("requirements.txt"), re.MULTILINE))
    unused = set(re.findall(r"^[\w.-]+$", read("builder/unused.txt"), re.MULTILINE))
    installed = {normal(each) for each in engine.python(image, source).split()}
    assert installed <= {normal(each) for each in pinned}
    names = {each.partition("==")[0] for each in installed}
    assert names.isdisjoint(unused)
    assert "torch" not in names
    assert len(names) > 40


def test_everything_of_the_worker_can_be_imported(engine: Engine, image: str) -> None:
    printed = engine.python(image, IMPORT_ALL, "--env=PYTHONPATH=/app/src")
    assert int(printed) > 50


def test_an_upload_can_be_signed(engine: Engine, cpu: str) -> None:
    assert "X-Amz-Signature=" in engine.python(cpu, SIGN, "--env=PYTHONPATH=/app/src")


def test_every_library_opens(engine: Engine, image: str) -> None:
    assert engine.python(image, OPEN_ALL) == ""


def test_every_library_finds_those_that_it_is_linked_to(engine: Engine, image: str) -> None:
    find = "find /opt -name '*.so*' -type f -exec ldd {} + 2>/dev/null | grep 'not found'; true"
    assert engine.run(image, "sh", "-c", find).out == ""


def test_cublas_is_the_only_cuda_library_that_is_loaded_beside_the_driver(
    engine: Engine, gpu: str
) -> None:
    assert engine.python(gpu, NAMED_BY_CTRANSLATE2).split() == ["libcublas.so.12", "libcuda.so.1"]
    engine.python(gpu, "import ctypes; ctypes.CDLL('libcublas.so.12')")


def test_a_start_compiles_nothing(engine: Engine, cpu: str) -> None:
    name = "sotto-test-compiled"
    try:
        # As root, for whom every folder is writable.
        engine.must("run", "--name", name, "--network=none", "--user=0", cpu)
        changed = engine.must("diff", name).split()
    finally:
        engine("rm", "--force", name)
    assert [path for path in changed if path.endswith(".pyc")] == []


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def normal(requirement: str) -> str:
    """A pinned package with its name as everyone writes it."""
    name, _, version = requirement.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
