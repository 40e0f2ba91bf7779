"""How the process reads its arguments, and how a result looks at the desk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.worker import serve
from sotto.worker.serve import FLAG, for_people, shown, with_test_input

JOB = '{"input": {"audio": "https://host.example/a.wav"}}'
FILED = '{"input": {"audio": "https://host.example/filed.wav"}}'
ON_PLATFORM = {"RUNPOD_WEBHOOK_GET_JOB": "https://queue.example/job"}


@pytest.fixture
def handler(tmp_path: Path) -> Path:
    """A handler in src/ with its test input one level up, as in the repository."""
    (tmp_path / "src").mkdir()
    (tmp_path / "test_input.json").write_text(FILED, encoding="utf-8")
    return tmp_path / "src" / "handler.py"


def rewritten(handler: Path, *args: str, **environ: str) -> list[str]:
    program, *rest = with_test_input(["handler.py", *args], handler, environ)
    assert program == "handler.py"
    return rest


def refusal(handler: Path, *args: str) -> str:
    with pytest.raises(serve.TestInputError) as caught:
        rewritten(handler, *args)
    return str(caught.value)


# Bad input


@pytest.mark.parametrize("args", [[], [FLAG], [FLAG, "--rp_log_level", "INFO"]])
def test_a_missing_file_is_told(tmp_path: Path, args: list[str]) -> None:
    told = refusal(tmp_path / "src" / "handler.py", *args)
    assert told == "test_input.json: not found beside handler.py or one level up"


@pytest.mark.parametrize("text", ["", "{", "{'input': {}}", '{"input": {}} x', "\x00", "nonsense"])
def test_what_is_not_json_is_told_by_its_source(handler: Path, text: str) -> None:
    assert refusal(handler, f"{FLAG}={text}").startswith("--test_input: not JSON: ")
    (handler.parents[1] / "test_input.json").write_text(text)
    assert refusal(handler).startswith("test_input.json: not JSON: ")


@pytest.mark.parametrize(
    "text", ["null", "[]", "1", "{}", '{"input": null}', '{"input": []}', '{"Input": {}}', '"x"']
)
def test_json_that_is_no_job_is_told_with_what_is_expected(handler: Path, text: str) -> None:
    assert refusal(handler, FLAG, text) == '--test_input: expected {"input": {…}}'


def test_a_file_that_is_not_text_is_told(handler: Path) -> None:
    (handler.parents[1] / "test_input.json").write_bytes(b"\xff\xfe{}")
    assert refusal(handler).startswith("test_input.json: not ")


def test_a_job_nested_too_deep_is_told(handler: Path) -> None:
    deep = "[" * 100_000
    assert refusal(handler, FLAG, deep).startswith("--test_input: not JSON: ")


# Which job


def test_without_arguments_the_job_is_the_one_in_the_file(handler: Path) -> None:
    assert rewritten(handler) == [FLAG, FILED]


def test_the_flag_alone_means_the_same(handler: Path) -> None:
    assert rewritten(handler, FLAG) == [FLAG, FILED]


def test_a_file_beside_the_handler_comes_first(handler: Path) -> None:
    (handler.parent / "test_input.json").write_text(JOB)
    assert rewritten(handler) == [FLAG, JOB]


@pytest.mark.parametrize("args", [[FLAG, JOB], [f"{FLAG}={JOB}"]])
def test_a_job_on_the_command_line_is_taken(handler: Path, args: list[str]) -> None:
    assert rewritten(handler, *args) == [FLAG, JOB]


def test_other_arguments_stay_where_they_are(handler: Path) -> None:
    assert rewritten(handler, "--rp_debugger", FLAG, JOB, "--rp_log_level", "WARN") == [
        "--rp_debugger",
        FLAG,
        JOB,
        "--rp_log_level",
        "WARN",
    ]
    assert rewritten(handler, FLAG, "--rp_debugger") == [FLAG, FILED, "--rp_debugger"]
    assert rewritten(handler, "--rp_debugger") == ["--rp_debugger", FLAG, FILED]


def test_a_flag_whose_name_only_begins_alike_is_another(handler: Path) -> None:
    assert rewritten(handler, "--test_inputs=x") == ["--test_inputs=x", FLAG, FILED]


@given(st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=3))
def test_any_job_arrives_as_it_was_written(job_input: dict[str, Any]) -> None:
    text = json.dumps({"input": job_input})
    assert rewritten(Path("/none/handler.py"), FLAG, text) == [FLAG, text]


# Where there is a queue or a server, no job is run of our own accord


def test_the_api_server_gets_no_job(tmp_path: Path) -> None:
    args = ["--rp_serve_api", "--rp_api_port", "9000"]
    assert rewritten(tmp_path / "handler.py", *args) == args


@pytest.mark.parametrize("environ", [ON_PLATFORM, {"RUNPOD_REALTIME_PORT": "8080"}])
def test_the_platform_gets_no_job(handler: Path, environ: dict[str, str]) -> None:
    assert rewritten(handler, **environ) == []


def test_a_job_given_on_the_platform_is_still_run(handler: Path) -> None:
    assert rewritten(handler, FLAG, JOB, **ON_PLATFORM) == [FLAG, JOB]


# What a person reads


def result(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "transcription": "Hello there.",
        "translation": None,
        "segments": [{"start": 0.0, "end": 1.5, "text": " Hello there."}],
        "detected_language": "en",
        "language_probability": 0.987,
        "duration": 2.04,
        "model": "base",
        "device": "cpu",
        "timings": {"total": 0.51},
        "warnings": [],
    }
    return made | changes


def test_a_result_is_text_times_and_a_line_of_facts() -> None:
    text = for_people(result())
    assert text.startswith("\nHello there.\n")
    assert "00:00.00 - 00:01.50  Hello there.\n" in text
    assert text.endswith("2.0 s of audio, language en (99%), model base on cpu, 0.5 s\n")


def test_an_error_is_not_shown_twice() -> None:
    assert shown({"error": "invalid_request: x", "code": "invalid_request"}) == ""


def test_an_answer_is_shown_as_people_read_it() -> None:
    assert shown(result()) == for_people(result())


def test_a_text_is_shown_as_it_is_even_if_it_speaks_of_an_error() -> None:
    assert shown("There was an error.\n") == "\nThere was an error.\n\n"


def test_any_other_answer_is_shown_as_json() -> None:
    summary = {"result_url": "https://store.example/1.json", "warnings": ["é"]}
    assert json.loads(shown(summary)) == summary
    assert "é" in shown(summary)


def test_silence_is_said_and_no_language_claimed() -> None:
    nothing = result(
        transcription="", segments=[], detected_language=None, language_probability=0.0
    )
    text = for_people(nothing)
    assert "(no speech)" in text
    assert "None" not in text


def test_a_translation_and_warnings_are_shown() -> None:
    text = for_people(result(translation="Hi.", warnings=["best_of: idle", "x: y"]))
    assert "\nIn English: Hi.\n" in text
    assert text.endswith("warning: best_of: idle\nwarning: x: y\n")


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [(0, "00:00.00"), (59.994, "00:59.99"), (59.999, "01:00.00"), (3599.996, "60:00.00"),
     (36000, "600:00.00")],
)  # fmt: skip
def test_a_time_reads_as_minutes_and_seconds(seconds: float, clock: str) -> None:
    shown = for_people(result(segments=[{"start": seconds, "end": 10**6, "text": " x"}]))
    assert f"  {clock} - " in shown
