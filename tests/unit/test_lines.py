"""The layout of cues in lines of a width."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.transcript.formats import render
from sotto.transcript.lines import Lines, laid_out
from sotto.transcript.scripts import BOUND_TO_NEXT, BOUND_TO_PREVIOUS, width
from sotto.transcript.segments import Segment
from sotto.transcript.words import Word


def segment(text: str, *, with_words: bool = True, seconds: float = 8.0) -> Segment:
    parts = text.split()
    share = seconds / max(1, len(parts))
    words = tuple(Word(f" {p}", i * share, (i + 1) * share, 0.9) for i, p in enumerate(parts))
    return Segment(
        id=1,
        seek=0,
        start_s=0.0,
        end_s=seconds,
        text=" " + text,
        tokens=(),
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        language="en",
        channel=None,
        words=words if with_words else None,
    )


TEXT = "one two three four five six seven eight"


@pytest.mark.parametrize("with_words", [True, False])
def test_lines_are_no_wider_and_cues_no_higher_than_asked_for(with_words: bool) -> None:
    cues = list(laid_out(segment(TEXT, with_words=with_words), Lines(width=10, count=2)))
    assert [lines for _, _, lines in cues] == [
        ["one two", "three four"],
        ["five six", "seven"],
        ["eight"],
    ]
    assert (cues[0][0], cues[-1][1]) == (0.0, 8.0)
    assert all(before[1] == pytest.approx(after[0]) for before, after in pairwise(cues))


def test_without_a_count_all_lines_are_in_one_cue() -> None:
    [(start_s, end_s, lines)] = laid_out(segment(TEXT), Lines(width=10, count=None))
    assert (start_s, end_s) == (0.0, 8.0)
    assert len(lines) == 5


def test_a_later_cue_begins_with_its_first_word() -> None:
    _, second, _ = laid_out(segment(TEXT), Lines(width=10, count=2))
    assert second[:2] == (4.0, 7.0)


def test_a_word_wider_than_a_line_stands_alone() -> None:
    [(_, _, lines)] = laid_out(segment("a incomprehensibilities b"), Lines(width=5, count=None))
    assert lines == ["a", "incomprehensibilities", "b"]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (11, ["car l'homme", "est là"]),
        (10, ["car", "l'homme", "est là"]),
        (9, ["car", "l'homme", "est là"]),
        (6, ["car l'", "homme", "est là"]),
    ],
)
def test_what_a_reader_sees_as_one_word_is_on_one_line_if_it_fits(
    width: int, lines: list[str]
) -> None:
    words = [" car", " l'", "homme", " est", " là"]
    said = replace(segment("x"), words=tuple(Word(w, i, i + 1, 0.9) for i, w in enumerate(words)))
    assert [rows for _, _, rows in laid_out(said, Lines(width=width, count=None))] == [lines]


def test_a_segment_without_text_has_no_cue() -> None:
    assert list(laid_out(segment(""), Lines(width=5, count=1))) == []


@given(
    st.lists(st.text("abcdefgh", min_size=1, max_size=8), max_size=30),
    st.integers(1, 40),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_any_layout_keeps_the_words_and_the_order_of_time(
    words: list[str], width: int, count: int | None, with_words: bool
) -> None:
    cues = list(laid_out(segment(" ".join(words), with_words=with_words), Lines(width, count)))
    assert " ".join(line for _, _, lines in cues for line in lines).split() == words
    assert all(start <= end for start, end, _ in cues)
    assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(cues))
    for _, _, lines in cues:
        assert count is None or len(lines) <= count
        assert all(len(line) <= width or " " not in line for line in lines)


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_the_layout_acts_in_subtitles(name: str) -> None:
    plain, laid = (render(name, [segment(TEXT)], lines) for lines in (None, Lines(10, 2)))
    assert plain.count("-->") == 1
    assert laid.count("-->") == 3
    assert "one two\nthree four\n" in laid


@pytest.mark.parametrize("name", ["plain_text", "formatted_text", "tsv", "json"])
def test_the_layout_leaves_other_formats_alone(name: str) -> None:
    assert render(name, [segment(TEXT)], Lines(10, 2)) == render(name, [segment(TEXT)])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ja", "今日は良い天気ですね。「明日」は3月10日、Tokyoで会いましょう。"),
        ("zh", "今天天气很好，我们明天在北京见面吧。（如果不下雨）"),
        ("th", "สวัสดีครับวันนี้อากาศดีมากเลยนะครับ"),
    ],
)
def test_a_language_without_spaces_has_lines_of_the_width_too(language: str, text: str) -> None:
    whole = replace(segment(text, with_words=False), language=language)
    [(_, _, lines)] = laid_out(whole, Lines(width=12, count=None))
    assert "".join(lines) == text
    assert len(lines) > 2
    assert all(width(line) <= 12 for line in lines)
    assert not any(line[0] in BOUND_TO_PREVIOUS or line[-1] in BOUND_TO_NEXT for line in lines)


def test_a_translation_from_a_language_without_spaces_is_broken_between_words() -> None:
    whole = replace(segment("Hello, you there, again.", with_words=False), language="ja")
    [(_, _, lines)] = laid_out(whole, Lines(width=8, count=None))
    assert lines == ["Hello,", "you", "there,", "again."]


def test_a_letter_with_an_accent_does_not_cut_the_word_it_is_in() -> None:
    whole = replace(segment("To the café’s terrace", with_words=False), language="ja")
    [(_, _, lines)] = laid_out(whole, Lines(width=8, count=None))
    assert lines == ["To the", "café’s", "terrace"]
