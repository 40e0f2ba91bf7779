"""A job is always answered: with its output, or with an error that says what and why."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
import threading
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.file_server import FileServer, hang, status, whole
from tests.gate import Gate
from tests.speech_data import clip

from sotto.engine.base import Ask
from sotto.engine.fake import FakeEngine
from sotto.errors import EngineError, OutOfMemory, SottoError
from sotto.settings import Settings, SettingsError
from sotto.worker import channel
from sotto.worker import job as jobs
from sotto.worker.job import Service

Open = Callable[..., Service]


@pytest.fixture
def open_service(tmp_path: Path) -> Iterator[Open]:
    """Opens services with the fake engine and a temporary folder of their own."""
    opened: list[Service] = []
    transit = tmp_path / "transit"
    transit.mkdir()

    def make(**changes: Any) -> Service:
        settings = Settings(**{"engine": "fake", "temp_dir": str(transit), **changes})
        opened.append(jobs.open_service(settings))
        return opened[-1]

    yield make
    for service in opened:
        service.workshop.close()
    assert list(transit.iterdir()) == []


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        yield running


def run(service: Service, job_input: object, job_id: str = "job-1") -> Any:
    return asyncio.run(jobs.run({"id": job_id, "input": job_input}, service))


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
    open_service: Open, job_input: object, field: str
) -> None:
    answer = run(open_service(), job_input)
    assert told(answer, "invalid_request", retryable=False).startswith(f"{field}: ")
    assert answer["field"] == field


def test_a_job_without_input_or_id_is_answered(open_service: Open) -> None:
    answer = asyncio.run(jobs.run({}, open_service()))
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
def test_bytes_that_are_no_sound_are_told(open_service: Open, data: bytes, code: str) -> None:
    answer = run(open_service(), {"audio_base64": base64.b64encode(data).decode()})
    assert told(answer, code, retryable=False)


def test_audio_longer_than_allowed_is_told(open_service: Open) -> None:
    answer = run(open_service(max_audio_s=2.0), embedded(3))
    assert "longer than 2 s" in told(answer, "audio_too_long", retryable=False)


def test_audio_larger_than_allowed_is_told(open_service: Open) -> None:
    answer = run(open_service(max_audio_bytes=1000), embedded(1))
    assert "more than 1000" in told(answer, "source_too_large", retryable=False)


# Wrong addresses


def test_an_address_inside_the_network_is_refused(open_service: Open, server: FileServer) -> None:
    answer = run(open_service(), {"audio": server.url("/a.wav?signature=sesame")})
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
    open_service: Open,
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
    answer = run(open_service(fetch_timeout_s=1.0), {"audio": server.url(f"{path}?key=sesame")})
    assert "sesame" not in told(answer, code, retryable=retryable)


# Wrong models, failing engines


def test_a_model_that_is_not_here_is_told_with_what_is(open_service: Open, tmp_path: Path) -> None:
    service = open_service(engine="whisper", weights_dir=str(tmp_path / "none"))
    answer = run(service, embedded(model="large-v9"))
    assert "large-v9" in told(answer, "unknown_model", retryable=False)


def test_an_engine_that_fails_is_told_and_logged(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Sequence[Ask]) -> None:
        raise EngineError("the device has lost its memory")

    faulty(monkeypatch, fails)
    message = told(run(open_service(), embedded()), "engine_failed", retryable=True)
    assert message == "the device has lost its memory"
    assert message in caplog.text


def test_an_engine_without_memory_is_told(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_: Sequence[Ask]) -> None:
        raise OutOfMemory("no memory for one window")

    faulty(monkeypatch, is_full)
    assert told(run(open_service(), embedded()), "out_of_memory", retryable=False)


# Our own faults


def test_a_disk_that_takes_no_audio_is_internal_and_its_name_is_in_the_log_alone(
    open_service: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = tmp_path / "no" / "such" / "folder"
    answer = run(open_service(temp_dir=str(lost)), embedded(), job_id="job-77")
    message = told(answer, "internal", retryable=True)
    assert message == "this worker cannot write audio; its log has the reason"
    assert f"SOTTO_TEMP_DIR: no audio can be written to {lost}: No such file" in caplog.text
    assert "job-77 failed: internal" in caplog.text


def test_a_fault_in_the_engine_that_it_does_not_know_is_internal_too(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_: Sequence[Ask]) -> None:
        raise ZeroDivisionError("sesame")

    faulty(monkeypatch, breaks)
    answer = run(open_service(), embedded(), job_id="job-77")
    message = told(answer, "internal", retryable=True)
    assert message == "job job-77 failed; the worker's log has the reason"
    assert "ZeroDivisionError: sesame" in caplog.text
    assert "Traceback" in caplog.text


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
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = threading.Event()
    engine = FakeEngine(fault=lambda _: at_work.set(), cost_s=lambda _: 1.0)
    monkeypatch.setattr("sotto.engines.build", lambda *_: engine)
    service = open_service()

    async def cancelled() -> None:
        running = asyncio.create_task(jobs.run({"id": "1", "input": embedded(90)}, service))
        assert await asyncio.to_thread(at_work.wait, 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())


# A job that takes too long


def test_a_job_whose_time_is_over_is_told_how_far_it_came(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    faulty(monkeypatch, gate)
    answer = run(open_service(job_timeout_s=2.0), embedded(90))
    gate.open()
    assert told(answer, "timeout", retryable=True) == (
        "SOTTO_JOB_TIMEOUT_S: the 2 s that a job may run are over; "
        "it had come to second 0.0 of the audio, segment 0"
    )


def test_a_job_whose_time_is_over_gives_its_share_of_the_engine_back(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    faulty(monkeypatch, gate)
    service = open_service(job_timeout_s=2.0)
    run(service, embedded(300))
    gate.open()
    assert "error" not in run(service, embedded(3))
    assert [len(rows) for rows in gate.rows[1:]] == [1]


def test_a_job_whose_audio_does_not_come_in_time_is_told(
    open_service: Open, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    server.answers = {"/slow": [hang()]}
    answer = run(open_service(job_timeout_s=0.5), {"audio": server.url("/slow?key=sesame")})
    message = told(answer, "timeout", retryable=True)
    assert message.endswith("; the audio was still being fetched")


def test_a_job_whose_model_is_not_loaded_in_time_is_told(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = threading.Event()

    def build(*_: object) -> FakeEngine:
        assert loaded.wait(30)
        return FakeEngine()

    monkeypatch.setattr("sotto.engines.build", build)
    answer = run(open_service(job_timeout_s=0.2), embedded())
    loaded.set()
    message = told(answer, "timeout", retryable=True)
    assert message.endswith("; the model was still being loaded")


# What is told on the way


class Listener:
    """A channel that keeps what it is given, and calls `on_message` each time."""

    def __init__(self, on_message: Callable[[], None] = lambda: None) -> None:
        self.updates: list[dict[str, Any]] = []
        self.items: list[Any] = []
        self._on_message = on_message

    async def progress(self, update: Mapping[str, Any]) -> None:
        self.updates.append(dict(update))
        self._on_message()

    async def stream(self, item: Any) -> None:
        self.items.append(item)
        self._on_message()


def run_heard(service: Service, job_input: object, listener: Listener) -> Any:
    """Run a job over the channel that `listener` is."""

    async def heard() -> Any:
        channel.assign(listener)
        return await jobs.run({"id": "job-1", "input": job_input}, service)

    return asyncio.run(heard())


def test_a_stream_gets_the_segments_of_the_answer_in_order(open_service: Open) -> None:
    listener = Listener()
    job_input = embedded(90, stream=True, word_timestamps=True)
    answer = run_heard(open_service(), job_input, listener)
    assert [set(item) for item in listener.items] == [{"segments"}] * len(listener.items)
    streamed = [segment for item in listener.items for segment in item["segments"]]
    assert json.loads(json.dumps(streamed)) == answer["segments"]
    assert len(streamed) > 3


def test_nothing_is_streamed_that_was_not_asked_for(open_service: Open) -> None:
    listener = Listener()
    run_heard(open_service(), embedded(90), listener)
    assert listener.items == []


def test_what_was_final_before_a_job_failed_has_been_streamed(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = threading.Event()
    calls: list[int] = []

    def breaks_later(asks: Sequence[Ask]) -> None:
        calls.append(len(asks))
        if len(calls) > 1:
            assert streamed.wait(30)
            raise EngineError("the device has lost its memory")

    faulty(monkeypatch, breaks_later)
    listener = Listener(streamed.set)
    answer = run_heard(open_service(), embedded(300, stream=True), listener)
    assert told(answer, "engine_failed", retryable=True)
    assert listener.items[0]["segments"][0]["id"] == 1


def test_a_job_that_takes_its_time_tells_how_far_it_is(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    faulty(monkeypatch, gate)
    listener = Listener(gate.open)
    answer = run_heard(open_service(), embedded(40), listener)
    assert "error" not in answer
    first = listener.updates[0]
    assert first == {
        "stage": "transcribe",
        "audio_s_done": 0.0,
        "audio_s_total": 40.0,
        "segments": 0,
    }


# An engine that has died


def test_when_the_engine_has_died_every_job_fails_and_asks_for_a_fresh_worker(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def dies(_: Sequence[Ask]) -> None:
        raise SystemExit

    faulty(monkeypatch, dies)
    service = open_service()
    for _ in range(2):
        answer = run(service, embedded())
        assert answer.pop("refresh_worker") is True
        assert told(answer, "engine_failed", retryable=True)
    assert "the engine has died" in caplog.text


def test_a_window_that_fails_asks_for_no_fresh_worker(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Sequence[Ask]) -> None:
        raise EngineError("the device has lost its memory")

    faulty(monkeypatch, fails)
    assert "refresh_worker" not in run(open_service(), embedded())


# Answers that are large or wanted elsewhere


def test_an_answer_that_is_too_large_is_told_with_the_ways_out(open_service: Open) -> None:
    answer = run(open_service(result_limit_bytes=100), embedded())
    message = told(answer, "result_too_large", retryable=False)
    assert "upload_url" in message
    assert "SOTTO_S3_" in message


def test_an_upload_without_a_store_is_refused_before_any_work(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()  # whoever gets to the engine stays there
    faulty(monkeypatch, gate)
    answer = run(open_service(), embedded(upload=True))
    assert told(answer, "invalid_request", retryable=False)
    assert answer["field"] == "upload"
    assert gate.calls == []


def test_half_a_store_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="SOTTO_S3_ACCESS_SECRET"):
        jobs.open_service(Settings(engine="fake", s3_bucket="answers"))


# The OpenAI route


def by_openai(route: str, **fields: Any) -> dict[str, Any]:
    return {"openai_route": route, "openai_input": fields}


def data_uri(seconds: float) -> str:
    return f"data:audio/wav;base64,{wav_base64(seconds)}"


@pytest.mark.parametrize("fields", [{}, {"file": "/etc/passwd"}, {"file": data_uri(1), "x": 1}])
def test_a_wrong_request_by_the_openai_route_is_answered_in_its_shape(
    open_service: Open, fields: dict[str, Any]
) -> None:
    answer = run(open_service(), by_openai("/v1/audio/transcriptions", **fields))
    assert set(answer) == {"error"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"]["param"] == ("x" if "x" in fields else "file")


def test_the_openai_route_answers_in_the_shape_that_is_asked_for(open_service: Open) -> None:
    speech = base64.b64encode(clip("en-young-man").path.read_bytes()).decode()
    file = f"data:audio/ogg;base64,{speech}"
    service = open_service()
    route = "/v1/audio/transcriptions"
    plain = run(service, by_openai(route, file=file, model="whisper-1"))
    text = run(service, by_openai(route, file=file, response_format="text"))
    assert set(plain) == {"text"}
    assert plain["text"]
    assert text == f"{plain['text']}\n"


def test_the_openai_route_lists_the_models_that_are_here(open_service: Open) -> None:
    answer = run(open_service(), {"openai_route": "/v1/models", "openai_input": ""})
    assert [model["id"] for model in answer["data"]] == ["base"]


def test_a_fault_of_ours_by_the_openai_route_is_told_in_its_shape(
    open_service: Open, tmp_path: Path
) -> None:
    service = open_service(temp_dir=str(tmp_path / "lost"))
    answer = run(service, by_openai("/v1/audio/transcriptions", file=data_uri(1)))
    assert answer["error"]["type"] == "server_error"
    assert answer["error"]["code"] == "internal"
    assert "its log has the reason" in answer["error"]["message"]


# What is right


def test_an_answer_is_strict_json_with_no_error(open_service: Open) -> None:
    answer = run(open_service(), embedded(3, word_timestamps=True, transcription="srt"))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert "error" not in answer
    assert answer["duration"] == pytest.approx(3.0, abs=0.05)
    assert len(answer["word_timestamps"]) == 7
    assert answer["transcription"].startswith("1\n00:00:00,000 --> ")


def test_the_seconds_of_every_stage_are_told_and_none_is_negative(open_service: Open) -> None:
    timings = run(open_service(), embedded(40))["timings"]
    assert set(timings) == {"fetch", "decode", "vad", "features", "engine", "total"}
    assert all(0 <= timings[stage] <= timings["total"] for stage in timings)


def test_the_same_audio_is_answered_alike_however_it_arrives(
    open_service: Open, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    speech = clip("en-young-man").path
    data = speech.read_bytes()
    server.answers["/a.ogg"] = [whole(data, content_type="audio/ogg")]
    service = open_service(audio_roots=(str(speech.parent),))
    inputs: list[dict[str, Any]] = [
        {"audio_base64": base64.b64encode(data).decode()},
        {"audio": f"data:audio/ogg;base64,{base64.b64encode(data).decode()}"},
        {"audio": server.url("/a.ogg"), "audio_headers": {"X-Key": "sesame"}},
        {"audio_path": str(speech)},
    ]
    answers = [run(service, job_input) for job_input in inputs]
    assert answers[0]["segments"]
    assert [a["segments"] for a in answers] == [answers[0]["segments"]] * 4
    assert server.requests[0][1]["X-Key"] == "sesame"


def test_jobs_at_the_same_time_are_answered_as_each_alone(open_service: Open) -> None:
    inputs = [embedded(seconds, word_timestamps=True) for seconds in (2, 35, 70, 3)]
    alone = [run(open_service(), job_input)["segments"] for job_input in inputs]
    service = open_service()

    async def together() -> list[dict[str, Any]]:
        jobs_now = (jobs.run({"id": str(i), "input": x}, service) for i, x in enumerate(inputs))
        return await asyncio.gather(*jobs_now)

    assert [answer["segments"] for answer in asyncio.run(together())] == alone


def test_what_cannot_act_is_in_the_warnings(open_service: Open) -> None:
    answer = run(open_service(), embedded(beam_size=1, patience=2.0))
    assert answer["warnings"] == ["patience: only acts in beam search at temperature 0"]


def test_a_model_that_knows_only_english_says_what_it_cannot_do(
    open_service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = FakeEngine(model="tiny.en", multilingual=False)
    monkeypatch.setattr("sotto.engines.build", lambda *_: english)
    answer = run(open_service(), embedded(language="fr", translate=True))
    assert answer["model"] == "tiny.en"
    assert (answer["detected_language"], answer["language_probability"]) == ("en", 1.0)
    assert {segment["language"] for segment in answer["segments"]} == {"en"}
    assert answer["warnings"] == [
        "language: model 'tiny.en' knows only English",
        "translate: model 'tiny.en' cannot; the translation is the transcription",
    ]
    answer = run(open_service(), embedded(multilingual=True))
    assert answer["warnings"] == ["multilingual: model 'tiny.en' knows only English"]


@pytest.mark.parametrize(("model", "translates"), [("turbo", False), ("large-v3", True)])
def test_a_model_that_was_not_trained_to_translate_says_so(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, model: str, translates: bool
) -> None:
    monkeypatch.setattr("sotto.engines.build", lambda *_: FakeEngine(model=model))
    answer = run(open_service(), embedded(translate=True))
    told = f"translate: model '{model}' was not trained for it; expect the language spoken"
    assert answer["warnings"] == ([] if translates else [told])
    assert run(open_service(), embedded())["warnings"] == []


@pytest.mark.parametrize(
    ("count", "crowded"),
    [
        (222, []),
        (223, ["hotwords", "initial_prompt", "condition_on_previous_text"]),
        (400, ["hotwords", "initial_prompt", "condition_on_previous_text"]),
    ],
)
def test_hotwords_that_leave_no_room_for_a_prompt_say_so(
    open_service: Open, count: int, crowded: list[str]
) -> None:
    options = {"initial_prompt": "A talk.", "condition_on_previous_text": True}
    answer = run(open_service(), embedded(hotwords="word " * count, **options))
    assert [warning.split(":")[0] for warning in answer["warnings"]] == crowded


def test_without_timestamps_it_is_not_said_what_was_missed(open_service: Open) -> None:
    assert run(open_service(), embedded(without_timestamps=True))["uncovered_s"] is None
    assert run(open_service(), embedded())["uncovered_s"] == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "yue"}, "language: model 'tiny' does not know 'yue'"),
        (
            {"suppress_tokens": [-1, 6, 7]},
            "suppress_tokens: 7: the tokens of model 'tiny' are 0 to 6",
        ),
        (
            {"suppress_tokens": 2**31 - 1},
            "suppress_tokens: 2147483647: the tokens of model 'tiny' are 0 to 6",
        ),
    ],
)
def test_what_the_model_does_not_know_is_refused(
    open_service: Open, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    class Tiny(FakeEngine):
        def knows(self, language: str) -> bool:
            return language != "yue"

    monkeypatch.setattr("sotto.engines.build", lambda *_: Tiny(model="tiny", vocabulary=7))
    service = open_service()
    answer = run(service, embedded(**options))
    assert answer["error"].endswith(said)
    assert run(service, embedded(language="fr", suppress_tokens=[-1, 6]))["segments"]


@pytest.mark.model
def test_a_model_that_is_not_here_may_fall_back_on_the_baked_one(
    open_service: Open, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sotto.engines.build", lambda name, *_: FakeEngine(model=name))
    service = open_service(
        engine="whisper", weights_dir=str(weights), model_fallback="baked", model="base"
    )
    answer = run(service, embedded(model="large-v9"))
    assert answer["model"] == "base"
    assert answer["warnings"] == ["model: 'large-v9' is not on this worker; 'base' was used"]


def test_channels_that_are_split_are_answered_each_and_mixed_when_not(
    open_service: Open,
) -> None:
    stereo = {"audio_base64": wav_base64(3, channels=2), "enable_vad": False}
    split = run(open_service(), {**stereo, "channels": "split"})
    assert {one["channel"] for one in split["segments"]} == {0, 1}
    assert split["duration"] == pytest.approx(3.0, abs=0.05)
    assert all("channel" not in one for one in run(open_service(), stereo)["segments"])


def test_clips_leave_out_the_rest(open_service: Open) -> None:
    answer = run(open_service(), embedded(10, clip_timestamps=[2, 4]))
    assert answer["duration_after_vad"] == pytest.approx(2.0, abs=0.5)
    assert all(1.5 <= one["start"] <= one["end"] <= 4.5 for one in answer["segments"])


# The log


def test_the_log_says_how_jobs_went_and_nothing_of_what_they_hold(
    open_service: Open,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    caplog.set_level(logging.DEBUG)
    server.answers["/a.wav"] = [whole(base64.b64decode(wav_base64(3)))]
    service = open_service()
    secrets: dict[str, Any] = {
        "audio_headers": {"Authorization": "Bearer sesame-header"},
        "initial_prompt": "sesame-prompt",
        "enable_vad": False,
    }
    good = {"audio": server.url("/a.wav?signature=sesame-query"), **secrets}
    lost = {"audio": server.url("/lost.wav?signature=sesame-query"), **secrets}
    done = run(service, good, job_id="good-1")
    run(service, lost, job_id="lost-1")
    run(service, embedded(language="sesame-value"), job_id="wrong-1")
    said = "\n".join(record.getMessage() for record in caplog.records if "sotto" in record.name)
    told = r"^job good-1 done: 3\.0 s of audio in \d+\.\d\d s \((.+)\); cpu memory \d+ MB$"
    done_line = re.search(told, said, re.M)
    assert done_line is not None
    timings = dict(one.split() for one in done_line[1].split(", "))
    assert set(timings) == {"fetch", "decode", "vad", "features", "engine"}
    assert all(float(seconds) >= 0 for seconds in timings.values())
    assert "job good-1 begun" in said
    assert "job lost-1 failed: source_unreachable" in said
    assert "job wrong-1 failed: invalid_request" in said
    assert "sesame" not in said
    spoken = done["transcription"].split()
    assert len(spoken) == 7
    assert not set(spoken) & set(said.split())
