"""The app on Modal: deployed by the real client, and run by Modal's own code as in a container.

Modal itself is a stub: what it is asked for is looked at, and it hands out the inputs.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import modal
import numpy as np
import pytest
from deploy import modal_app
from numpy.typing import NDArray
from tests.modal_container import HANG_S, Checkout, Container
from tests.modal_stub import ModalStub
from tests.sound import wav

from sotto.engine.base import Ask
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.request import parse

ROOT = Path(__file__).resolve().parents[2]
WORKER = "Worker.*"
DESK = """
name = "desk"
timeout_s = 120
env_from = ["MY_OWN"]
workers = { min = 1, max = 4, idle_timeout_s = 30 }

[env]
SOTTO_ENGINE = "fake"

[secrets]
SOTTO_S3_ACCESS_SECRET = "store"
"""
SECONDS = 3


def noise(seconds: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 0.1, 16_000 * seconds).clip(-1, 1)


SOUND = base64.b64encode(wav(noise(SECONDS))).decode()
SPOKEN: dict[str, Any] = {"input": {"audio_base64": SOUND, "enable_vad": False}}


# What Modal is told


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modal")


@pytest.fixture(scope="module")
def checkout(home: Path) -> Checkout:
    return Checkout(home, DESK)


@pytest.fixture(scope="module")
def stub(home: Path, checkout: Checkout) -> Iterator[ModalStub]:
    """Modal, once the app is deployed to it."""
    with ModalStub(home) as running:
        done = running.deploy(checkout.app, GPU="A10, L4", **checkout.environ, MY_OWN="x")
        assert done.returncode == 0, done.stdout + done.stderr
        yield running


def deployed(folder: Path, endpoint: str, **environ: str) -> tuple[ModalStub, str]:
    """Modal and what `modal deploy` says, after it was run with this endpoint.toml."""
    checkout = Checkout(folder, endpoint)
    with ModalStub(folder) as stub:
        done = stub.deploy(checkout.app, **{**checkout.environ, **environ})
    return stub, done.stdout + done.stderr


def test_what_endpoint_toml_says_is_what_modal_is_told(stub: ModalStub) -> None:
    data = next(r.function_data for r in stub.asked["FunctionCreate"] if r.function_data.is_class)
    assert [ranked.function.resources.gpu_config.gpu_type for ranked in data.ranked_functions] == [
        "A10",
        "L4",
    ]
    worker = stub.deployed(WORKER)
    assert worker.app_name == "desk"
    assert worker.timeout_secs == 120
    scaling = worker.autoscaler_settings
    assert (scaling.min_containers, scaling.max_containers) == (1, 4)
    assert scaling.scaledown_window == 30
    assert worker.max_concurrent_inputs == modal_app.FULL_CALLS
    assert [mount.mount_path for mount in worker.volume_mounts] == ["/app/weights"]
    assert stub.asked["VolumeGetOrCreate"][0].deployment_name == "desk-weights"


def test_only_who_has_a_proxy_token_reaches_the_web_endpoint(stub: ModalStub) -> None:
    methods = stub.deployed(WORKER).method_definitions
    assert set(methods) == {"run", "runsync"}
    assert not methods["run"].webhook_config.method
    assert methods["runsync"].webhook_config.method == "POST"
    assert methods["runsync"].webhook_config.requires_proxy_auth


def test_the_environment_is_the_files_and_the_persons_own_and_secrets_stay_references(
    stub: ModalStub,
) -> None:
    given, stored = [], []
    for request in stub.asked["SecretGetOrCreate"]:
        (stored if request.deployment_name else given).append(request)
    assert [dict(request.env_dict) for request in given] == [
        {
            "SOTTO_JOB_TIMEOUT_S": "105",
            "SOTTO_ENGINE": "fake",
            "MY_OWN": "x",
            "SOTTO_WEIGHTS_DIR": "/app/weights",
        }
    ] * len(given)
    assert {(r.deployment_name, *r.required_keys) for r in stored} == {
        ("store", "SOTTO_S3_ACCESS_SECRET")
    }


def test_the_image_has_the_pinned_packages_by_their_digests(stub: ModalStub) -> None:
    images = [request.image for request in stub.asked["ImageGetOrCreate"]]
    installs = {
        file.data: command
        for image in images
        for file in image.context_files
        for command in image.dockerfile_commands
        if "pip install -r" in command
    }
    assert set(installs) == {
        (ROOT / name).read_bytes() for name in ("requirements.txt", "requirements-cuda.txt")
    }
    assert all("--require-hashes" in command for command in installs.values())


def test_the_image_says_of_third_parties_what_the_docker_image_says(stub: ModalStub) -> None:
    commands = [c for r in stub.asked["ImageGetOrCreate"] for c in r.image.dockerfile_commands]
    ours = dict(re.findall(r"^ENV (\w+)=(\S+)$", "\n".join(commands), re.MULTILINE))
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    theirs = dict(re.findall(r"\b(HF_\w+|ORT_\w+)=(\S+)", text))
    assert theirs
    assert theirs.items() <= ours.items()


def test_a_scaler_by_count_is_how_many_a_container_is_to_have(tmp_path: Path) -> None:
    endpoint = 'name = "desk"\nscaling = { kind = "request_count", value = 6 }\n'
    stub, said = deployed(tmp_path, endpoint, GPU="")
    worker = stub.deployed(WORKER)
    assert worker.target_concurrent_inputs == 6, said
    assert worker.max_concurrent_inputs == 8
    assert not worker.autoscaler_settings.HasField("scaledown_window")
    assert worker.resources.gpu_config.gpu_type == ""


@pytest.mark.parametrize(("timeout_s", "startup_s"), [(20, 420), (3600, 3600)])
def test_a_container_has_time_to_load_its_model_however_short_its_inputs_are(
    tmp_path: Path, timeout_s: int, startup_s: int
) -> None:
    stub, said = deployed(tmp_path, f'name = "desk"\ntimeout_s = {timeout_s}\n')
    worker = stub.deployed(WORKER)
    assert (worker.timeout_secs, worker.startup_timeout_secs) == (timeout_s, startup_s), said


def test_the_shortest_times_of_an_endpoint_are_ones_that_modal_takes(tmp_path: Path) -> None:
    times = 'timeout_s = 10\nworkers.idle_timeout_s = 1\nenv.SOTTO_JOB_TIMEOUT_S = "7"\n'
    stub, said = deployed(tmp_path, f'name = "desk"\n{times}')
    worker = stub.deployed(WORKER)
    assert worker.autoscaler_settings.scaledown_window == 2, said
    assert worker.timeout_secs == 10
    given = [dict(r.env_dict) for r in stub.asked["SecretGetOrCreate"] if not r.deployment_name]
    assert {env["SOTTO_JOB_TIMEOUT_S"] for env in given} == {"7"}


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ('name = "desk"\nworkers.max = 0\n', "workers.max: 0 would be no limit on Modal"),
        (
            'name = "desk"\ntimeout_s = 15\n',
            "timeout_s: 15 leaves too little: a worker stops a job",
        ),
        ('name = "desk"\nenv.SOTTO_BEAM = "1"\n', "SOTTO_BEAM: no such setting"),
    ],
)
def test_what_cannot_run_is_refused_before_modal_hears_of_it(
    tmp_path: Path, endpoint: str, reason: str
) -> None:
    stub, said = deployed(tmp_path, endpoint)
    assert reason in " ".join(said.split())
    assert not stub.asked["FunctionCreate"]


# In the place of a container


@pytest.fixture(scope="module")
def transit(home: Path) -> Path:
    """Where audio in transit lies; beside it, audio may be read."""
    folder = home / "volume" / "transit"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def container(stub: ModalStub, checkout: Checkout, transit: Path) -> Iterator[Container]:
    """One that serves with the fake engine."""
    environ = {k: v for r in stub.asked["SecretGetOrCreate"] for k, v in r.env_dict.items()}
    environ |= {"SOTTO_TEMP_DIR": str(transit), "SOTTO_AUDIO_ROOTS": str(transit.parent)}
    with stub.running(WORKER, **environ, **checkout.as_in_a_container()) as running:
        yield running
        assert running.stop() == 0, running.log()
    assert "Traceback" not in running.log()
    assert "still running" not in running.log()


def test_many_inputs_of_one_container_are_each_answered(container: Container) -> None:
    inputs = [container.submit("run", SPOKEN) for _ in range(modal_app.FULL_CALLS)]
    answers = [container.value(input_id) for input_id in inputs]
    assert [answer["id"] for answer in answers] == inputs
    assert {answer["status"] for answer in answers} == {"COMPLETED"}
    outputs = [answer["output"] for answer in answers]
    assert outputs[0]["duration"] == SECONDS
    assert len({output["transcription"] for output in outputs}) == 1


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        (None, "invalid_request", ""),
        ([], "invalid_request", ""),
        ("", "invalid_request", ""),
        ({}, "invalid_request", "input"),
        ({"input": None}, "invalid_request", "input"),
        ({"input": {"audio": 5}}, "invalid_request", "audio"),
        ({"input": {"audio_path": "/etc/passwd"}}, "invalid_request", "audio_path"),
        ({"input": {"audio_base64": "AAAA", "\ud800": 1}}, "invalid_request", "'\\ud800'"),
        ({**SPOKEN, "webhook": "https://example.org/"}, "invalid_request", "webhook"),
        ({**SPOKEN, "s3Config": 1}, "invalid_request", "s3Config"),
        ({**SPOKEN, "\ud800": 1}, "invalid_request", "?"),
        ({"input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}}, "audio_undecodable", None),
        ({"input": {"audio": "http://169.254.169.254/latest"}}, "source_forbidden", None),
    ],
)
def test_a_bad_input_is_answered_with_its_code(
    container: Container, given: Any, code: str, field: str | None
) -> None:
    answer = container.value(container.submit("run", given))
    assert answer["status"] == "FAILED"
    assert answer["error"].startswith(f"{code}: ")
    assert answer["output"]["code"] == code
    assert answer["output"].get("field") == field
    assert json.dumps(answer, ensure_ascii=False).encode()


def test_the_web_endpoint_answers_as_the_method_does(container: Container) -> None:
    status, body = container.response(container.post("runsync", json.dumps(SPOKEN).encode()))
    answer = json.loads(body)
    assert (status, answer["status"]) == (200, "COMPLETED")
    same = container.value(container.submit("run", SPOKEN))["output"]
    assert answer["output"]["segments"] == same["segments"]
    status, body = container.response(container.post("runsync", b'{"input": {"audio": 5}}'))
    assert (status, json.loads(body)["output"]["code"]) == (200, "invalid_request")


@pytest.mark.parametrize(
    "body", [b"", b'{"input', b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b"NaN"]
)
def test_a_body_that_is_not_json_is_refused(container: Container, body: bytes) -> None:
    status, told = container.response(container.post("runsync", body))
    assert status == 400
    assert json.loads(told)["error"].startswith("body: not JSON; ")


@pytest.mark.parametrize("by", ["method", "web endpoint"])
def test_a_cancelled_input_makes_room(container: Container, transit: Path, by: str) -> None:
    path = transit.parent / "long.wav"
    path.write_bytes(wav(np.tile(noise(60), 20)))
    long = {"input": {"audio_path": str(path), "enable_vad": False}}
    if by == "method":
        job = container.submit("run", long)
    else:
        job = container.post("runsync", json.dumps(long).encode())
    container.await_log(f"job {job} begun")
    container.cancel(job)
    container.result(job)
    container.await_log(f"job {job} stopped; ")
    assert container.value(container.submit("run", SPOKEN))["status"] == "COMPLETED"
    assert list(transit.iterdir()) == []


# Called where it stands


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A worker that has been entered; its engine waits behind `gate`."""
    monkeypatch.setenv("SOTTO_ENGINE", "fake")
    monkeypatch.setenv("SOTTO_TEMP_DIR", str(tmp_path))
    one: Any = modal_app.Worker()
    one._enter()  # `.local()` of an asynchronous method leaves the hooks out
    yield one
    one._service.workshop.close()
    one._threads.shutdown()


LOCALLY = "ignore:The Worker.* function is executing locally:UserWarning"
"""Modal warns that its Volume is not there."""


def await_windows(count: int, engine: FakeEngine, batcher: Batcher) -> None:
    """Return once so many windows are in the engine or wait for it."""
    until = time.monotonic() + HANG_S
    while sum(engine.calls) + batcher._waiting() < count:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.filterwarnings(LOCALLY)
def test_inputs_that_come_together_share_the_engines_calls(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    door = threading.Event()
    engine = FakeEngine(fault=lambda _: door.wait(HANG_S))
    monkeypatch.setattr("sotto.engines.build", lambda *_: engine)
    worker = request.getfixturevalue("worker")

    async def all_at_once() -> list[dict[str, Any]]:
        jobs = [asyncio.create_task(worker.run.local(SPOKEN)) for _ in range(9)]
        async with worker._service.workshop.open(parse(SPOKEN["input"])) as (tools, _):
            await asyncio.to_thread(await_windows, 9, engine, tools.batcher)
            door.set()
            return await asyncio.gather(*jobs)

    answers = asyncio.run(all_at_once())
    assert [answer["status"] for answer in answers] == ["COMPLETED"] * 9
    assert sum(engine.calls) == 9
    assert len(engine.calls) == 2


@pytest.mark.filterwarnings(LOCALLY)
def test_a_container_whose_engine_has_died_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def dies(_: Sequence[Ask]) -> None:
        raise SystemExit

    retired = []

    async def stop_fetching_inputs() -> None:
        retired.append(True)

    monkeypatch.setattr("sotto.engines.build", lambda *_: FakeEngine(fault=dies))
    worker = request.getfixturevalue("worker")
    monkeypatch.setattr(modal, "is_local", lambda: False)
    monkeypatch.setattr(modal.experimental.stop_fetching_inputs, "aio", stop_fetching_inputs)
    answer = asyncio.run(worker.run.local(SPOKEN))
    assert answer["status"] == "FAILED"
    assert answer["output"] == {"code": "engine_failed", "retryable": True}
    assert retired
