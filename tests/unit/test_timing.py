"""Words in the file: never backwards, never outside, each voice from edge to edge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window
from sotto.engine.base import TimedWord
from sotto.transcript.timing import PlacedWord, file_s, place, spread

Times = list[tuple[float, float]]
TOLERANCE_S = 1e-6


def window(pieces_s: Times, voices_s: Times) -> Window:
    """A window glued from `pieces_s`; all times are seconds of the file."""
    pieces, voices = (
        tuple(Span(round(start_s * RATE), round(end_s * RATE)) for start_s, end_s in times)
        for times in (pieces_s, voices_s)
    )
    length = sum(piece.end - piece.start for piece in pieces)
    return Window(0, pieces, voices, np.zeros(length, np.float32))


def aligned(*times_s: tuple[float, float]) -> list[TimedWord]:
    """Words `a`, `b`, ... at these seconds of the window."""
    return [
        TimedWord(f" {chr(ord('a') + place)}", (place,), start_s, end_s, 0.9)
        for place, (start_s, end_s) in enumerate(times_s)
    ]


def times(words: list[PlacedWord]) -> Times:
    return [(round(word.start_s, 3), round(word.end_s, 3)) for word in words]


@pytest.mark.parametrize(
    ("words_s", "pieces_s", "voices_s", "expected"),
    [
        pytest.param([], [(0, 5)], [(1, 2)], [], id="no words"),
        pytest.param(
            [(0.4, 1.0), (1.0, 2.0), (2.5, 3.0)],
            [(1, 5)],
            [(1.2, 4.8)],
            [(1.2, 2.0), (2.0, 3.0), (3.5, 4.8)],
            id="the outer words take the edges of their voice",
        ),
        pytest.param(
            [(1.5, 1.6)],
            [(10, 14)],
            [(11, 13)],
            [(11, 13)],
            id="a lone word takes all of its voice",
        ),
        pytest.param(
            [(0.2, 1.9), (1.9, 3.5)],
            [(10, 12), (20, 22)],
            [(10.2, 11.8), (20.2, 21.8)],
            [(10.2, 11.8), (20.2, 21.8)],
            id="each voice in its own piece",
        ),
        pytest.param(
            [(0.2, 1.5), (1.5, 2.6), (2.6, 3.5)],
            [(10, 12), (20, 22)],
            [(10.2, 11.8), (20.2, 21.8)],
            [(10.2, 11.8), (20.2, 20.6), (20.6, 21.8)],
            id="a word across a seam goes where most of it lies",
        ),
        pytest.param(
            [(0.5, 1.0), (1.2, 1.5)],
            [(0, 4)],
            [(0.5, 1.1), (3.0, 3.9)],
            [(0.5, 1.0), (1.1, 1.1)],
            id="a word just outside is drawn into the nearest voice",
        ),
        pytest.param(
            [(0.5, 1.0), (4.0, 4.5)],
            [(0, 10)],
            [(0.5, 1.1), (9.0, 9.9)],
            [(0.5, 1.1), (4.0, 4.5)],
            id="a word far from every voice stays where the model heard it",
        ),
        pytest.param(
            [(0.5, 1.0), (1.0, 2.5)],
            [(3, 4), (7, 9)],
            [],
            [(3.5, 4.0), (7.0, 8.5)],
            id="without voices words stay where the model heard them",
        ),
        pytest.param(
            [(0.5, 1.0), (29.0, 31.5)],
            [(3, 6)],
            [(3.2, 5.8)],
            [(3.2, 5.8), (6.0, 6.0)],
            id="a word beyond the end of the audio ends with it",
        ),
        pytest.param(
            [(0.5, 0.5), (0.5, 0.5), (0.5, 0.5)],
            [(0, 2)],
            [(0.2, 1.8)],
            [(0.2, 0.5), (0.5, 0.5), (0.5, 1.8)],
            id="words without length",
        ),
        pytest.param(
            [(0.0, 3.0), (3.0, 3.4)],
            [(0, 4)],
            [(1.0, 1.5), (2.0, 4.0)],
            [(2.0, 3.0), (3.0, 4.0)],
            id="a word that lasts across a pause belongs to the voice it overlaps most",
        ),
    ],
)
def test_words_get_the_times_of_the_voices(words_s, pieces_s, voices_s, expected):
    placed = place(aligned(*words_s), window(pieces_s, voices_s))
    assert times(placed) == expected


def test_a_placed_word_keeps_its_text_tokens_and_probability_and_names_its_voice():
    (word,) = place(aligned((0.2, 0.8)), window([(5, 6)], [(5.1, 5.9)]))
    assert (word.text, word.tokens, word.probability) == (" a", (0,), 0.9)
    assert word.voice == pytest.approx(5.1)


def test_a_word_outside_of_every_voice_names_none():
    (word,) = place(aligned((5.0, 5.5)), window([(0, 9)], [(0, 1)]))
    assert word.voice is None


@pytest.mark.parametrize(
    ("at_s", "start_s", "end_s"),
    [
        (0.0, 10.0, 10.0),
        (1.0, 11.0, 11.0),
        (2.0, 20.0, 12.0),
        (2.5, 20.5, 20.5),
        (3.0, 21.0, 21.0),
        (99.0, 21.0, 21.0),
        (-1.0, 10.0, 10.0),
    ],
)
def test_at_a_seam_a_start_belongs_behind_it_and_an_end_before_it(at_s, start_s, end_s):
    pieces = [Span(10 * RATE, 12 * RATE), Span(20 * RATE, 21 * RATE)]
    assert file_s(pieces, at_s) == pytest.approx(start_s)
    assert file_s(pieces, at_s, is_end=True) == pytest.approx(end_s)


def test_a_number_said_in_groups_begins_with_the_first_of_them():
    said = [
        TimedWord(" Call", (1,), 0.2, 1.0, 0.9),
        TimedWord(" 0555482", (2,), 1.1, 5.0, 0.9),
        TimedWord(" now", (3,), 5.1, 6.0, 0.9),
    ]
    voices = [(10.2, 11), (11.4, 12.5), (13, 15), (15.2, 16)]
    placed = place(said, window([(10, 16.5)], voices))
    assert times(placed) == [(10.2, 11), (11.4, 15), (15.2, 16)]


def test_a_translation_is_spread_over_the_voices_by_length():
    words = spread("one three", [Span(RATE, 2 * RATE), Span(5 * RATE, 6 * RATE)])
    assert [word.text for word in words] == ["one", " three"]
    assert times(words) == [(1.0, 1.667), (5.0, 6.0)]


def test_a_translation_that_stayed_in_a_language_without_spaces_is_spread_by_its_characters():
    words = spread("你好世界。", [Span(0, 4 * RATE)])
    assert [word.text for word in words] == ["你", "好", "世", "界。"]
    assert times(words)[0] == (0.0, 0.8)
    assert times(words)[-1] == (2.4, 4.0)


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_translation_has_no_words(text: str):
    assert spread(text, [Span(0, RATE)]) == []


@st.composite
def places_in_a_file(draw: st.DrawFn) -> Window:
    """Up to five pieces, each with up to three voices, on a grid of 10 ms."""
    at, pieces, voices = 0, [], []
    for _ in range(draw(st.integers(1, 5))):
        start = at = at + draw(st.integers(0, 300))
        for _ in range(draw(st.integers(0, 3))):
            voice = at + draw(st.integers(0, 40))
            at = voice + draw(st.integers(1, 200))
            voices.append((voice / 100, at / 100))
        at += draw(st.integers(1, 40))
        pieces.append((start / 100, at / 100))
    return window(pieces, voices)


@st.composite
def heard_by_the_model(draw: st.DrawFn) -> list[TimedWord]:
    """Words as an alignment gives them: in order, often back to back, at times too late."""
    edges = sorted(draw(st.lists(st.floats(0, 31), min_size=0, max_size=40)))
    words = list(itertools.pairwise(edges))
    return aligned(*(w for w in words if draw(st.integers(0, 4))))


@given(heard_by_the_model(), places_in_a_file())
def test_placed_words_are_all_there_in_order_and_inside_the_file(words, spoken: Window):
    placed = place(words, spoken)
    assert [word.text for word in placed] == [word.text for word in words]
    at_s = spoken.pieces[0].start / RATE if words else 0.0
    for word in placed:
        assert at_s - TOLERANCE_S <= word.start_s <= word.end_s
        at_s = word.end_s
    assert at_s <= spoken.pieces[-1].end / RATE + TOLERANCE_S


@given(heard_by_the_model(), places_in_a_file())
def test_the_words_of_a_voice_reach_from_its_start_to_its_end(words, spoken: Window):
    ends = {voice.start / RATE: voice.end / RATE for voice in spoken.voices}
    placed = [word for word in place(words, spoken) if word.voice is not None]
    for start_s, group in itertools.groupby(placed, key=lambda word: word.voice):
        members = list(group)
        (end_s,) = [end for start, end in ends.items() if abs(start - start_s) < TOLERANCE_S]
        assert members[0].start_s == pytest.approx(start_s)
        assert members[-1].end_s == pytest.approx(end_s)


@given(
    st.text("ab \n.あ", max_size=80),
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 300)), min_size=1, max_size=5),
)
def test_spread_words_are_all_there_in_order_and_each_inside_a_voice(text, shape):
    at, voices = 0, []
    for pause, length in shape:
        voices.append(Span((at + pause) * 160, (at + pause + length) * 160))
        at += pause + length
    words = spread(text, voices)
    assert "".join(word.text for word in words) == text.rstrip()
    at_s = voices[0].start / RATE
    for word in words:
        assert at_s - TOLERANCE_S <= word.start_s <= word.end_s
        at_s = word.end_s
        assert any(
            v.start / RATE - TOLERANCE_S <= word.start_s
            and word.end_s <= v.end / RATE + TOLERANCE_S
            for v in voices
        )
    if words and len(voices) == 1:
        assert words[0].start_s == pytest.approx(voices[0].start / RATE)
        assert words[-1].end_s == pytest.approx(voices[0].end / RATE)
