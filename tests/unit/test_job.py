"""A job is always answered: with its output, or with an error that says what and why."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import threading
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.file_server import FileServer, hang, status, whole
from tests.speech_data import clip

from sotto.engine.base import Ask
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, OutOfMemory, SottoError
from sotto.settings import Settings
from sotto.worker import job as jobs
from sotto.workshop import Workshop

Open = Callable[..., Workshop]


@pytest.fixture
def open_workshop(tmp_path: Path) -> Iterator[Open]:
    """Makes workshops with the fake engine and a temporary folder of their own."""
    opened: list[Workshop] = []
    transit = tmp_path / "transit"
    transit.mkdir()

    def make(**changes: Any) -> Workshop:
        settings = Settings(**{"engine": "fake", "temp_dir": str(transit), **changes})
        opened.append(Workshop(settings))
        return opened[-1]

    yield make
    for workshop in opened:
        workshop.close()
    assert list(transit.iterdir()) == []


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        yield running


def run(workshop: Workshop, job_input: object, job_id: str = "job-1") -> dict[str, Any]:
    return asyncio.run(jobs.run({"id": job_id, "input": job_input}, workshop))


def wav_base64(seconds: float, channels: int = 1) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(b"\x00\x10\x00\xf0" * round(seconds * 8_000 * channels))
    return base64.b64encode(file.getvalue()).decode()


def embedded(seconds: float = 3.0, **options: Any) -> dict[str, Any]:
    """A job that is all sound to a worker that leaves nothing out."""
    return {"audio_base64": wav_base64(seconds), "enable_vad": False, **options}


def told(answer: dict[str, Any], code: str, *, retryable: bool) -> str:
    """The message of an error whose shape is right."""
    assert answer["code"] == code
    assert answer["retryable"] is retryable
    assert set(answer) - {"field"} == {"error", "code", "retryable"}
    assert ("field" in answer) is (code == "invalid_request")
    assert answer["error"].startswith(f"{code}: ")
    assert json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()
    message: str = answer["error"].removeprefix(f"{code}: ")
    assert "Traceback" not in message
    assert 'File "' not in message
    return message


def faulty(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Sequence[Ask]], None]) -> None:
    """Engines fail from now on, as the fake one can be told to."""
    monkeypatch.setattr("sotto.engines.build", lambda *_: FakeEngine(fault=fault))


# Wrong requests


@pytest.mark.parametrize(
    ("job_input", "field"),
    [
        (None, "input"),
        ([], "input"),
        ("", "input"),
        ({}, "audio"),
        ({"audio": "/etc/passwd"}, "audio"),
        ({"audio_base64": "!"}, "audio_base64"),
        ({"audio_base64": "AAAA", "langauge": "en"}, "langauge"),
        ({"audio_base64": "AAAA", "language": "\ud800"}, "language"),
        ({"audio_base64": "AAAA", "\ud800": 1}, "'\\ud800'"),
        ({"audio_path": "/etc/passwd"}, "audio_path"),
        ({"audio_path": "/runpod-volume/../etc/passwd"}, "audio_path"),
        ({"audio_path": "\x00"}, "audio_path"),
    ],
)
def test_a_wrong_request_is_answered_with_its_field(
    open_workshop: Open, job_input: object, field: str
) -> None:
    answer = run(open_workshop(), job_input)
    assert told(answer, "invalid_request", retryable=False).startswith(f"{field}: ")
    assert answer["field"] == field


def test_a_job_without_input_or_id_is_answered(open_workshop: Open) -> None:
    answer = asyncio.run(jobs.run({}, open_workshop()))
    assert told(answer, "invalid_request", retryable=False) == (
        "input: expected an object, got null"
    )


# Wrong audio


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"this is no audio at all, but text", "audio_undecodable"),
        (b"\x00" * 5000, "audio_undecodable"),
        (b"#EXTM3U\nhttps://host.example/secret\n", "audio_undecodable"),
        (base64.b64decode(wav_base64(1))[:30], "audio_undecodable"),
        (base64.b64decode(wav_base64(0)), "audio_empty"),
    ],
)
def test_bytes_that_are_no_sound_are_told(open_workshop: Open, data: bytes, code: str) -> None:
    answer = run(open_workshop(), {"audio_base64": base64.b64encode(data).decode()})
    assert told(answer, code, retryable=False)


def test_audio_longer_than_allowed_is_told(open_workshop: Open) -> None:
    answer = run(open_workshop(max_audio_s=2.0), embedded(3))
    assert "longer than 2 s" in told(answer, "audio_too_long", retryable=False)


def test_audio_larger_than_allowed_is_told(open_workshop: Open) -> None:
    answer = run(open_workshop(max_audio_bytes=1000), embedded(1))
    assert "more than 1000" in told(answer, "source_too_large", retryable=False)


# Wrong addresses


def test_an_address_inside_the_network_is_refused(open_workshop: Open, server: FileServer) -> None:
    answer = run(open_workshop(), {"audio": server.url("/a.wav?signature=sesame")})
    message = told(answer, "source_forbidden", retryable=False)
    assert "sesame" not in message
    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "code", "retryable"),
    [
        ("/missing", "source_unreachable", True),
        ("/private", "source_forbidden", False),
        ("/page", "audio_undecodable", False),
        ("/empty", "audio_empty", False),
        ("/slow", "source_timeout", True),
    ],
)
def test_an_address_that_gives_no_audio_is_told(
    open_workshop: Open,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    code: str,
    retryable: bool,
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    server.answers = {
        "/private": [status(403)],
        "/page": [whole(b"<!DOCTYPE html><p>Sign in</p>", content_type="text/html")],
        "/empty": [whole(b"")],
        "/slow": [hang()],
    }
    answer = run(open_workshop(fetch_timeout_s=1.0), {"audio": server.url(f"{path}?key=sesame")})
    assert "sesame" not in told(answer, code, retryable=retryable)


# Wrong models, failing engines


def test_a_model_that_is_not_here_is_told_with_what_is(open_workshop: Open, tmp_path: Path) -> None:
    workshop = open_workshop(engine="whisper", weights_dir=str(tmp_path / "none"))
    answer = run(workshop, embedded(model="large-v9"))
    assert "large-v9" in told(answer, "unknown_model", retryable=False)


def test_an_engine_that_fails_is_told(open_workshop: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Sequence[Ask]) -> None:
        raise EngineError("the device has lost its memory")

    faulty(monkeypatch, fails)
    message = told(run(open_workshop(), embedded()), "engine_failed", retryable=True)
    assert message == "the device has lost its memory"


def test_an_engine_without_memory_is_told(
    open_workshop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_: Sequence[Ask]) -> None:
        raise OutOfMemory("no memory for one window")

    faulty(monkeypatch, is_full)
    assert told(run(open_workshop(), embedded()), "out_of_memory", retryable=False)


# Our own faults


def test_a_fault_of_ours_is_internal_with_the_job_and_its_cause_is_in_the_log_alone(
    open_workshop: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = tmp_path / "no" / "such" / "folder"
    answer = run(open_workshop(temp_dir=str(lost)), embedded(), job_id="job-77")
    message = told(answer, "internal", retryable=True)
    assert message == "job job-77 failed; the worker's log has the reason"
    assert "FileNotFoundError" in caplog.text
    assert "Traceback" in caplog.text


def test_a_fault_in_the_engine_that_it_does_not_know_is_internal_too(
    open_workshop: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_: Sequence[Ask]) -> None:
        raise ZeroDivisionError("sesame")

    faulty(monkeypatch, breaks)
    assert "sesame" not in told(run(open_workshop(), embedded()), "internal", retryable=True)
    assert "ZeroDivisionError: sesame" in caplog.text


def test_every_error_can_be_answered() -> None:
    for error in every_error(SottoError):
        answer = jobs.failure(error)
        assert told(answer, error.code, retryable=error.retryable) == str(error)


def every_error(group: type[SottoError]) -> Iterator[SottoError]:
    if group.code:
        yield group("field", "reason") if group.code == "invalid_request" else group("reason")
    for kind in group.__subclasses__():
        yield from every_error(kind)


def test_cancellation_is_not_answered_but_passed_on(
    open_workshop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = threading.Event()
    engine = FakeEngine(fault=lambda _: at_work.set(), cost_s=lambda _: 1.0)
    monkeypatch.setattr("sotto.engines.build", lambda *_: engine)
    workshop = open_workshop()

    async def cancelled() -> None:
        running = asyncio.create_task(jobs.run({"id": "1", "input": embedded(90)}, workshop))
        assert await asyncio.to_thread(at_work.wait, 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())


# What is right


def test_an_answer_is_strict_json_with_no_error(open_workshop: Open) -> None:
    answer = run(open_workshop(), embedded(3, word_timestamps=True, transcription="srt"))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert "error" not in answer
    assert answer["duration"] == pytest.approx(3.0, abs=0.05)
    assert len(answer["word_timestamps"]) == 7
    assert answer["transcription"].startswith("1\n00:00:00,000 --> ")


def test_the_seconds_of_every_stage_are_told_and_none_is_negative(open_workshop: Open) -> None:
    timings = run(open_workshop(), embedded(40))["timings"]
    assert set(timings) == {"fetch", "decode", "vad", "features", "engine", "total"}
    assert all(0 <= timings[stage] <= timings["total"] for stage in timings)


def test_the_same_audio_is_answered_alike_however_it_arrives(
    open_workshop: Open, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    speech = clip("en-young-man").path
    data = speech.read_bytes()
    server.answers["/a.ogg"] = [whole(data, content_type="audio/ogg")]
    workshop = open_workshop(audio_roots=(str(speech.parent),))
    inputs: list[dict[str, Any]] = [
        {"audio_base64": base64.b64encode(data).decode()},
        {"audio": f"data:audio/ogg;base64,{base64.b64encode(data).decode()}"},
        {"audio": server.url("/a.ogg"), "audio_headers": {"X-Key": "sesame"}},
        {"audio_path": str(speech)},
    ]
    answers = [run(workshop, job_input) for job_input in inputs]
    assert answers[0]["segments"]
    assert [a["segments"] for a in answers] == [answers[0]["segments"]] * 4
    assert server.requests[0][1]["X-Key"] == "sesame"


def test_jobs_at_the_same_time_are_answered_as_each_alone(open_workshop: Open) -> None:
    inputs = [embedded(seconds, word_timestamps=True) for seconds in (2, 35, 70, 3)]
    alone = [run(open_workshop(), job_input)["segments"] for job_input in inputs]
    workshop = open_workshop()

    async def together() -> list[dict[str, Any]]:
        jobs_now = (jobs.run({"id": str(i), "input": x}, workshop) for i, x in enumerate(inputs))
        return await asyncio.gather(*jobs_now)

    assert [answer["segments"] for answer in asyncio.run(together())] == alone


def test_what_cannot_act_is_in_the_warnings(open_workshop: Open) -> None:
    answer = run(open_workshop(), embedded(beam_size=1, patience=2.0))
    assert answer["warnings"] == ["patience: only acts in beam search at temperature 0"]


def test_a_model_that_knows_only_english_says_what_it_cannot_do(
    open_workshop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = FakeEngine(model="tiny.en", multilingual=False)
    monkeypatch.setattr("sotto.engines.build", lambda *_: english)
    answer = run(open_workshop(), embedded(language="fr", translate=True))
    assert answer["model"] == "tiny.en"
    assert answer["warnings"] == [
        "language: model 'tiny.en' knows only English",
        "translate: model 'tiny.en' cannot; the translation is the transcription",
    ]


@pytest.mark.model
def test_a_model_that_is_not_here_may_fall_back_on_the_baked_one(
    open_workshop: Open, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sotto.engines.build", lambda name, *_: FakeEngine(model=name))
    workshop = open_workshop(
        engine="whisper", weights_dir=str(weights), model_fallback="baked", model="base"
    )
    answer = run(workshop, embedded(model="large-v9"))
    assert answer["model"] == "base"
    assert answer["warnings"] == ["model: 'large-v9' is not on this worker; 'base' was used"]


def test_channels_that_are_split_are_answered_each_and_mixed_when_not(
    open_workshop: Open,
) -> None:
    stereo = {"audio_base64": wav_base64(3, channels=2), "enable_vad": False}
    split = run(open_workshop(), {**stereo, "channels": "split"})
    assert {one["channel"] for one in split["segments"]} == {0, 1}
    assert split["duration"] == pytest.approx(3.0, abs=0.05)
    assert all("channel" not in one for one in run(open_workshop(), stereo)["segments"])


def test_clips_leave_out_the_rest(open_workshop: Open) -> None:
    answer = run(open_workshop(), embedded(10, clip_timestamps=[2, 4]))
    assert answer["duration_after_vad"] == pytest.approx(2.0, abs=0.5)
    assert all(1.5 <= one["start"] <= one["end"] <= 4.5 for one in answer["segments"])


# The log


def test_the_log_says_how_jobs_went_and_nothing_of_what_they_hold(
    open_workshop: Open,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    caplog.set_level(logging.DEBUG)
    server.answers["/a.wav"] = [whole(base64.b64decode(wav_base64(3)))]
    workshop = open_workshop()
    secrets: dict[str, Any] = {
        "audio_headers": {"Authorization": "Bearer sesame-header"},
        "initial_prompt": "sesame-prompt",
        "enable_vad": False,
    }
    good = {"audio": server.url("/a.wav?signature=sesame-query"), **secrets}
    lost = {"audio": server.url("/lost.wav?signature=sesame-query"), **secrets}
    done = run(workshop, good, job_id="good-1")
    run(workshop, lost, job_id="lost-1")
    run(workshop, embedded(language="sesame-value"), job_id="wrong-1")
    said = "\n".join(record.getMessage() for record in caplog.records if "sotto" in record.name)
    assert "job good-1 done: 3.0 s of audio in " in said
    assert "job lost-1 failed: source_unreachable" in said
    assert "job wrong-1 failed: invalid_request" in said
    assert "sesame" not in said
    spoken = done["transcription"].split()
    assert len(spoken) == 7
    assert not set(spoken) & set(said.split())
