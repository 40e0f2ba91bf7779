"""The command of docs/deploy.md that serves from a pod, run as a process in the image's folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tests.component.test_serve_command import HANG_S, SPOKEN

ROOT = Path(__file__).resolve().parents[2]
OF_A_POD = {
    "RUNPOD_API_KEY": "rpa_of_the_pod",
    "RUNPOD_DC_ID": "EU-RO-1",
    "RUNPOD_GPU_COUNT": "1",
    "RUNPOD_POD_ID": "abc123",
    "RUNPOD_PUBLIC_IP": "192.0.2.1",
    "RUNPOD_TCP_PORT_22": "10022",
}
"""What RunPod sets in a pod."""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command, but for any free port and a file of the test's own."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^```sh\n(sh -c .*sotto serve.*)\n```$", text, re.MULTILINE)
    args = shlex.split(found)
    script = args[-1].replace("/tmp/endpoint.toml", str(tmp_path / "endpoint.toml"))
    return [*args[:-1], script.replace(" --host ", " --port 0 --host ")]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The working folder of the image."""
    shutil.copytree(ROOT / "src", tmp_path / "app" / "src")
    return tmp_path / "app"


@pytest.fixture
def pod(command: list[str], app: Path) -> Iterator[subprocess.Popen[str]]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "SOTTO_ENGINE": "fake", "API_KEY": "sesame"}
    with (app / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=app,
            env={**os.environ, **OF_A_POD, **own},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_the_command_serves_who_has_the_key_and_ends_with_the_pod(
    pod: subprocess.Popen[str], app: Path
) -> None:
    assert pod.stdout is not None
    ports = (re.search(r"http://0\.0\.0\.0:(\d+)/v2/sotto$", line.strip()) for line in pod.stdout)
    port = next(filter(None, ports), None)
    log = app / "log.txt"
    assert port is not None, log.read_text(encoding="utf-8")
    url = f"http://127.0.0.1:{port[1]}/v2/sotto"
    stranger = requests.post(f"{url}/runsync", json=SPOKEN, timeout=HANG_S)
    assert stranger.status_code == 401
    headers = {"Authorization": "Bearer sesame"}
    answer = requests.post(f"{url}/runsync", json=SPOKEN, headers=headers, timeout=HANG_S).json()
    assert answer["status"] == "COMPLETED", answer
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(HANG_S) == 0
    assert "worker-1: ended, exit code 0" in log.read_text(encoding="utf-8")
