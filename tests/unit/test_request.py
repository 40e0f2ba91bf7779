"""What a job may ask for: everything wrong is refused by name, everything right acts."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotto.audio.source import EmbeddedAudio, PathAudio, UrlAudio
from sotto.errors import RequestError
from sotto.languages import LANGUAGES
from sotto.options import Options, VadParameters
from sotto.request import Request, parse
from sotto.transcript.formats import FORMATS
from sotto.transcript.lines import Lines

URL = "https://host.example/a.wav"
SOUND = b"RIFF\x00\xff\xfe and so on"
SOUND_BASE64 = base64.b64encode(SOUND).decode()
AUDIO = ("audio", "audio_base64", "audio_path")
FIELDS = Options.__struct_fields__
VAD_FIELDS = VadParameters.__struct_fields__
NUMBERS = tuple(f for f in FIELDS if isinstance(getattr(Options(), f), int | float))
FLAGS = tuple(f for f in FIELDS if isinstance(getattr(Options(), f), bool))
THRESHOLDS = {"compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"}


def asked(**options: Any) -> Request:
    return parse({"audio": URL, **options})


def refusal(job_input: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(job_input)
    return caught.value


def refused(**options: Any) -> RequestError:
    return refusal({**({} if set(options) & set(AUDIO) else {"audio": URL}), **options})


def outcome(job_input: object) -> Request | RequestError:
    """Whatever else `parse` raises fails the test."""
    try:
        return parse(job_input)
    except RequestError as error:
        return error


# Not an object


@pytest.mark.parametrize(
    ("job_input", "kind"),
    [
        (None, "null"),
        ([], "array"),
        ([{"audio": URL}], "array"),
        ("audio", "string"),
        (URL, "string"),
        (0, "int"),
        (True, "bool"),
        (1.5, "float"),
    ],
)
def test_an_input_that_is_no_object_is_refused(job_input: object, kind: str) -> None:
    error = refusal(job_input)
    assert (error.field, str(error)) == ("input", f"input: expected an object, got {kind}")


# Unknown options


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("langauge", "language"),
        ("LANGUAGE", "language"),
        ("beamSize", "beam_size"),
        ("audio_url", "audio"),
        ("word-timestamps", "word_timestamps"),
        ("vad_params", "vad_parameters"),
        ("audio_base_64", "audio_base64"),
    ],
)
def test_an_unknown_option_is_refused_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    error = refused(**{wrong: 1})
    assert str(error) == f"{error.field}: no such option; did you mean '{meant}'?"
    assert error.field.strip("'") == wrong


@pytest.mark.parametrize(
    "wrong", ["", " ", "__class__", "__struct_fields__", "x" * 10**6, "\ud800"]
)
def test_an_unknown_option_like_no_other_is_refused_with_all_there_are(wrong: str) -> None:
    error = refused(**{wrong: 1})
    assert str(error).endswith(f"no such option; options are {', '.join(FIELDS)}")
    assert 0 < len(error.field) <= 80
    assert error.field.isprintable()


def test_the_field_of_an_unknown_option_is_its_name() -> None:
    assert refused(langauge="en").field == "langauge"
    assert refused(vad_parameters={"treshold": 1}).field == "vad_parameters.treshold"


def test_an_unknown_option_is_refused_even_when_null_inside_vad_parameters() -> None:
    assert refused(vad_parameters={"treshold": None}).field == "vad_parameters.treshold"


# Wrong types, for every option there is


def wrong_values(default: object) -> list[object]:
    """Values whose type can be right for no option with such a default."""
    wrong: list[object] = [[[]], {"a": {"b": 1}}, [None], ["\x00"]]
    if not isinstance(default, bool):
        wrong += [True, False]
    if isinstance(default, int | float):
        wrong += ["1", "", "true", [1], {}, math.nan, b"1"]
    elif isinstance(default, str) or default is None:
        wrong += [1.5, b"x", math.nan]
    else:
        wrong += [0, 1.5, "x", "", [], [1], math.inf]
    return wrong


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_option(field: str) -> None:
    for value in wrong_values(getattr(Options(), field)):
        error = refused(**{field: value})
        assert error.field.split(".")[0].split("[")[0] == field, value
        assert str(error).startswith(f"{error.field}: ")


@pytest.mark.parametrize("field", VAD_FIELDS)
def test_a_vad_parameter_of_the_wrong_type_is_refused_by_its_full_name(field: str) -> None:
    for value in ("0.5", "", True, [], {}, [0.5], math.nan, b"1", 10**400, -1, -(10**400)):
        assert refused(vad_parameters={field: value}).field == f"vad_parameters.{field}", value


@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_that_no_decoder_can_use_is_refused(field: str) -> None:
    for number in (math.nan, 10**400, -(10**400)):
        assert refused(**{field: number}).field == field
    for number in (math.inf, -math.inf, 1e308, -1e308, 2**63, 2**64, -(2**63)):
        if field in THRESHOLDS:  # infinity means never or always
            assert getattr(asked(**{field: number}).options, field) == number
        else:
            assert refused(**{field: number}).field == field


def test_a_refused_value_is_shown_with_what_is_allowed() -> None:
    assert str(refused(beam_size=0)) == "beam_size: 0: expected int >= 1"
    assert str(refused(beam_size="5")) == "beam_size: '5': expected int"
    assert str(refused(temperature=1.5)) == "temperature: 1.5: expected float <= 1.0"
    assert str(refused(vad_parameters={"speech_pad_ms": 401})) == (
        "vad_parameters.speech_pad_ms: 401: expected int <= 400"
    )


@pytest.mark.parametrize("field", [f for f in FIELDS if f not in AUDIO])
def test_a_huge_value_is_not_repeated_in_full(field: str) -> None:
    for value in ("x" * 10**6, ["x" * 10**6], {"x" * 10**6: 1}, [1.5] * 10**5):
        said = outcome({"audio": URL, field: value})
        assert isinstance(said, Request) or len(str(said)) < 1500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clip_timestamps", ["\ud800"]),
        ("suppress_tokens", ["\ud800"]),
        ("vad_parameters", {"threshold": "\ud800"}),
        ("temperature", [0, "\ud800"]),
        ("channels", ["\ud800"]),
    ],
)
def test_half_a_character_within_a_value_is_refused(field: str, value: object) -> None:
    error = refused(**{field: value})
    assert error.field.split(".")[0].split("[")[0] == field
    assert str(error).isascii()


@pytest.mark.parametrize("field", ["audio_path", "initial_prompt", "hotwords", "language"])
def test_a_text_with_half_a_character_is_refused(field: str) -> None:
    error = refused(**{field: "caf\udce9"})
    assert error.field == field
    assert str(error).endswith("expected whole characters, not half of one")
    assert str(error).isascii()


@pytest.mark.parametrize(
    "given",
    [
        {"audio_headers": {"Authorization": "SECRET", "X": 1}},
        {"audio_headers": "SECRET"},
        {"audio_headers": {"SECRET": ["SECRET"]}},
        {"audio": ["https://host/a?sig=SECRET"]},
        {"audio": "https://host/a?sig=SECRET\ud800"},
        {"audio_base64": ["SECRET"]},
        {"upload_url": {"url": "https://host/a?sig=SECRET"}},
        {"upload_url": "https://host/a?sig=SECRET\ud800"},
        {"upload_url": URL, "upload_headers": {"Authorization": ["SECRET"]}},
    ],
)
def test_what_may_be_a_secret_is_not_repeated(given: dict[str, Any]) -> None:
    error = refused(**given)
    assert "SECRET" not in str(error)
    assert error.field.split("[")[0] in given


@pytest.mark.parametrize("wrong", [{"x" * 5_000_000: 1}, {"language": "x" * 5_000_000}])
def test_an_endless_name_is_not_repeated_in_full(wrong: dict[str, Any]) -> None:
    assert len(str(refused(**wrong))) < 2000


def test_a_value_nested_as_deep_as_json_allows_is_refused() -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    for field in FIELDS:
        assert refused(**{field: deep}).field.split("[")[0] == field


# null


@pytest.mark.parametrize("field", [f for f in FIELDS if f != "audio"])
def test_null_means_not_given(field: str) -> None:
    assert asked(**{field: None}) == asked()


@pytest.mark.parametrize("field", VAD_FIELDS)
def test_null_means_not_given_among_the_vad_parameters(field: str) -> None:
    assert asked(vad_parameters={field: None}) == asked()


def test_a_null_that_is_unknown_is_no_error_since_it_is_not_given() -> None:
    assert asked(langauge=None) == asked()


def test_all_options_may_be_null_but_for_the_audio() -> None:
    assert refusal(dict.fromkeys(FIELDS)).field == "audio"


# Which audio


@pytest.mark.parametrize(
    ("given_audio", "found"),
    [
        ({}, "none is given"),
        ({"audio": None, "audio_base64": None}, "none is given"),
        ({"audio": URL, "audio_base64": SOUND_BASE64}, "audio and audio_base64 are given"),
        ({"audio_base64": SOUND_BASE64, "audio_path": "/a"}, "audio_base64 and audio_path are"),
        (
            {"audio": URL, "audio_base64": SOUND_BASE64, "audio_path": "/a"},
            "audio and audio_base64 and audio_path are given",
        ),
        ({"audio": "", "audio_base64": ""}, "audio and audio_base64 are given"),
    ],
)
def test_exactly_one_audio_is_wanted(given_audio: dict[str, Any], found: str) -> None:
    error = refusal(given_audio)
    assert error.field == "audio"
    assert f"give exactly one of audio, audio_base64, audio_path; {found}" in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "   ",
        "a.wav",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://host.example/a.wav",
        "s3://bucket/a.wav",
        "//host.example/a.wav",
        "https:/host.example/a.wav",
        "concat:https://host.example/a.wav",
        "\x00https://host.example",
        SOUND_BASE64,
        "A" * 10**6,
    ],
)
def test_an_audio_that_is_no_address_is_refused_with_the_fields_for_other_kinds(
    address: str,
) -> None:
    error = refusal({"audio": address})
    assert error.field == "audio"
    assert "base64 goes into 'audio_base64', a file on a volume into 'audio_path'" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize("field", ["audio", "audio_base64"])
@pytest.mark.parametrize("text", ["data:", "data:audio/wav;base64,", "data:audio/wav;base64,!!!!"])
def test_a_broken_data_uri_is_refused_by_its_field(field: str, text: str) -> None:
    assert refusal({field: text}).field == field


@pytest.mark.parametrize("text", ["", " \n", "!", "AAA=A", "A", "AAAA\x00", "é"])
def test_broken_base64_is_refused(text: str) -> None:
    assert refusal({"audio_base64": text}).field == "audio_base64"


def test_broken_base64_is_refused_with_the_position() -> None:
    error = refusal({"audio_base64": SOUND_BASE64[:8] + "*" + SOUND_BASE64[8:]})
    assert str(error) == "audio_base64: not base64: character '*' at position 8"


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "https:///a.wav",
        "http://?sig=SECRET",
        "https://#a",
        "https://:443/a.wav",
        "https://anna:SECRET@/a.wav",
        "https://[::1",
        "https://[::1/a.wav?sig=SECRET",
        "http:// /a.wav",
        "https://host example/a.wav",
        "https://host\x00.example/a.wav",
        "https://host.example:99999/a.wav",
        "https://host.example:http/a.wav",
    ],
)
def test_an_address_that_can_never_work_is_refused_and_not_repeated(address: str) -> None:
    error = refused(audio=address)
    assert str(error) == "audio: expected an http(s) URL with a host, and a port up to 65535 if any"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/a.wav",
        "http://localhost:8000",
        "https://no-such-host.invalid/a.wav",
        "https://anna:two words@host.example/a b\xa0c.wav?d=e f#g",
        "https://münchen.example/ä.wav",
        "https://[2001:db8::1]:443/a.wav",
    ],
)
def test_where_an_address_leads_is_not_judged_by_its_form(address: str) -> None:
    assert asked(audio=address).audio == UrlAudio(address)


@pytest.mark.parametrize("url", [URL, f"  {URL}\n", "HTTP://HOST.example/a", "https://[::1]:80/x"])
def test_an_address_is_taken_as_it_is_without_space_around_it(url: str) -> None:
    assert parse({"audio": url}).audio == UrlAudio(url.strip(), ())


@pytest.mark.parametrize(
    "job_input",
    [
        {"audio_base64": SOUND_BASE64},
        {"audio_base64": f"data:audio/wav;base64,{SOUND_BASE64}"},
        {"audio": f"data:audio/wav;base64,{SOUND_BASE64}"},
        {"audio": f" DATA:;base64,{SOUND_BASE64}"},
        {"audio_base64": base64.urlsafe_b64encode(SOUND).decode().rstrip("=")},
        {"audio_base64": "\r\n".join(SOUND_BASE64[i : i + 5] for i in range(0, 99, 5))},
    ],
)
def test_audio_inside_the_job_is_decoded(job_input: dict[str, Any]) -> None:
    assert parse(job_input).audio == EmbeddedAudio(SOUND)


def test_a_path_is_left_for_the_worker_to_judge() -> None:
    assert parse({"audio_path": "../a b.wav"}).audio == PathAudio("../a b.wav")


def test_audio_is_not_shown_when_a_request_is() -> None:
    secret = UrlAudio(f"{URL}?signature=sesame", (("Authorization", "sesame"),))
    assert "sesame" not in repr(secret)
    assert "RIFF" not in repr(EmbeddedAudio(SOUND))


# Headers for the address


@pytest.mark.parametrize(
    "headers",
    [
        {"Bad Name": "x"},
        {"": "x"},
        {"X-A\r\nX-B": "x"},
        {"X-A": "x\r\nX-B: y"},
        {"X-A": "\x00"},
        {"X-A": "日本"},
        {"Host": "internal"},
        {"range": "bytes=0-1"},
        {"Content-Length": "0"},
        {"X-A": 1},
        {"X-A": None},
        {"X-A": ["x"]},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, Any]) -> None:
    assert refused(audio_headers=headers).field.split("[")[0] == "audio_headers"


@pytest.mark.parametrize(
    "source",
    [
        {"audio_base64": SOUND_BASE64},
        {"audio_path": "/a"},
        {"audio": f"data:audio/wav;base64,{SOUND_BASE64}"},
        {"audio": f"DATA:;base64,{SOUND_BASE64}"},
    ],
)
def test_headers_without_an_address_are_refused(source: dict[str, Any]) -> None:
    error = refusal({**source, "audio_headers": {"X-A": "b"}})
    assert str(error) == "audio_headers: goes with a URL in 'audio'; there is none"


def test_headers_go_with_the_address() -> None:
    headers = {"Authorization": "Bearer x", "X-Empty": ""}
    assert asked(audio_headers=headers).audio == UrlAudio(URL, tuple(headers.items()))


# Language and formats


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_taken_in_any_case(code: str) -> None:
    assert asked(language=f" {code.upper()}\n").options.language == code


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_language_means_that_it_is_detected(empty: str) -> None:
    assert asked(language=empty).options.language is None


@pytest.mark.parametrize(
    ("wrong", "meant"), [("english", "en"), ("en-GB", "en"), ("spanisch", "es"), ("Chinese", "zh")]
)
def test_a_wrong_language_is_refused_with_a_code(wrong: str, meant: str) -> None:
    expected = f"language: {wrong!r} is not a Whisper language code; did you mean '{meant}'?"
    assert str(refused(language=wrong)) == expected


def test_a_language_like_no_other_is_refused_with_all_codes() -> None:
    assert str(refused(language="klingon")).endswith(f"codes are {', '.join(LANGUAGES)}")


@pytest.mark.parametrize("field", ["transcription", "translation"])
@pytest.mark.parametrize(
    "wrong", ["", " ", "text", "plaintext", "srt,vtt", "SRT\x00", "html", "docx"]
)
def test_a_wrong_format_is_refused_with_all_there_are(field: str, wrong: str) -> None:
    expected = f"{field}: {wrong!r} is not a format; use {', '.join(FORMATS)}"
    assert str(refused(**{field: wrong})) == expected


@pytest.mark.parametrize("field", ["transcription", "translation"])
@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *((name, name) for name in FORMATS),
        ("plain text", "plain_text"),
        ("Plain Text", "plain_text"),
        ("formatted text", "formatted_text"),
        (" SRT ", "srt"),
    ],
)
def test_a_format_is_taken_in_its_usual_spellings(field: str, spelling: str, name: str) -> None:
    assert getattr(asked(**{field: spelling, "translate": True}).options, field) == name


# Tokens and temperatures


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("-1", (-1,)),
        ("", ()),
        (" 1, 2 ,3 ", (1, 2, 3)),
        ("1,,2,", (1, 2)),
        (-1, (-1,)),
        (50364, (50364,)),
        ([], ()),
        ([-1, 7], (-1, 7)),
        ([7, 3, 7, -1], (-1, 3, 7)),
    ],
)
def test_suppressed_tokens_are_a_text_a_number_or_a_list(
    value: object, ids: tuple[int, ...]
) -> None:
    assert asked(suppress_tokens=value).suppress_tokens == ids


def test_more_suppressed_tokens_than_a_step_has_time_for_are_refused() -> None:
    assert len(asked(suppress_tokens=list(range(5_000))).suppress_tokens) == 5_000
    for value in (list(range(5_001)), ",".join("7" * 5_001)):
        error = refused(suppress_tokens=value)
        assert str(error) == "suppress_tokens: 5001 token ids: expected at most 5000"


@pytest.mark.parametrize(
    "value", ["-2", "a", "1;2", "1.5", "1 2", "0x1", "9" * 5000, -2, 2**31, [-2], [2**64], "²"]
)
def test_what_is_no_token_is_refused_with_an_example(value: object) -> None:
    error = refused(suppress_tokens=value)
    assert error.field == "suppress_tokens"
    assert str(error).endswith("expected token ids such as '-1' or '50364,357'")
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("first", "step", "temperatures"),
    [
        (0.0, 0.2, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0, 0, (0.0,)),
        (0.0, 1.0, (0.0, 1.0)),
        (0.5, 0.2, (0.5, 0.7, 0.9)),
        (1.0, 0.2, (1.0,)),
        (0.0, 0.3, (0.0, 0.3, 0.6, 0.9)),
        (0.1, 0.1, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
    ],
)
def test_temperatures_rise_by_the_step_up_to_1(
    first: float, step: float, temperatures: tuple[float, ...]
) -> None:
    request = asked(temperature=first, temperature_increment_on_fallback=step)
    assert request.temperatures == temperatures


@pytest.mark.parametrize("first", [1e-5, 1e-40, 0.0009999])
def test_what_is_too_small_to_sample_with_is_0(first: float) -> None:
    """The scores would be divided by it, up to what is no number, and the text be made of that."""
    assert asked(temperature=first).temperatures == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    alone = asked(temperature=first, temperature_increment_on_fallback=0)
    assert alone.temperatures == (0.0,)


@pytest.mark.parametrize("step", [1e-9, 0.001, 0.0499])
def test_a_step_of_next_to_nothing_is_refused(step: float) -> None:
    error = refused(temperature_increment_on_fallback=step)
    assert error.field == "temperature_increment_on_fallback"
    assert str(error).endswith(f"{step}: expected 0, or 0.05 to 1")


@given(st.floats(0.001, 1), st.just(0) | st.floats(0.05, 1))
def test_there_are_few_temperatures_and_none_above_1(first: float, step: float) -> None:
    request = asked(temperature=first, temperature_increment_on_fallback=step)
    assert 1 <= len(request.temperatures) <= 21
    assert request.temperatures[0] == pytest.approx(first, abs=1e-6)
    assert max(request.temperatures) <= 1.00001
    assert list(request.temperatures) == sorted(request.temperatures)


# Stretches of the audio


def test_more_stretches_than_speech_is_matched_against_are_refused() -> None:
    assert len(asked(clip_timestamps=list(range(10_000))).clips) == 5_000
    error = refused(clip_timestamps=list(range(10_001)))
    assert str(error) == "clip_timestamps: 10001 seconds: expected at most 10000"


@pytest.mark.parametrize(
    ("value", "clips"),
    [
        ("0", ()),
        ("0.0", ()),
        ([0], ()),
        ("5", ((5, math.inf),)),
        (" 0 , 5 ", ((0, 5),)),
        ("0,5,10", ((0, 5), (10, math.inf))),
        ([1, 2.5, 2.75, 9], ((1, 2.5), (2.75, 9))),
    ],
)
def test_clips_are_pairs_of_seconds_and_the_last_end_may_be_missing(
    value: object, clips: tuple[tuple[float, float], ...]
) -> None:
    assert asked(clip_timestamps=value).clips == clips


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "0,",
        "a",
        "-1",
        "5,5",
        "5,4",
        "0,10,5",
        "nan",
        "0,inf",
        "1e999",
        "00:10",
        "0;5",
    ],
)
def test_clips_that_do_not_rise_are_refused(value: str) -> None:
    error = refused(clip_timestamps=value)
    assert error.field == "clip_timestamps"
    assert str(error).endswith("expected rising seconds: start, end, start, end, ...")


@pytest.mark.parametrize("value", [[], [2, 1], [-0.5], [math.nan], [0, math.inf]])
def test_a_list_of_clips_that_do_not_rise_is_refused(value: list[float]) -> None:
    assert refused(clip_timestamps=value).field == "clip_timestamps"


# Together


def test_words_without_timestamps_are_refused() -> None:
    error = refused(without_timestamps=True, word_timestamps=True)
    assert error.field == "without_timestamps"
    assert "drop 'word_timestamps'" in str(error)


@pytest.mark.parametrize("one", ["without_timestamps", "word_timestamps"])
def test_either_of_them_alone_is_taken(one: str) -> None:
    assert getattr(asked(**{one: True}).options, one) is True


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"multilingual": True, "language": "en"}, "multilingual", "the language is given"),
        (
            {"multilingual": True, "condition_on_previous_text": True},
            "multilingual",
            "a text in one language prompts another",
        ),
        ({"max_line_width": 40}, "max_line_width", "goes with the formats srt and vtt"),
        ({"max_line_width": 40, "translation": "srt"}, "max_line_width", "goes with the formats"),
        ({"max_line_count": 2, "transcription": "tsv"}, "max_line_count", "goes with the formats"),
        ({"max_line_count": 2, "transcription": "srt"}, "max_line_count", "'max_line_width'"),
    ],
)
def test_an_option_of_ours_that_cannot_act_beside_the_others_is_refused(
    options: dict[str, Any], field: str, reason: str
) -> None:
    error = refused(**options)
    assert error.field == field
    assert reason in str(error)


def test_lines_have_a_width_only_when_one_is_given() -> None:
    assert asked(transcription="srt").lines is None
    laid_out = asked(transcription="vtt", max_line_width=40, max_line_count=2).lines
    assert laid_out == Lines(40, 2)


def test_a_choice_that_is_none_is_refused_with_all_there_are() -> None:
    assert str(refused(channels="left")) == "channels: 'left': expected 'mix' or 'split'"
    hostile = refused(channels="x - at `$.audio`")
    assert hostile.field == "channels"


@pytest.mark.parametrize("low", [0.51, 1, -0.1, math.inf, -math.inf])
def test_speech_cannot_end_above_the_probability_at_which_it_begins(low: float) -> None:
    error = refused(vad_parameters={"neg_threshold": low})
    assert error.field == "vad_parameters.neg_threshold"
    assert "from 0 to 'threshold' (0.5)" in str(error)


def test_vad_parameters_keep_their_defaults_where_none_are_given() -> None:
    given_vad = asked(vad_parameters={"threshold": 0.6, "neg_threshold": 0.6}).options
    assert given_vad.vad_parameters == VadParameters(threshold=0.6, neg_threshold=0.6)
    assert asked(vad_parameters={}).options.vad_parameters == VadParameters()


# What cannot act


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"best_of": 5, "temperature": 0, "temperature_increment_on_fallback": 0}, ["best_of"]),
        ({"best_of": 5}, []),
        ({"beam_size": 5, "temperature": 0.5}, ["beam_size"]),
        ({"beam_size": 1, "patience": 2.0}, ["patience"]),
        ({"beam_size": 2, "patience": 2.0}, []),
        ({"patience": 2.0, "temperature": 0.5}, ["patience"]),
        (
            {
                "compression_ratio_threshold": 2.4,
                "temperature": 1.0,
                "without_timestamps": True,
            },
            ["compression_ratio_threshold"],
        ),
        ({"compression_ratio_threshold": 2.4, "temperature": 1.0}, []),
        (
            {"temperature": 1, "temperature_increment_on_fallback": 0.2},
            ["temperature_increment_on_fallback"],
        ),
        ({"temperature": 1, "temperature_increment_on_fallback": 0}, []),
        ({"temperature": 0.5, "temperature_increment_on_fallback": 0.2}, []),
        (
            {"beam_size": 1, "length_penalty": 3, "temperature_increment_on_fallback": 0},
            ["length_penalty"],
        ),
        ({"beam_size": 1, "best_of": 1, "length_penalty": 3}, ["length_penalty"]),
        ({"beam_size": 1, "length_penalty": 3}, []),
        ({"length_penalty": 3, "temperature_increment_on_fallback": 0}, []),
        ({"translation": "srt"}, ["translation"]),
        ({"translation": "srt", "translate": True}, []),
        ({"translation": None, "best_of": None}, []),
        ({}, []),
    ],
)
def test_what_cannot_act_is_named_and_not_refused(
    options: dict[str, Any], warned: list[str]
) -> None:
    warnings = asked(**options).warnings
    assert [warning.split(":")[0] for warning in warnings] == warned
    assert all(
        len(warning) > len(name) + 10 for warning, name in zip(warnings, warned, strict=True)
    )


# Where the answer goes


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "store.example/a",
        "/runpod-volume/a.json",
        "file:///tmp/a.json",
        "ftp://store.example/a",
        "s3://bucket/a?sig=sesame",
        "data:application/json,",
        "//store.example/a",
        "x" * 10**6,
    ],
)
def test_a_target_that_is_no_address_is_refused_and_not_repeated(address: str) -> None:
    error = refused(upload_url=address)
    assert str(error) == "upload_url: expected an http(s) URL that takes a PUT"


@pytest.mark.parametrize("url", [URL, f" {URL}?sig=1\n", "HTTP://STORE.example/a"])
def test_a_target_is_taken_without_space_around_it(url: str) -> None:
    assert asked(upload_url=url).options.upload_url == url.strip()


@pytest.mark.parametrize(
    "headers", [{"Bad Name": "x"}, {"X-A": "x\r\nX-B: y"}, {"Host": "internal"}, {"X-A": 1}]
)
def test_a_header_that_cannot_be_sent_with_the_answer_is_refused(headers: dict[str, Any]) -> None:
    error = refused(upload_url=URL, upload_headers=headers)
    assert error.field.split("[")[0] == "upload_headers"


def test_headers_go_with_the_target() -> None:
    headers = {"Content-Type": "application/json", "x-amz-acl": "private"}
    assert asked(upload_url=URL, upload_headers=headers).options.upload_headers == headers


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"upload_headers": {"X-A": "b"}}, "upload_headers: goes with 'upload_url'"),
        ({"upload_headers": {}}, "upload_headers: goes with 'upload_url'"),
        ({"upload_headers": {}, "upload": True}, "upload_headers: goes with 'upload_url'"),
        ({"upload_url": URL, "upload": True}, "upload: the answer goes to 'upload_url'"),
    ],
)
def test_ways_of_delivery_that_do_not_go_together_are_refused(
    options: dict[str, Any], told: str
) -> None:
    assert str(refused(**options)).startswith(told)


@pytest.mark.parametrize("options", [{"upload": True}, {"upload": False, "upload_url": URL}])
def test_an_answer_may_go_to_one_of_the_two(options: dict[str, Any]) -> None:
    taken = asked(**options).options
    assert (taken.upload, taken.upload_url) == (options["upload"], options.get("upload_url"))


# worker-faster_whisper's jobs

ITS_DEFAULTS = {
    "model": "base",
    "transcription": "plain_text",
    "translate": False,
    "translation": "plain_text",
    "temperature": 0,
    "best_of": 5,
    "beam_size": 5,
    "patience": 1.0,
    "length_penalty": 0,
    "suppress_tokens": "-1",
    "condition_on_previous_text": True,
    "temperature_increment_on_fallback": 0.2,
    "compression_ratio_threshold": 2.4,
    "logprob_threshold": -1.0,
    "no_speech_threshold": 0.6,
    "enable_vad": False,
    "word_timestamps": False,
}
"""Every option it has with a default, written out as its users do."""

ITS_JOBS: dict[str, dict[str, Any]] = {
    "a URL alone": {"audio": URL},
    "a URL and a model": {"audio": URL, "model": "turbo"},
    "everything written out": {
        "audio": URL,
        **ITS_DEFAULTS,
        "language": "en",
        "initial_prompt": "Mr. Dashwood",
    },
    "nulls from a client that sends every field": {
        **ITS_DEFAULTS,
        "audio": None,
        "audio_base64": SOUND_BASE64,
        "language": None,
        "initial_prompt": None,
        "patience": None,
        "length_penalty": None,
    },
    "its sample with a space in the format": {
        "audio": URL,
        "model": "large-v2",
        "transcription": "plain text",
        "translate": False,
        "temperature": 0,
        "best_of": 5,
        "beam_size": 5,
        "suppress_tokens": "-1",
        "condition_on_previous_text": False,
        "temperature_increment_on_fallback": 0.2,
        "compression_ratio_threshold": 2.4,
        "logprob_threshold": -1,
        "no_speech_threshold": 0.6,
    },
    "subtitles in two languages": {
        "audio": URL,
        "transcription": "srt",
        "translate": True,
        "translation": "vtt",
        "language": "es",
    },
    "base64 with the line breaks of a mail program": {
        "audio_base64": SOUND_BASE64[:16] + "\r\n" + SOUND_BASE64[16:] + "\r\n",
        "word_timestamps": True,
    },
    "sampling": {"audio": URL, "temperature": 0.4, "best_of": 3, "beam_size": 5, "patience": 2},
}


@pytest.mark.parametrize("job_input", ITS_JOBS.values(), ids=list(ITS_JOBS))
def test_a_job_of_worker_faster_whisper_is_taken_and_acts_as_written(
    job_input: dict[str, Any],
) -> None:
    request = parse(job_input)
    spelled = {"plain text": "plain_text"}
    for field, value in job_input.items():
        if value is not None:
            assert getattr(request.options, field) == spelled.get(str(value), value)


def test_none_of_its_default_values_earns_a_warning_but_the_translations() -> None:
    assert asked(**ITS_DEFAULTS).warnings == ("translation: only acts with 'translate'",)


def test_the_given_job_is_not_changed() -> None:
    job_input = {"audio": URL, "transcription": "plain text", "vad_parameters": {"threshold": None}}
    copy = json.loads(json.dumps(job_input))
    parse(job_input)
    assert job_input == copy


# Anything


any_text = st.text(st.characters(exclude_categories=()), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
near_misses = st.dictionaries(
    st.sampled_from([*FIELDS, *FIELDS, "Audio", "hotwords"]),
    any_json
    | st.sampled_from([URL, SOUND_BASE64, "en", "srt", "-1", 0, 1, 0.5, True, False])
    | st.dictionaries(st.sampled_from([*VAD_FIELDS, "x"]), any_json | st.floats(0, 1)),
    max_size=5,
)


@settings(max_examples=400, deadline=None)
@given(near_misses | any_json)
def test_any_json_is_a_request_or_refused_by_the_name_of_a_field(job_input: Any) -> None:
    said = outcome(job_input)
    if isinstance(said, Request):
        assert all(0 <= temperature <= 1 for temperature in said.temperatures)
    else:
        assert said.field
        assert len(str(said)) > len(said.field) + 2


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), any_json)
def test_any_value_of_an_option_is_taken_or_refused_by_its_name(field: str, value: Any) -> None:
    said = outcome({field: value} if field in AUDIO else {"audio": URL, field: value})
    if isinstance(said, RequestError):
        name = said.field.split(".")[0].split("[")[0]
        assert name == field or (field in AUDIO and name == "audio")


def test_a_new_flag_or_number_is_covered_by_the_tables_above() -> None:
    assert set(FLAGS) >= {"translate", "enable_vad", "word_timestamps", "without_timestamps"}
    assert set(NUMBERS) >= {"temperature", "beam_size", "patience"}
