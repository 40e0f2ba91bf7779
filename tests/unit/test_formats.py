"""Every format against its published rules, and read back by parsers that are not ours."""

from __future__ import annotations

import csv
import html
import io
import json
import math
from datetime import timedelta

import msgspec
import numpy as np
import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from sotto.transcript.formats import FORMATS, cues, render
from sotto.transcript.lines import Lines
from sotto.transcript.record import segment_record
from sotto.transcript.segments import Segment
from sotto.transcript.words import Word

UNHURRIED = settings(deadline=None)
TIMED = ["srt", "vtt", "tsv", "json"]
WITH_CUES = ["srt", "vtt", "tsv"]
SCRIPTS = {
    "arabic, right to left": "مرحبا بالعالم",
    "hebrew with a mark": "שלום\u200f, עולם",
    "urdu with a joiner": "میں\u200cنے",
    "japanese": "こんにちは、世界。",
    "thai": "สวัสดีชาวโลก",
    "hindi": "नमस्ते दुनिया",
    "combining accent": "cafe\u0301",
    "emoji with joiners": "👩‍👩‍👧‍👦 👍🏽",
    "beyond the basic plane": "𐍈𠜎𝄞",
}


def segment(text: str, start_s: float = 0.0, end_s: float = 1.0, **changes: object) -> Segment:
    values: dict[str, object] = {
        "id": 0,
        "seek": 0,
        "tokens": (1, 2),
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.01,
        "language": "en",
        "channel": None,
        "words": None,
    }
    return Segment(text=text, start_s=start_s, end_s=end_s, **{**values, **changes})


def lines_of(name: str, text: str) -> str:
    """The text that a lone cue with `text` has in the format `name`."""
    written = render(name, [segment(text)])
    if name == "tsv":
        return written.split("\n")[1].split("\t")[2]
    return written.rstrip("\n").split("-->")[1].partition("\n")[2]


# Bad input


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("edge", ["start_s", "end_s"])
def test_a_time_that_is_not_finite_is_refused(name: str, edge: str, time_s: float) -> None:
    with pytest.raises(ValueError, match="is not finite"):
        render(name, [segment("hello", **{edge: time_s})])


@pytest.mark.parametrize("time_s", [math.nan, math.inf])
def test_a_word_time_that_is_not_finite_is_refused(time_s: float) -> None:
    with pytest.raises(ValueError, match="is not finite"):
        render("json", [segment("hello", words=(Word(" hello", 0.0, time_s, 0.9),))])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_statistic_that_is_not_finite_is_null_in_json(number: float) -> None:
    words = (Word(" hello", 0.0, 1.0, number),)
    [shown] = read_json([segment("hello", avg_logprob=number, no_speech_prob=number, words=words)])
    assert shown["avg_logprob"] is None
    assert shown["no_speech_prob"] is None
    assert shown["words"][0]["probability"] is None
    assert shown["compression_ratio"] == 1.5


def test_numpy_scalars_become_plain_json_numbers() -> None:
    changes = {
        "id": np.int64(3),
        "seek": np.int32(7),
        "tokens": (np.int64(50364), np.uint16(2)),
        "temperature": np.float32(0.5),
        "no_speech_prob": np.float64(0.25),
        "words": (Word(" hello", np.float64(0.5), np.float32(1.5), np.float16(0.75)),),
    }
    [shown] = read_json([segment("hello", np.float32(0.5), np.float64(1.5), **changes)])
    assert (shown["id"], shown["seek"], shown["tokens"]) == (3, 7, [50364, 2])
    assert (shown["start"], shown["end"], shown["temperature"]) == (0.5, 1.5, 0.5)
    assert shown["words"] == [{"word": " hello", "start": 0.5, "end": 1.5, "probability": 0.75}]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc80 bytes"])
def test_a_lone_surrogate_is_replaced_so_that_the_text_is_utf_8(name: str, text: str) -> None:
    written = render(name, [segment(text)])
    assert "\ufffd" in written.encode("utf-8").decode("utf-8")


@pytest.mark.parametrize("name", ["plain_text", "formatted_text", *WITH_CUES])
def test_control_characters_are_removed(name: str) -> None:
    text = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    written = render(name, [segment(f"a{text}b")])
    kept = {c for c in written if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0}
    assert kept <= {"\n", "\t"}
    assert "\0" not in written


@pytest.mark.parametrize("name", WITH_CUES)
@pytest.mark.parametrize("broken", ["a\nb", "a\r\nb", "a\n\n\nb", "a\tb", "a\u2028b", "a\x85b"])
def test_a_cue_has_one_line_of_text(name: str, broken: str) -> None:
    assert lines_of(name, broken) == "a b"


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_format_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        render(name.upper(), [])


# An empty transcript


@pytest.mark.parametrize("segments", [[], [segment("")], [segment(" \n\x00 ")]])
@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("plain_text", ""),
        ("formatted_text", ""),
        ("srt", ""),
        ("vtt", "WEBVTT\n"),
        ("tsv", "start\tend\ttext\n"),
    ],
)
def test_no_text_gives_a_valid_empty_file(name: str, empty: str, segments: list[Segment]) -> None:
    assert render(name, segments) == empty


def test_no_segments_give_an_empty_list_in_json() -> None:
    assert json.loads(render("json", [])) == {"segments": []}


def test_an_empty_vtt_is_read_as_no_captions() -> None:
    assert webvtt.from_string(render("vtt", []), strict=True).captions == []


# Text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([" Hello there.", " General Kenobi."], "Hello there. General Kenobi."),
        (["Hello there.", "General Kenobi."], "Hello there. General Kenobi."),
        ([" Hello ", " again "], "Hello again"),
        (["你好。", "我是机器人。"], "你好。我是机器人。"),
        (["こんにちは", "世界"], "こんにちは世界"),
        (["สวัสดี", "ชาวโลก"], "สวัสดีชาวโลก"),
        (["សួស្តី", "ពិភពលោក"], "សួស្តីពិភពលោក"),
        (["你好", " Hello"], "你好 Hello"),
        ([" 你好", " 世界"], "你好 世界"),
        (["안녕하세요.", "반갑습니다."], "안녕하세요. 반갑습니다."),
        ([" مرحبا", " بالعالم"], "مرحبا بالعالم"),
        ([" one", "", "  ", " two"], "one two"),
        ([" one\ntwo"], "one two"),
    ],
)
def test_plain_text_joins_segments_as_their_script_does(texts: list[str], expected: str) -> None:
    assert render("plain_text", [segment(text) for text in texts]) == expected


def test_formatted_text_has_one_segment_a_line() -> None:
    segments = [segment(" One\nline."), segment(""), segment(" Another.")]
    assert render("formatted_text", segments) == "One line.\nAnother."


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS.keys())
@pytest.mark.parametrize("name", FORMATS)
def test_text_of_any_script_is_kept_unchanged(name: str, text: str) -> None:
    assert text in render(name, [segment(f" {text}")])


# SRT


def test_srt_is_written_by_the_rules() -> None:
    segments = [segment(" Hello,", 0.0, 1.5), segment(" world & <all>.", 61.25, 3600.0)]
    assert render("srt", segments) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello,\n"
        "\n"
        "2\n00:01:01,250 --> 01:00:00,000\nworld & <all>.\n"
    )


def test_srt_numbers_only_the_segments_that_have_text() -> None:
    written = render("srt", [segment("", 0, 1), segment("a", 1, 2), segment("b", 2, 3)])
    assert [(cue.index, cue.content) for cue in srt.parse(written)] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    "hostile",
    [
        "00:00:05,000 --> 00:00:06,000",
        "a\n\n2\n00:00:05,000 --> 00:00:06,000\nb",
        "--->",
        "a -->-->",
        "7",
    ],
)
def test_text_that_looks_like_a_cue_does_not_start_one_in_srt(hostile: str) -> None:
    written = render("srt", [segment(hostile, 0, 1), segment("next", 1, 2)])
    assert len(written.split("-->")) == 3
    assert [cue.index for cue in srt.parse(written)] == [1, 2]


# WebVTT


def test_vtt_is_written_by_the_rules() -> None:
    segments = [segment(" Hello,", 0.0, 1.5), segment(" world.", 61.25, 3600.0)]
    assert render("vtt", segments) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello,\n\n00:01:01.250 --> 01:00:00.000\nworld.\n"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("R&D", "R&amp;D"),
        ("&lt;", "&amp;lt;"),
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ("<00:00:01.000>", "&lt;00:00:01.000&gt;"),
        ("a --> b", "a --&gt; b"),
        ("NOTE this", "NOTE this"),
        ("WEBVTT", "WEBVTT"),
        ("'quotes' \"stay\"", "'quotes' \"stay\""),
    ],
)
def test_vtt_escapes_what_the_standard_reserves(text: str, escaped: str) -> None:
    written = render("vtt", [segment(text)])
    assert written == f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{escaped}\n"
    [caption] = webvtt.from_string(written, strict=True).captions
    assert html.unescape(caption.raw_text) == text


# Channels


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain_text", "Hello. Yes?"),
        ("formatted_text", "[0] Hello.\n[1] Yes?"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,000\n[0] Hello.\n\n"
            "2\n00:00:01,000 --> 00:00:02,000\n[1] Yes?\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v Channel 0>Hello.\n\n"
            "00:00:01.000 --> 00:00:02.000\n<v Channel 1>Yes?\n",
        ),
        ("tsv", "start\tend\ttext\n0\t1000\t[0] Hello.\n1000\t2000\t[1] Yes?\n"),
    ],
)
def test_a_text_says_which_channel_it_is_of_but_for_running_text(name: str, written: str) -> None:
    spoken = [segment(" Hello.", 0.0, 1.0, channel=0), segment(" Yes?", 1.0, 2.0, channel=1)]
    assert render(name, spoken) == written


@pytest.mark.parametrize("width", [12, 20, 42])
def test_lines_of_a_channel_are_no_wider_with_its_label(width: int) -> None:
    text = " the quick brown fox jumps over the lazy dog and goes home"
    spoken = [segment(text, 0.0, 6.0, channel=10, words=None)]
    (cue,) = srt.parse(render("srt", spoken, Lines(width, None)))
    assert cue.content.startswith("[10] the")
    assert max(map(len, cue.content.splitlines())) <= width
    assert " ".join(cue.content.splitlines()).removeprefix("[10]") == text


def test_json_has_the_channel_of_each_segment() -> None:
    assert [shown["channel"] for shown in read_json([segment("a", channel=1)])] == [1]


# TSV and JSON


def test_tsv_has_a_header_and_milliseconds() -> None:
    written = render("tsv", [segment(" Tab\tand\nline.", 0.0, 1.5), segment(' "b"', 61.25, 62)])
    assert written == 'start\tend\ttext\n0\t1500\tTab and line.\n61250\t62000\t"b"\n'


def test_json_has_the_keys_of_a_segment_and_its_words_if_there_are_any() -> None:
    words = (Word(" Hello", 0.1, 0.5, 0.9), Word(" you", 0.5, 1.2, 0.8))
    with_words, without = read_json([segment(" Hello you", 0.1, 1.2, words=words), segment(" b")])
    assert with_words == {
        "id": 0,
        "seek": 0,
        "start": 0.1,
        "end": 1.2,
        "text": " Hello you",
        "tokens": [1, 2],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.01,
        "language": "en",
        "words": [
            {"word": " Hello", "start": 0.1, "end": 0.5, "probability": 0.9},
            {"word": " you", "start": 0.5, "end": 1.2, "probability": 0.8},
        ],
    }
    assert "words" not in without


def test_json_keeps_a_segment_without_text_and_its_own_times() -> None:
    shown = read_json([segment("", 5.0, 9.0), segment(" b", 7.0, 8.0)])
    assert [(s["start"], s["end"], s["text"]) for s in shown] == [(5.0, 9.0, ""), (7.0, 8.0, " b")]


# Times


@pytest.mark.parametrize(
    ("time_s", "clock"),
    [
        (0.0004, "00:00:00.000"),
        (0.9996, "00:00:01.000"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (86400.0, "24:00:00.000"),
        (100 * 3600 + 1.001, "100:00:01.001"),
        (1234 * 3600.0, "1234:00:00.000"),
    ],
)
def test_times_are_rounded_to_milliseconds_and_carried(time_s: float, clock: str) -> None:
    assert f"{clock} --> " in render("vtt", [segment("a", time_s, time_s + 5)])
    assert f"{clock.replace('.', ',')} --> " in render("srt", [segment("a", time_s, time_s + 5)])


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(-3.0, 1.0)], [(0, 1000)]),
        ([(-3.0, -1.0)], [(0, 1)]),
        ([(2.0, 1.0)], [(2000, 2001)]),
        ([(2.0, 2.0)], [(2000, 2001)]),
        ([(0.0, 5.0), (3.0, 4.0)], [(0, 3000), (3000, 4000)]),
        ([(0.0, 1.0), (1.0, 2.0)], [(0, 1000), (1000, 2000)]),
        ([(5.0, 7.0), (5.0, 8.0)], [(5000, 5001), (5001, 8000)]),
        ([(5.0, 5.0), (5.0, 5.0), (5.0, 5.0)], [(5000, 5001), (5001, 5002), (5002, 5003)]),
        ([(9.0, 10.0), (1.0, 2.0)], [(1000, 2000), (9000, 10000)]),
    ],
)
def test_cues_never_overlap_vanish_or_start_before_zero(
    times: list[tuple[float, float]], expected: list[tuple[int, int]]
) -> None:
    found = cues([segment("a", start_s, end_s) for start_s, end_s in times])
    assert [(cue.start_ms, cue.end_ms) for cue in found] == expected


# Read back by parsers that are not ours

DAY_MS = 24 * 3600 * 1000
any_text = st.text(st.characters(), max_size=40)
hostile_text = st.lists(
    st.sampled_from(
        ["a", "1", " ", "\n", "\r\n", "-->", "00:00:01,000", "00:00:01.000", "&", "<", ">", "NOTE"]
    ),
    max_size=12,
).map("".join)
texts = st.one_of(any_text, hostile_text)
times = st.floats(min_value=-10, max_value=400_000, allow_nan=False)
any_segments = st.lists(st.builds(segment, texts, times, times), max_size=8)


@st.composite
def orderly_segments(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    """Distinct edges in milliseconds, in pairs, each with a text of its own."""
    edges = sorted(draw(st.sets(st.integers(0, 5 * DAY_MS), max_size=12)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    visible = texts.filter(lambda text: one_line(text) != "")
    return [(start, end, draw(visible)) for start, end in pairs]


def one_line(text: str) -> str:
    """What a reader of one line should find, worked out character by character."""
    shown = ""
    for c in text:
        if c in "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029":
            shown += "" if shown.endswith("\0") else "\0"
        elif not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0):
            shown += "\ufffd" if "\ud800" <= c <= "\udfff" else c
    return shown.replace("\0", " ").strip()


def as_segments(rows: list[tuple[int, int, str]]) -> list[Segment]:
    return [segment(text, start / 1000, end / 1000) for start, end, text in rows]


def read_json(segments: list[Segment]) -> list[dict]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(render("json", segments), parse_constant=refuse)["segments"]


def in_ms(time: timedelta) -> int:
    return time // timedelta(milliseconds=1)


@UNHURRIED
@given(orderly_segments())
def test_an_srt_parser_reads_the_same_texts_and_times(rows: list[tuple[int, int, str]]) -> None:
    found = list(srt.parse(render("srt", as_segments(rows))))
    assert [(in_ms(cue.start), in_ms(cue.end), cue.content) for cue in found] == [
        (start, end, one_line(text).replace("-->", "→")) for start, end, text in rows
    ]
    assert [cue.index for cue in found] == list(range(1, len(rows) + 1))


@UNHURRIED
@given(orderly_segments())
def test_a_vtt_parser_reads_the_same_texts_and_times(rows: list[tuple[int, int, str]]) -> None:
    found = webvtt.from_string(render("vtt", as_segments(rows)), strict=True)
    assert [
        (
            caption.start_time.in_milliseconds(),
            caption.end_time.in_milliseconds(),
            unescaped(caption.raw_text),
        )
        for caption in found
    ] == [(start, end, one_line(text)) for start, end, text in rows]


def unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


@UNHURRIED
@given(orderly_segments())
def test_a_tsv_reader_finds_the_same_texts_and_times(rows: list[tuple[int, int, str]]) -> None:
    written = io.StringIO(render("tsv", as_segments(rows)), newline="\n")
    header, *found = csv.reader(written, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert header == ["start", "end", "text"]
    assert found == [[str(start), str(end), one_line(text)] for start, end, text in rows]


@UNHURRIED
@given(any_segments)
def test_cues_of_any_segments_are_in_order_and_apart(segments: list[Segment]) -> None:
    end_ms = 0
    for cue in cues(segments):
        assert end_ms <= cue.start_ms < cue.end_ms
        assert cue.text
        assert cue.text == cue.text.strip()
        end_ms = cue.end_ms


@UNHURRIED
@given(any_segments)
def test_any_segments_give_files_with_a_cue_for_each_visible_text(segments: list[Segment]) -> None:
    visible = sum(one_line(s.text) != "" for s in segments)
    assert len(list(srt.parse(render("srt", segments)))) == visible
    assert len(webvtt.from_string(render("vtt", segments), strict=True)) == visible


@UNHURRIED
@given(st.lists(any_text, max_size=5), st.sampled_from([*FORMATS]))
def test_any_string_gives_text_that_utf_8_can_carry(strings: list[str], name: str) -> None:
    written = render(name, [segment(text) for text in strings])
    assert written.encode("utf-8").decode("utf-8") == written


@UNHURRIED
@given(any_segments)
def test_json_is_the_segment_records_in_strict_json(segments: list[Segment]) -> None:
    assert read_json(segments) == [
        json.loads(msgspec.json.encode(segment_record(s))) for s in segments
    ]
