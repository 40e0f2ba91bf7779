"""The OpenAI route: that API's requests are taken or refused in its own words, and answered so."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.speech_data import clip

from sotto.answer import answer, as_json
from sotto.audio.source import EmbeddedAudio, UrlAudio
from sotto.errors import RequestError, SottoError
from sotto.pipeline import transcribe
from sotto.request import Request, parse
from sotto.settings import Settings
from sotto.worker import openai
from sotto.workshop import Workshop

URL = "https://host.example/a.wav"
TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
OUR_NAMES = ("audio_base64", "audio_path", "initial_prompt", "'transcription'", "'translation'")


def asked(route: object = TRANSCRIPTIONS, **fields: Any) -> Request:
    """A request of that API, with a file unless one is given, as the job that it becomes."""
    body = {"file": URL, **fields}
    native, _ = openai.as_job({"openai_route": route, "openai_input": body})
    return parse(native)


def refusal(job_input: dict[str, Any]) -> dict[str, Any]:
    """The error object of a job that is refused before any work."""
    with pytest.raises(RequestError) as caught:
        parse(openai.as_job(job_input)[0])
    return told(caught.value)


def refused(route: object = TRANSCRIPTIONS, **fields: Any) -> dict[str, Any]:
    return refusal({"openai_route": route, "openai_input": {"file": URL, **fields}})


def told(error: SottoError) -> dict[str, Any]:
    """The error object for `error`, once it has that API's shape and JSON can carry it."""
    failure = openai.failure(error)
    assert list(failure) == ["error"]
    shown: dict[str, Any] = failure["error"]
    assert set(shown) == {"message", "type", "param", "code"}
    assert json.dumps(failure, allow_nan=False, ensure_ascii=False).encode()
    assert not any(name in shown["message"] for name in OUR_NAMES)
    return shown


def outcome(job_input: dict[str, Any]) -> Request | RequestError:
    """Whatever else is raised fails the test."""
    try:
        return parse(openai.as_job(job_input)[0])
    except RequestError as error:
        return error


def data_uri(data: bytes) -> str:
    return f"data:audio/ogg;base64,{base64.b64encode(data).decode()}"


def silence() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(64_000))
    return file.getvalue()


SPEECH = data_uri(clip("en-young-man").path.read_bytes())


def answered(route: str = TRANSCRIPTIONS, **fields: Any) -> Any:
    """The body with which a request is answered, the fake engine's words in it."""
    job_input = {"openai_route": route, "openai_input": {"file": SPEECH, **fields}}
    native, shape = openai.as_job(job_input)

    async def output() -> dict[str, Any]:
        workshop = Workshop(Settings(engine="fake"))
        try:
            request = parse(native)
            async with (
                workshop.open(request) as (tools, transcript),
                aclosing(transcribe(request, tools, transcript)) as segments,
            ):
                async for _ in segments:
                    pass
            return as_json(answer(request, transcript, model="base", device="cpu"))
        finally:
            workshop.close()

    return shape.output(asyncio.run(output()))


# Not by this route


@pytest.mark.parametrize(
    "job_input",
    [None, [], "openai_route", {}, {"audio": URL}, {"openai_route": None}, {"openai_input": {}}],
)
def test_a_job_without_the_route_is_none_of_these(job_input: object) -> None:
    assert not openai.wanted(job_input)


@pytest.mark.parametrize("route", ["/v1/models", TRANSCRIPTIONS, "", 0, False, [], "nonsense"])
def test_a_job_with_a_route_is_one_of_these_even_if_it_is_wrong(route: object) -> None:
    assert openai.wanted({"openai_route": route})


# Refused


@pytest.mark.parametrize(
    "route",
    ["", "/v1/chat/completions", "/v1/audio/speech", "audio", 0, True, [], {}, "\ud800", "x" * 999],
)
def test_an_unknown_route_is_refused_with_those_there_are(route: object) -> None:
    error = refused(route)
    assert error["param"] == "openai_route"
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_request"
    assert f"there are {TRANSCRIPTIONS}, {TRANSLATIONS}, /v1/models" in error["message"]
    assert len(error["message"]) < 250


@pytest.mark.parametrize("body", [None, [], "", "file=a", 0, True, [{"file": URL}]])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    error = refusal({"openai_route": TRANSCRIPTIONS, "openai_input": body})
    assert error["param"] == "openai_input"
    assert error["message"].endswith("expected an object with the fields of the API")


def test_a_missing_body_is_refused() -> None:
    assert refusal({"openai_route": TRANSCRIPTIONS})["param"] == "openai_input"


@pytest.mark.parametrize(
    "file",
    [
        None,
        "",
        " ",
        "a.wav",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://host.example/a.wav",
        "s3://bucket/a",
        "UklGRg==",
        "sesame" * 10**5,
        5,
        True,
        [],
        [URL],
        {"url": URL},
    ],
)
def test_a_file_that_is_no_address_is_refused_and_not_repeated(file: object) -> None:
    error = refused(file=file)
    assert error["param"] == "file"
    assert error["message"] == (
        "file: expected an http(s) URL or a data: URI; an endpoint with a queue takes no uploads"
    )


def test_a_missing_file_is_refused() -> None:
    job_input = {"openai_route": TRANSCRIPTIONS, "openai_input": {}}
    assert refusal(job_input)["param"] == "file"


@pytest.mark.parametrize("route", [TRANSCRIPTIONS, TRANSLATIONS])
@pytest.mark.parametrize("field", ["beam_size", "hotwords", "stream", "include", "n", "", "[]"])
def test_a_field_that_the_api_has_not_is_refused_by_its_name(route: str, field: str) -> None:
    error = refused(route, **{field: 1})
    assert error["param"].strip("'") == field
    assert "no such option; " in error["message"]


@pytest.mark.parametrize(("ours", "theirs"), [("audio", "file"), ("initial_prompt", "prompt")])
def test_a_name_of_ours_is_refused_with_that_of_the_api(ours: str, theirs: str) -> None:
    job_input = {"openai_route": TRANSCRIPTIONS, "openai_input": {ours: URL}}
    with pytest.raises(RequestError) as caught:
        openai.as_job(job_input)
    error = openai.failure(caught.value)["error"]
    assert (error["param"], error["message"]) == (
        theirs,
        f"{theirs}: is the name here for {ours!r}",
    )


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("promt", "prompt"), ("responseFormat", "response_format"), ("FILE", "file")],
)
def test_a_misspelt_field_is_refused_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    message = f"{wrong}: no such option; did you mean '{meant}'?"
    assert refused(**{wrong: "x"})["message"] == message


@pytest.mark.parametrize("field", ["language", "timestamp_granularities"])
def test_a_translation_has_fewer_fields(field: str) -> None:
    assert refused(TRANSLATIONS, **{field: "en"})["param"] == field


@pytest.mark.parametrize("field", ["audio", "language", "upload_url", "stream"])
def test_an_option_of_ours_beside_the_route_is_refused(field: str) -> None:
    job_input = {"openai_route": TRANSCRIPTIONS, "openai_input": {"file": URL}, field: "x"}
    assert refusal(job_input)["message"] == (
        f"openai_route: {field!r} does not go with it; fields stand in 'openai_input'"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "data:"),
        ("file", "data:audio/wav;base64,!!!!"),
        ("file", "data:audio/wav;base64,"),
        ("model", 5),
        ("model", ["whisper-1"]),
        ("language", "english"),
        ("language", 5),
        ("prompt", 5),
        ("prompt", {"text": "x"}),
        ("temperature", 2),
        ("temperature", -0.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("temperature", float("nan")),
        ("temperature", 10**400),
        ("response_format", "diarized_json"),
        ("response_format", "JSON"),
        ("response_format", ""),
        ("response_format", 5),
        ("response_format", ["json"]),
        ("timestamp_granularities", "words"),
        ("timestamp_granularities", ["word", "character"]),
        ("timestamp_granularities", [["word"]]),
        ("timestamp_granularities", {"word": True}),
        ("timestamp_granularities", 5),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_that_the_api_has_for_it(
    field: str, value: object
) -> None:
    verbose = {} if field == "response_format" else {"response_format": "verbose_json"}
    error = refused(**{**verbose, field: value})
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{field}: ")


def test_a_refused_value_is_shown_with_what_is_allowed() -> None:
    assert refused(response_format="xml")["message"] == (
        "response_format: 'xml' is not a format; use json, text, srt, vtt, verbose_json"
    )
    assert refused(language="english")["message"] == (
        "language: 'english' is not a Whisper language code; did you mean 'en'?"
    )
    assert refused(prompt=5)["message"].startswith("prompt: 5: expected str")


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt"])
@pytest.mark.parametrize("names", ["word", ["segment"], ["word", "segment"]])
def test_granularities_are_refused_where_the_answer_has_none(
    response_format: str, names: object
) -> None:
    error = refused(response_format=response_format, timestamp_granularities=names)
    assert error["param"] == "timestamp_granularities"
    assert "goes with the response_format 'verbose_json' alone" in error["message"]


def test_granularities_with_brackets_and_without_are_refused() -> None:
    error = refused(
        response_format="verbose_json",
        **{"timestamp_granularities": ["word"], "timestamp_granularities[]": ["word"]},
    )
    assert error["message"].endswith("is given twice, with brackets and without")


any_text = st.text(st.characters(exclude_categories=()), max_size=12).filter(
    # What the caller says may be repeated to him.
    lambda text: not any(name in repr(text) for name in OUR_NAMES)
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
bodies = st.dictionaries(
    st.sampled_from([*openai.FIELDS["transcribe"], "timestamp_granularities[]"]) | any_text,
    st.sampled_from([URL, "verbose_json", "word", ["word"], "en", "whisper-1", 0]) | any_json,
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([TRANSCRIPTIONS, TRANSLATIONS]) | any_json, bodies | any_json)
def test_any_json_is_a_request_or_an_error_of_the_apis_own(route: Any, body: Any) -> None:
    said = outcome({"openai_route": route, "openai_input": body})
    if isinstance(said, RequestError):
        assert told(said)["param"]
    else:
        assert isinstance(said.audio, UrlAudio | EmbeddedAudio)


# Failures after the request


def every_error(group: type[SottoError]) -> Iterator[SottoError]:
    if group.code:
        yield group("file", "reason") if group.code == "invalid_request" else group("reason")
    for kind in group.__subclasses__():
        yield from every_error(kind)


@pytest.mark.parametrize("error", list(every_error(SottoError)), ids=lambda error: error.code)
def test_every_error_has_the_shape_of_the_api_and_our_code(error: SottoError) -> None:
    shown = told(error)
    assert shown["code"] == error.code
    assert shown["message"] == str(error)
    assert shown["type"] in {"invalid_request_error", "server_error"}
    if error.retryable:
        assert shown["type"] == "server_error"


@pytest.mark.parametrize(
    ("code", "kind", "param"),
    [
        ("unknown_model", "invalid_request_error", "model"),
        ("source_forbidden", "invalid_request_error", "file"),
        ("source_timeout", "server_error", "file"),
        ("audio_undecodable", "invalid_request_error", "file"),
        ("out_of_memory", "server_error", None),
        ("result_too_large", "invalid_request_error", None),
        ("timeout", "server_error", None),
        ("internal", "server_error", None),
    ],
)
def test_an_error_says_whose_it_is(code: str, kind: str, param: str | None) -> None:
    (error,) = (error for error in every_error(SottoError) if error.code == code)
    assert (told(error)["type"], told(error)["param"]) == (kind, param)


def test_what_an_error_quotes_can_be_sent() -> None:
    error = told(RequestError("\ud800", "'\udfff' is wrong"))
    assert (error["param"], error["message"]) == ("?", "?: '?' is wrong")


# Taken


@pytest.mark.parametrize("route", [TRANSCRIPTIONS, TRANSLATIONS])
def test_the_file_is_an_address_or_stands_in_the_request(route: str) -> None:
    assert asked(route).audio == UrlAudio(URL)
    assert asked(route, file=f" {URL}\n").audio == UrlAudio(URL)
    assert asked(route, file=data_uri(b"RIFF")).audio == EmbeddedAudio(b"RIFF")


@pytest.mark.parametrize(
    ("model", "served"), [("whisper-1", None), (None, None), ("large-v3", "large-v3")]
)
def test_the_apis_own_whisper_is_the_workers_own_model(
    model: str | None, served: str | None
) -> None:
    assert asked(model=model).options.model == served


def test_the_fields_act_as_the_options_that_they_stand_for() -> None:
    options = asked(prompt="Mr. Dashwood", language="es", temperature=0.5).options
    assert options.initial_prompt == "Mr. Dashwood"
    assert (options.language, options.temperature) == ("es", 0.5)


@pytest.mark.parametrize(
    "field", [*openai.FIELDS["transcribe"][1:], "timestamp_granularities[]", "stream"]
)
def test_null_means_not_given(field: str) -> None:
    assert asked(**{field: None}) == asked()


def test_an_empty_list_of_granularities_means_not_given() -> None:
    assert asked(timestamp_granularities=[]) == asked()


def test_words_are_timed_only_where_they_are_shown() -> None:
    verbose = {"response_format": "verbose_json"}
    assert not asked(**verbose).options.word_timestamps
    assert asked(**verbose, timestamp_granularities=["word"]).options.word_timestamps


def test_the_given_job_is_not_changed() -> None:
    job_input = {
        "openai_route": TRANSCRIPTIONS,
        "openai_input": {"file": URL, "timestamp_granularities[]": [], "prompt": None},
    }
    copy = json.loads(json.dumps(job_input))
    openai.as_job(job_input)
    assert job_input == copy


# Answered


def test_without_a_format_the_answer_is_the_text_in_json() -> None:
    body = answered()
    assert list(body) == ["text"]
    assert len(body["text"].split()) > 3
    assert body == answered(response_format="json")


def test_text_is_the_text_alone() -> None:
    assert answered(response_format="text") == answered()["text"] + "\n"


def test_subtitles_can_be_read_and_have_the_text() -> None:
    text = answered()["text"].split()
    cues = list(srt.parse(answered(response_format="srt")))
    captions = webvtt.from_string(answered(response_format="vtt")).captions
    assert " ".join(cue.content for cue in cues).split() == text
    assert " ".join(caption.text for caption in captions).split() == text


def test_a_verbose_answer_has_segments_numbered_from_0() -> None:
    body = answered(response_format="verbose_json")
    assert list(body) == ["task", "language", "duration", "text", "segments"]
    assert (body["task"], body["language"]) == ("transcribe", "english")
    assert body["duration"] > 1
    assert body["text"] == answered()["text"]
    assert [segment["id"] for segment in body["segments"]] == list(range(len(body["segments"])))
    assert "".join(segment["text"] for segment in body["segments"]).split() == body["text"].split()
    assert all(set(segment) == {"id", *openai.SEGMENT} for segment in body["segments"])


@pytest.mark.parametrize("field", ["timestamp_granularities", "timestamp_granularities[]"])
@pytest.mark.parametrize("names", ["word", ["word"], ["word", "segment"], ["segment"]])
def test_a_verbose_answer_has_the_granularities_asked_for(field: str, names: Any) -> None:
    body = answered(response_format="verbose_json", **{field: names})
    assert ("words" in body) is ("word" in names)
    assert ("segments" in body) is ("segment" in names)


def test_words_are_those_of_the_text_in_their_order() -> None:
    body = answered(response_format="verbose_json", timestamp_granularities=["word"])
    assert [word["word"] for word in body["words"]] == body["text"].split()
    assert all(set(word) == {"word", "start", "end"} for word in body["words"])
    edges = [edge for word in body["words"] for edge in (word["start"], word["end"])]
    assert edges == sorted(edges)
    assert edges[-1] <= body["duration"]


def test_a_translation_is_answered_in_english_alone() -> None:
    text = answered()["text"].upper()
    assert answered(TRANSLATIONS) == {"text": text}
    assert answered(TRANSLATIONS, response_format="text") == f"{text}\n"
    cues = srt.parse(answered(TRANSLATIONS, response_format="srt"))
    assert " ".join(cue.content for cue in cues).split() == text.split()
    body = answered(TRANSLATIONS, response_format="verbose_json")
    assert (body["task"], body["language"], body["text"]) == ("translate", "english", text)
    assert " ".join(segment["text"].strip() for segment in body["segments"]) == text
    assert "words" not in body


@pytest.mark.parametrize("route", [TRANSCRIPTIONS, TRANSLATIONS])
def test_silence_is_answered_with_no_text_in_every_format(route: str) -> None:
    file = data_uri(silence())
    assert answered(route, file=file) == {"text": ""}
    assert answered(route, file=file, response_format="text") == "\n"
    assert answered(route, file=file, response_format="srt") == ""
    assert answered(route, file=file, response_format="vtt") == "WEBVTT\n"
    body = answered(route, file=file, response_format="verbose_json")
    assert (body["text"], body["segments"]) == ("", [])
    assert body["duration"] == pytest.approx(2, abs=0.1)
    assert isinstance(body["language"], str)


def test_an_answer_is_strict_json() -> None:
    body = answered(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert json.loads(json.dumps(body, allow_nan=False)) == body


# Models


def test_the_models_that_are_here_are_listed() -> None:
    assert openai.lists_models({"openai_route": "/v1/models"})
    assert openai.models(["base", "tiny.en"]) == {
        "object": "list",
        "data": [
            {"id": "base", "object": "model", "created": 0, "owned_by": "sotto"},
            {"id": "tiny.en", "object": "model", "created": 0, "owned_by": "sotto"},
        ],
    }


@pytest.mark.parametrize("route", [TRANSCRIPTIONS, "/v1/model", "", [], 0])
def test_no_other_route_lists_models(route: object) -> None:
    assert not openai.lists_models({"openai_route": route})
