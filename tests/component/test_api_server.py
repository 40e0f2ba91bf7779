"""`python handler.py --rp_serve_api`: the SDK's own server in front of our handler, over HTTP."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.speech_data import clip

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0


class Api:
    """A running server and what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.address = f"http://127.0.0.1:{port}"
        self._log = log

    def runsync(self, job_input: object) -> dict[str, Any]:
        response = requests.post(f"{self.address}/runsync", json={"input": job_input}, timeout=60)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_until_up(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log()
            try:
                requests.get(f"{self.address}/openapi.json", timeout=5)
            except requests.ConnectionError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"no server after {START_S} s: {self.log()}")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    log = tmp_path_factory.mktemp("api") / "log.txt"
    port = free_port()
    with log.open("wb") as out:
        where = ["--rp_api_host", "127.0.0.1", "--rp_api_port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "handler.py", "--rp_serve_api", *where],
            cwd=ROOT,
            env={**os.environ, "SOTTO_ENGINE": "fake"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        server = Api(process, port, log)
        try:
            server.wait_until_up()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def speech(**options: Any) -> dict[str, Any]:
    data = clip("en-young-man").path.read_bytes()
    return {"audio_base64": base64.b64encode(data).decode(), **options}


@pytest.mark.parametrize(
    ("job_input", "told"),
    [
        ({}, "invalid_request: audio: give exactly one of "),
        ({"audio": "file:///etc/passwd"}, "invalid_request: audio: expected an http(s) URL"),
        ({"audio": "http://169.254.169.254/meta?key=sesame"}, "source_forbidden: "),
        ({"audio": "http://127.0.0.1/a.wav"}, "source_forbidden: "),
        ({"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}, "audio_undecodable: "),
        (speech(beam_size="5"), "invalid_request: beam_size: '5': expected int"),
        (speech(**{"\ud800": 1}), "invalid_request: '\\ud800': no such option; "),
    ],
)
def test_a_job_that_fails_is_answered_with_its_error(
    api: Api, job_input: dict[str, Any], told: str
) -> None:
    answer = api.runsync(job_input)
    assert answer["status"] == "FAILED"
    assert answer["error"].startswith(told)
    assert "sesame" not in answer["error"]


def test_a_job_is_answered_over_http(api: Api) -> None:
    answer = api.runsync(speech(transcription="vtt", word_timestamps=True))
    assert answer["status"] == "COMPLETED"
    output = answer["output"]
    assert output["transcription"].startswith("WEBVTT\n\n00:00:0")
    assert output["word_timestamps"]
    assert output["model"] == "base"


def test_jobs_at_the_same_time_are_all_answered_alike(api: Api) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: api.runsync(speech()), range(4)))
    assert {answer["status"] for answer in answers} == {"COMPLETED"}
    texts = {answer["output"]["transcription"] for answer in answers}
    assert len(texts) == 1
    assert texts != {""}


def test_the_log_has_neither_what_was_said_nor_what_was_sent(api: Api) -> None:
    before = len(api.log())
    output = api.runsync(speech(initial_prompt="sesame-prompt"))["output"]
    api.runsync({"audio": "http://127.0.0.1/a.wav?signature=sesame-query"})
    logged = api.log()[before:]
    assert "done: " in logged
    assert "failed: source_forbidden" in logged
    assert "sesame" not in logged
    assert output["transcription"][:30] not in logged
    assert speech()["audio_base64"][:40] not in logged
    assert json.dumps(output["segments"][0]["text"])[1:-1] not in logged
