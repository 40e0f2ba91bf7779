"""Where a subtitle ends: at a sentence, or where a reader would draw breath."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.transcript.breaks import LONGEST_S, LONGEST_TEXT, ends_sentence, fitted
from sotto.transcript.timing import PlacedWord


def word(text: str, start_s: float, end_s: float, voice: float | None = 0.0) -> PlacedWord:
    return PlacedWord(text, (), start_s, end_s, 0.9, voice)


def spoken(text: str, word_s: float = 0.5, gap_s: float = 0.0) -> list[PlacedWord]:
    """The words of `text`, evenly spoken."""
    step_s = word_s + gap_s
    return [
        word(f" {one}", place * step_s, place * step_s + word_s)
        for place, one in enumerate(text.split())
    ]


def texts(parts: list[list[PlacedWord]]) -> list[str]:
    return ["".join(one.text for one in part).strip() for part in parts]


@pytest.mark.parametrize(
    "text",
    [
        " done.",
        " done!",
        " done?",
        " done…",
        " done...",
        " done?!",
        ' done."',
        " done.”",
        " done.’",
        " done.)",
        " done.»",
        "した。",
        "した！",
        "した？",
        "した。」",
        "した．",
        " تم؟",
        " हुआ।",
        " fait !",
        " ہے۔",
        " ሰላም።",
        " բարև։",
        "ဟုတ်တယ်။",
        "ទេ។",
        " है॥",
        " no.",
        " No.",
        " 1811.",
        " U.S.A.",
    ],
)
def test_a_sentence_ends_with(text: str):
    assert ends_sentence(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " and",
        " and,",
        " and;",
        " and:",
        " Mr.",
        " mrs.",
        " Dr.",
        ' "Mr.',
        " (Dr.",
        " St.",
        " J.",
        " É.",
        " А.",
        " Sra.",
        " Mme.",
        " 3.5",
        " ill-",
        "、",
        " etc.",
    ],
)
def test_a_sentence_does_not_end_with(text: str):
    assert not ends_sentence(text)


def test_nothing_gives_nothing_to_read():
    assert [part for part in fitted([]) if part] == []


def test_what_can_be_read_at_once_stays_whole():
    words = spoken("She said that it was not to be.")
    assert fitted(words) == [words]


def test_exactly_the_longest_subtitle_stays_whole():
    words = [word("a" * 42, 0, 3), word("b" * 42, 3, 7)]
    assert fitted(words) == [words]


def test_a_long_sentence_is_split_at_its_commas():
    words = spoken(
        "The family of Dashwood had long been settled in Sussex, "
        "and their estate was large and their residence was at Norland."
    )
    assert texts(fitted(words))[0].endswith("Sussex,")


def test_a_long_sentence_is_split_at_its_longest_pause():
    before, after = spoken("one two three four five six seven"), spoken("eight nine ten eleven")
    later = [word(w.text, w.start_s + 6.0, w.end_s + 6.0) for w in after]
    assert texts(fitted([*before, *later])) == [
        "one two three four five six seven",
        "eight nine ten eleven",
    ]


def test_a_long_sentence_without_a_good_place_is_split_near_its_middle():
    parts = fitted(spoken("word " * 20))
    assert [len(part) for part in parts] == [10, 10]


def test_text_too_long_to_read_is_split_though_it_is_spoken_fast():
    parts = fitted(spoken("extraordinary " * 12, word_s=0.1))
    assert all(len(text) <= LONGEST_TEXT for text in texts(parts))
    assert len(parts) >= 2


def test_one_endless_word_is_left_alone():
    words = [word("a" * 500, 0, 60)]
    assert fitted(words) == [words]


def test_words_that_all_stand_at_one_moment_are_split_by_their_text():
    parts = fitted([word(" extraordinary", 5, 5) for _ in range(30)])
    assert all(len(text) <= LONGEST_TEXT for text in texts(parts))


def test_words_that_all_stand_at_one_moment_are_split_near_their_middle():
    parts = fitted([word(f" {number:03}", 3.0, 3.0) for number in range(200)])
    assert {len(part) for part in parts} == {12, 13}


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        ([" because", " of", " l", "'", "homme", " and"], ["because of", "l'homme and"]),
        ([" it", " cost", " 3", ".5", " million"], ["it cost", "3.5 million"]),
        (["価格は", "3", ".", "5", "ドルです"], ["価格は", "3.5ドルです"]),
    ],
)
def test_what_a_reader_sees_as_one_word_is_not_split(pieces: list[str], parts: list[str]):
    """At the longest pause, which stands in the midst of it."""
    words, at_s = [], 0.0
    for piece in pieces:
        at_s += 0.5 if piece in ("'", ".5", ".") else 0.0
        words.append(word(piece, at_s, at_s + 1.6))
        at_s += 1.6
    assert texts(fitted(words)) == parts


def test_where_there_is_no_other_place_a_word_is_split():
    digits = [word("7", place, place + 1.0) for place in range(20)]
    assert all(part[-1].end_s - part[0].start_s <= LONGEST_S for part in fitted(digits))


@pytest.mark.parametrize("gap_s", [0.0, 0.59])
def test_a_very_long_run_without_any_break_is_split_too(gap_s: float):
    parts = fitted(spoken("word " * 20_000, 0.3, gap_s))
    assert sum(map(len, parts)) == 20_000


words_of_any_length = st.lists(
    st.tuples(
        st.text("ab ,;。", max_size=30),
        st.floats(0, 3),
        st.floats(0, 9),
        st.sampled_from([0.0, 1.0]),
    ),
    max_size=60,
)


@given(words_of_any_length)
def test_every_part_can_be_read_and_no_word_is_lost_or_moved(drawn):
    words, at_s = [], 0.0
    for text, pause_s, length_s, voice in drawn:
        words.append(word(text, at_s + pause_s, at_s + pause_s + length_s, voice))
        at_s += pause_s + length_s
    parts = fitted(words)
    assert [one for part in parts for one in part] == words
    for part in parts:
        if len(part) > 1:
            assert part[-1].end_s - part[0].start_s <= LONGEST_S
            assert len("".join(one.text for one in part).strip()) <= LONGEST_TEXT
