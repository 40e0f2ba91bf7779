"""What builds and runs images here: Docker where it answers, else podman.

Invariant: podman works in a store of its own, so that nothing else on the machine is touched and
the first build starts from nothing.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("IMAGE_WORK", "/var/tmp/sotto-image-tests"))
CA_BUNDLE = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
STAND_IN = "localhost/debian:bookworm-slim"
COMMAND_S = 300
BUILD_S = 900
CONTAINERS_CONF = """\
[containers]
netns = "host"
default_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
"""podman raises limits, which root without CAP_SYS_RESOURCE may not; crun wants cgroups unmixed."""
STORAGE_CONF = """\
[storage]
driver = "{driver}"
graphroot = "{work}/{driver}"
runroot = "{work}/run-{driver}"
"""
NEED_GB = {"overlay": 8, "vfs": 40}
"""Disk space by the way layers are stored; without an overlay each is a copy of all below it."""


class Unavailable(Exception):
    """Why no image can be built or run here."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    errors: str

    @property
    def told(self) -> str:
        """All that it wrote."""
        return self.out + self.errors


@dataclass(frozen=True, slots=True)
class Engine:
    """`program` with `environ` builds from `base`. `canary`: stands in each secret of a build."""

    program: str
    environ: Mapping[str, str]
    base: str
    canary: str = field(default_factory=lambda: secrets.token_hex(16))

    def __call__(self, *args: str, timeout_s: float = COMMAND_S) -> Done:
        """Run the program, whatever becomes of it."""
        done = subprocess.run(
            [self.program, *args],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *args: str, timeout_s: float = COMMAND_S) -> str:
        """What the program prints; it has to succeed."""
        done = self(*args, timeout_s=timeout_s)
        assert done.code == 0, f"{self.program} {' '.join(args)}\n{done.told[-6000:]}"
        return done.out

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> Done:
        """A container from its start to its end, cut off from every network."""
        return self("run", "--rm", "--network", "none", *options, image, *command)

    def python(self, image: str, source: str, *options: str) -> str:
        """What a program prints that the image's own Python runs; it has to succeed."""
        done = self.run(image, "python", "-c", source, options=options)
        assert done.code == 0, done.told[-6000:]
        return done.out

    def build(self, target: str, tag: str, context: Path = ROOT, **arguments: str) -> str:
        """Build a target of the Dockerfile, with every secret given; `tag`."""
        given = {"BASE_IMAGE": self.base, **arguments}
        args = [f"--build-arg={name}={value}" for name, value in given.items()]
        args += [f"--secret=id={name},src={path}" for name, path in self._secrets().items()]
        if self.program == "podman":
            args += ["--layers"]
        self.must("build", "--target", target, "--tag", tag, *args, str(context), timeout_s=BUILD_S)
        return tag

    def inspect(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image."""
        found: list[dict[str, Any]] = json.loads(self.must("image", "inspect", image))
        return found[0]

    def layers(self, image: str) -> list[str]:
        """The digests of the layers, the lowest first."""
        layers: list[str] = self.inspect(image)["RootFS"]["Layers"]
        return layers

    def _secrets(self) -> dict[str, Path]:
        """One file for each secret that the Dockerfile knows."""
        folder = WORK / "secrets"
        folder.mkdir(parents=True, exist_ok=True)
        index = os.environ.get("PIP_INDEX_URL")
        texts = {
            "pip_conf": f"# {self.canary}\n[global]\ncert = /run/secrets/ca_bundle\n"
            + (f"index-url = {index}\n" if index else ""),
            "ca_bundle": f"{CA_BUNDLE.read_text(encoding='utf-8')}\n# {self.canary}\n",
            "HF_TOKEN": f"hf_{self.canary}",
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return {name: folder / name for name in texts}


def find() -> Engine:
    """The engine of this machine, once a container has really started. Raises Unavailable."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "info"], capture_output=True).returncode:
        engine = Engine("docker", os.environ, os.environ.get("BASE_IMAGE", "debian:bookworm-slim"))
    else:
        engine = _podman()
    tried = engine("run", "--rm", "--network", "none", engine.base, "true")
    if tried.code:
        raise Unavailable(f"{engine.program} starts no container: {tried.errors.strip()[-400:]}")
    return engine


def _podman() -> Engine:
    lacking = [name for name in ("podman", "runc") if not shutil.which(name)]
    if lacking:
        raise Unavailable(f"there is no {' and no '.join(lacking)}; tools/ensure-builder helps")
    if os.geteuid():
        raise Unavailable("podman is set up for root here")
    (WORK / "tmp").mkdir(parents=True, exist_ok=True)
    limits = {
        "nofile": _limit(resource.RLIMIT_NOFILE, 16_384),
        "nproc": _limit(resource.RLIMIT_NPROC, 32_768),
    }
    containers = WORK / "containers.conf"
    containers.write_text(CONTAINERS_CONF.format(**limits), encoding="utf-8")
    environ = {**os.environ, "CONTAINERS_CONF": str(containers), "TMPDIR": str(WORK / "tmp")}
    # podman fails if it names a folder without a configuration.
    environ.pop("DOCKER_CONFIG", None)
    engine = _with_store(Engine("podman", environ, os.environ.get("BASE_IMAGE", STAND_IN)))
    if engine.base == STAND_IN and engine("image", "exists", STAND_IN).code:
        _import_stand_in(engine)
    return engine


def _with_store(engine: Engine) -> Engine:
    """The engine with the best store that works here: overlays do not lie on every file system."""
    reasons = []
    for driver, need_gb in NEED_GB.items():
        storage = WORK / f"storage-{driver}.conf"
        storage.write_text(STORAGE_CONF.format(work=WORK, driver=driver), encoding="utf-8")
        environ = {**engine.environ, "CONTAINERS_STORAGE_CONF": str(storage)}
        tried = replace(engine, environ=environ)
        is_new = not (WORK / driver).exists()
        free_gb = shutil.disk_usage(WORK).free / 1e9
        if (told := tried("info")).code:
            reasons.append(f"{driver}: {told.errors.strip()[-400:]}")
        elif is_new and free_gb < need_gb:
            reasons.append(f"{driver}: needs {need_gb} GB at {WORK}, {free_gb:.0f} GB are free")
        else:
            return tried
    raise Unavailable(f"podman can store no images: {'; '.join(reasons)}")


def _import_stand_in(engine: Engine) -> None:
    if not shutil.which("debootstrap"):
        raise Unavailable("BASE_IMAGE names no image, and there is no debootstrap to make one")
    tar = WORK / "base.tar"
    made = subprocess.run(
        [str(ROOT / "tools" / "debian-base"), "bookworm", str(tar)],
        env=dict(engine.environ),
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    if made.returncode:
        raise Unavailable(f"no base image could be made: {made.stderr.strip()[-400:]}")
    engine.must("import", "--quiet", str(tar), STAND_IN)
    tar.unlink()


def _limit(kind: int, most: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)
