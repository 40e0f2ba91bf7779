"""OpenAI's audio API: a request in, the job it stands for out; the job's answer in, the API's out.

The platform hands what is sent to an endpoint's `/openai/v1/...` to the worker as `openai_route`
and `openai_input`.

Invariant: a field of that API acts or is refused by name, and its callers meet no name of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sotto.errors import (
    AudioError,
    EngineError,
    RequestError,
    SottoError,
    SourceError,
    UnknownModel,
)
from sotto.languages import LANGUAGES
from sotto.options import Options
from sotto.request import refuse_unknown, shown
from sotto.worker.failure import in_utf8

ROUTE, INPUT = "openai_route", "openai_input"
MODELS = "/v1/models"
TASKS = {"/v1/audio/transcriptions": "transcribe", "/v1/audio/translations": "translate"}
COMMON = ("file", "model", "prompt", "response_format", "temperature")
FIELDS = {"transcribe": (*COMMON, "language", "timestamp_granularities"), "translate": COMMON}
DEFAULT_MODEL = "whisper-1"
"""The API's only Whisper: it stands for the worker's own model."""
RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
OUR_NAMES = {"file": "audio", "prompt": "initial_prompt"}
THEIR_NAMES = {ours: theirs for theirs, ours in OUR_NAMES.items()}
SEGMENT = (
    "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio",
    "no_speech_prob",
)  # fmt: skip
"""What a segment has there, beside its number."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How one request wants its answer; the fields are those of the API."""

    task: str
    response_format: str
    granularities: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """The options of a job whose answer has all that this shape shows."""
        subtitles = self.response_format in ("srt", "vtt")
        text_format = self.response_format if subtitles else "plain_text"
        if self.task == "transcribe":
            return {"transcription": text_format, "word_timestamps": "word" in self.granularities}
        verbose = self.response_format == "verbose_json"
        return {"translate": True, "translation": "json" if verbose else text_format}

    def output(self, answer: Mapping[str, Any]) -> dict[str, Any] | str:
        """The body that the API answers with; `answer` is the job's, as plain JSON."""
        if self.response_format == "verbose_json":
            return self._verbose(answer)
        text: str = answer["transcription" if self.task == "transcribe" else "translation"]
        if self.response_format == "json":
            return {"text": text}
        return f"{text}\n" if self.response_format == "text" else text

    def _verbose(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        if self.task == "transcribe":
            language = LANGUAGES.get(answer["detected_language"], "unknown")
            text, segments = answer["transcription"], answer["segments"]
        else:
            language, segments = "english", json.loads(answer["translation"])["segments"]
            text = " ".join(segment["text"].strip() for segment in segments)
        body: dict[str, Any] = {
            "task": self.task,
            "language": language,
            "duration": answer["duration"],
            "text": text,
        }
        if "segment" in self.granularities:
            body["segments"] = [
                {"id": number, **{name: segment[name] for name in SEGMENT}}
                for number, segment in enumerate(segments)
            ]
        if "word" in self.granularities:
            body["words"] = [
                {"word": word["word"].strip(), "start": word["start"], "end": word["end"]}
                for word in answer["word_timestamps"]
            ]
        return body


def wanted(job_input: object) -> bool:
    """Has the job come by the OpenAI route?"""
    return isinstance(job_input, Mapping) and job_input.get(ROUTE) is not None


def lists_models(job_input: Mapping[str, Any]) -> bool:
    """Does a job that came by this route ask which models there are?"""
    return bool(job_input[ROUTE] == MODELS)


def models(names: Iterable[str]) -> dict[str, Any]:
    """The answer to that."""
    listed = [{"id": n, "object": "model", "created": 0, "owned_by": "sotto"} for n in names]
    return {"object": "list", "data": listed}


def as_job(job_input: Mapping[str, Any]) -> tuple[dict[str, Any], Shape]:
    """What a job that came by this route asks for, as `request.parse` takes it.

    With it the shape in which its answer is given. Raises RequestError with the API's names.
    """
    task = _task(job_input)
    asked = _asked(job_input, FIELDS[task])
    response_format = _response_format(asked)
    shape = Shape(task, response_format, _granularities(asked, response_format))
    options = {
        OUR_NAMES.get(field, field): asked[field]
        for field in ("model", "prompt", "temperature", "language")
        if field in asked
    }
    if options.get("model") == DEFAULT_MODEL:
        del options["model"]
    return {"audio": _file(asked), **options, **shape.options()}, shape


def failure(error: SottoError) -> dict[str, Any]:
    """What the caller sees of an error: the API's own object, which the SDK makes the job's error.

    The message is made safe for JSON, since it may quote what the caller sent.
    """
    message, param = str(error), None
    if isinstance(error, RequestError):
        param = THEIR_NAMES.get(error.field, error.field)
        message = f"{param}{message.removeprefix(error.field)}"
    elif isinstance(error, UnknownModel):
        param = "model"
    elif isinstance(error, SourceError | AudioError):
        param = "file"
    ours = error.retryable or isinstance(error, EngineError)
    return {
        "error": {
            "message": in_utf8(message),
            "type": "server_error" if ours else "invalid_request_error",
            "param": in_utf8(param) if param else None,
            "code": error.code,
        }
    }


def _task(job_input: Mapping[str, Any]) -> str:
    route = job_input[ROUTE]
    task = TASKS.get(route) if isinstance(route, str) else None
    if task is None:
        routes = ", ".join((*TASKS, MODELS))
        raise RequestError(ROUTE, f"{shown(route)}: no such route; there are {routes}")
    for name in job_input:
        if name in Options.__struct_fields__:
            raise RequestError(ROUTE, f"{name!r} does not go with it; fields stand in '{INPUT}'")
    return task


def _asked(job_input: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are given; `null` means that one is not."""
    body = job_input.get(INPUT)
    if not isinstance(body, Mapping):
        raise RequestError(INPUT, f"{shown(body)}: expected an object with the fields of the API")
    asked: dict[str, Any] = {}
    for name, value in body.items():
        # A form, which is what the API itself takes, has brackets behind the name of a list.
        field = "timestamp_granularities" if name == "timestamp_granularities[]" else name
        if value is None:
            continue
        if field in THEIR_NAMES:
            raise RequestError(THEIR_NAMES[field], f"is the name here for {field!r}")
        if field in asked:
            raise RequestError(field, "is given twice, with brackets and without")
        asked[field] = value
    refuse_unknown(asked, fields)
    return asked


def _file(asked: Mapping[str, Any]) -> str:
    file = asked.get("file")
    schemes = ("http://", "https://", "data:")
    if not isinstance(file, str) or not file.strip().lower().startswith(schemes):
        reason = "expected an http(s) URL or a data: URI; an endpoint with a queue takes no uploads"
        raise RequestError("file", reason)
    return file


def _response_format(asked: Mapping[str, Any]) -> str:
    name = asked.get("response_format", "json")
    if name not in RESPONSE_FORMATS:
        known = ", ".join(RESPONSE_FORMATS)
        raise RequestError("response_format", f"{shown(name)} is not a format; use {known}")
    return str(name)


def _granularities(asked: Mapping[str, Any], response_format: str) -> tuple[str, ...]:
    field = "timestamp_granularities"
    value = asked.get(field, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or any(name not in GRANULARITIES for name in names):
        known = " and ".join(map(repr, GRANULARITIES))
        raise RequestError(field, f"{shown(value)}: expected a list of {known}")
    if names and response_format != "verbose_json":
        raise RequestError(field, "goes with the response_format 'verbose_json' alone")
    return tuple(names) or ("segment",)
