"""The app on Modal with real weights: what a container answers, and what it takes to have them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from deploy import modal_app
from tests.modal_container import Checkout, Container
from tests.modal_stub import ModalStub
from tests.model.test_transcribe import plain
from tests.speech_data import Clip, clip

from sotto.engine.base import Ask, Decoded
from sotto.engine.whisper import Whisper

pytestmark = [
    pytest.mark.model,
    # Modal says of a call where it stands that its Volume is not there.
    pytest.mark.filterwarnings("ignore:The .* function is executing locally:UserWarning"),
]

CLIPS = ("en-dashwood", "fr-connection", "it-mailbox-full", "ru-first-in-line")


def job(spoken: Clip) -> dict[str, Any]:
    return {"input": {"audio_base64": base64.b64encode(spoken.path.read_bytes()).decode()}}


@pytest.fixture(scope="module")
def container(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One as `modal deploy` makes it, but for where the weights are."""
    home = tmp_path_factory.mktemp("modal")
    checkout = Checkout(home, 'name = "desk"\n')
    with ModalStub(home) as stub:
        done = stub.deploy(checkout.app, **checkout.environ)
        assert done.returncode == 0, done.stdout + done.stderr
        environ = {k: v for r in stub.asked["SecretGetOrCreate"] for k, v in r.env_dict.items()}
        environ["SOTTO_WEIGHTS_DIR"] = str(weights)
        with stub.running("Worker.*", **environ, **checkout.as_in_a_container()) as running:
            yield running
            assert running.stop() == 0, running.log()


def test_a_container_understands_four_languages_at_once(container: Container) -> None:
    inputs = [container.submit("run", job(clip(name))) for name in CLIPS]
    for name, input_id in zip(CLIPS, inputs, strict=True):
        answer = container.value(input_id)
        assert answer["status"] == "COMPLETED", answer
        assert answer["output"]["detected_language"] == clip(name).language
        assert plain(answer["output"]["transcription"]) == plain(clip(name).text)


def test_the_model_is_loaded_once_and_before_the_first_input(container: Container) -> None:
    container.value(container.submit("run", job(clip(CLIPS[0]))))
    log = container.log()
    assert log.count("model base is warm") == 1
    assert log.index("model base is warm") < log.index(" begun")


def test_a_bad_input_beside_good_ones_gets_its_error(container: Container) -> None:
    good = container.submit("run", job(clip(CLIPS[0])))
    bad = container.submit("run", {"input": {**job(clip(CLIPS[0]))["input"], "langauge": "en"}})
    other = container.submit("run", {"input": {**job(clip(CLIPS[0]))["input"], "model": "turbo"}})
    assert container.value(bad)["output"]["code"] == "invalid_request"
    assert "did you mean 'language'?" in container.value(bad)["error"]
    assert container.value(other)["output"]["code"] == "unknown_model"
    assert container.value(good)["status"] == "COMPLETED"


def test_inputs_that_come_together_share_the_models_calls(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    decode = Whisper.decode

    def counted(self: Whisper, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        sizes.append(len(asks))
        return decode(self, asks)

    monkeypatch.setattr(Whisper, "decode", counted)
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(weights))
    monkeypatch.setenv("SOTTO_MODEL_WORKERS", "1")
    monkeypatch.setenv("SOTTO_DECODE_BATCH", "4")
    worker: Any = modal_app.Worker()
    worker._enter()  # `.local()` of an asynchronous method leaves the hooks out
    warm = len(sizes)

    async def all_at_once() -> list[dict[str, Any]]:
        return await asyncio.gather(*(worker.run.local(job(clip(CLIPS[0]))) for _ in range(6)))

    try:
        answers = asyncio.run(all_at_once())
    finally:
        worker._service.workshop.close()
        worker._threads.shutdown()
    assert {plain(answer["output"]["transcription"]) for answer in answers} == {
        plain(clip(CLIPS[0]).text)
    }
    assert len(sizes) - warm < 6


def test_a_bake_leaves_alone_what_is_there(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(weights))
    modal_app.bake.local("tiny.en")
    assert f"tiny.en: already in {weights / 'tiny.en'}" in capsys.readouterr().out


def test_a_bake_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTO_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(modal_app.BakeFailed, match="nonsense"):
        modal_app.bake.local("nonsense")
    assert list(tmp_path.iterdir()) == []
