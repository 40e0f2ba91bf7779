"""Segments: what a person would read as one subtitle, whatever the windows were."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window, narrowed
from sotto.engine.base import Decoded, Draft, TimedWord
from sotto.transcript.breaks import LONGEST_S, LONGEST_TEXT, PAUSE_S
from sotto.transcript.coverage import uncovered
from sotto.transcript.parts import Part, spoken_words, translated_words
from sotto.transcript.segments import HELD_S, Assembly, Segment
from sotto.transcript.timing import PlacedWord


def part(
    text: str = "", *, start_s: float = 0.0, word_s: float = 0.5, translation: str | None = None
) -> Part:
    """A window in which each word of `text` has a voice of its own, without a pause."""
    words = text.split()
    end_s = start_s + max(1, len(words)) * word_s
    piece = Span(round(start_s * RATE), round(end_s * RATE))
    timed = tuple(
        TimedWord(f" {word}", (place,), place * word_s, (place + 1) * word_s, 0.9)
        for place, word in enumerate(words)
    )
    tokens = tuple(range(len(words)))
    draft = Draft(tokens, f" {text}", 0.2, -0.25, 0.01, 1.5)
    pcm = np.zeros(piece.end - piece.start, np.float32)
    window = Window(0, (piece,), (piece,), pcm)
    return Part(window, Decoded(draft, timed, translation, "en", 0.9, silent=False))


def assembled(*parts: Part, **options: object) -> list[Segment]:
    assembly = Assembly(**options)
    segments = [segment for each in parts for segment in assembly.add(spoken_words([each]))]
    return [*segments, *assembly.finish()]


def texts(segments: list[Segment]) -> list[str]:
    return [segment.text.strip() for segment in segments]


def test_no_words_give_no_segment():
    assert assembled(part(""), part("", start_s=5)) == []
    assert Assembly().finish() == []


def test_each_sentence_is_a_segment():
    assert texts(assembled(part("He came. She left! Why? No one knew…"))) == [
        "He came.",
        "She left!",
        "Why?",
        "No one knew…",
    ]


def test_an_abbreviation_does_not_end_a_segment():
    assert texts(assembled(part("And Mr. John Dashwood came."))) == ["And Mr. John Dashwood came."]


def test_a_full_stop_within_a_word_does_not_end_a_segment():
    words = [" It", " is", " 3.", "5", " or", " 1,", "000.", " See", " www.", "example.", "com."]
    whole = part("x " * len(words))
    timed = tuple(replace(w, text=t) for w, t in zip(whole.decoded.words, words, strict=True))
    whole = replace(whole, decoded=replace(whole.decoded, words=timed))
    assert texts(assembled(whole)) == ["It is 3.5 or 1,000.", "See www.example.com."]


def test_a_text_that_begins_without_a_space_is_no_end_of_the_window_before():
    first, second = part("He came."), part("Ella vino.", start_s=1.0)
    timed = tuple(replace(word, text=word.text.strip()) for word in second.decoded.words)
    second = replace(second, decoded=replace(second.decoded, words=timed))
    assert texts(assembled(first, second))[0] == "He came."


def test_a_sentence_across_two_windows_is_one_segment():
    first, second = part("It was the best", start_s=0), part("of times. Then it", start_s=2.0)
    third = part("was over.", start_s=3.5)
    segments = assembled(first, second, third)
    assert texts(segments) == ["It was the best of times.", "Then it was over."]
    assert (segments[0].start_s, segments[0].end_s) == (0.0, 3.0)


def test_an_open_sentence_is_held_back_and_a_closed_one_is_given_out_at_once():
    assembly = Assembly()
    assert texts(assembly.add(spoken_words([part("He came. Then he")]))) == ["He came."]
    assert texts(assembly.add(spoken_words([part("left.", start_s=2.0)]))) == []
    assert texts(assembly.finish()) == ["Then he left."]
    assert assembly.finish() == []


@pytest.mark.parametrize(
    ("pause_s", "count"), [(0.0, 1), (PAUSE_S - 0.05, 1), (PAUSE_S + 0.01, 2), (9.0, 2)]
)
def test_a_pause_ends_a_segment_when_it_is_long(pause_s: float, count: int):
    segments = assembled(part("they were"), part("not here", start_s=1.0 + pause_s))
    assert len(segments) == count


def test_a_long_sentence_becomes_several_segments_with_their_own_words_and_tokens():
    said = "and so they went on and on without ever stopping " * 6
    segments = assembled(part(said))
    assert len(segments) > 2
    for segment in segments:
        assert segment.end_s - segment.start_s <= LONGEST_S
        assert len(segment.text.strip()) <= LONGEST_TEXT
        assert len(segment.tokens) == len(segment.words)
        assert "".join(word.text for word in segment.words) == segment.text
    assert "".join(segment.text for segment in segments).split() == said.split()


def test_segments_are_numbered_from_one_without_a_gap():
    segments = assembled(part("One. Two."), part("Three. " + "four " * 40, start_s=5))
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))


def test_a_segment_has_the_numbers_of_the_window_in_which_it_begins():
    (segment,) = assembled(part("It was", start_s=12.34), part("he.", start_s=13.34))
    assert segment.seek == 1234
    assert (segment.temperature, segment.avg_logprob) == (0.2, -0.25)
    assert (segment.no_speech_prob, segment.compression_ratio) == (0.01, 1.5)


def test_words_are_left_out_when_not_wanted():
    (segment,) = assembled(part("It was he."), with_words=False)
    assert segment.words is None
    assert segment.tokens == (0, 1, 2)


def test_scripts_without_spaces_are_joined_without_spaces():
    voice = 0.0
    words = [
        PlacedWord(text, (place,), place * 0.2, place * 0.2 + 0.2, 0.9, voice)
        for place, text in enumerate("私は学生です。彼も学生です。")
    ]
    assembly = Assembly()
    origin = part("x")
    segments = [*assembly.add([(word, origin) for word in words]), *assembly.finish()]
    assert [segment.text for segment in segments] == ["私は学生です。", "彼も学生です。"]


def test_a_window_without_alignment_is_one_segment_from_its_first_voice_to_its_last():
    origin = part("He came. She left.", start_s=3.0)
    voices = (Span(4 * RATE, 5 * RATE - 800), Span(5 * RATE - 80, 5 * RATE))
    whole = Part(Window(0, origin.window.pieces, voices, origin.window.pcm), origin.decoded)
    (segment,) = Assembly().add_whole(whole)
    assert (segment.start_s, segment.end_s) == (4.0, 5.0)
    assert segment.text == " He came. She left."
    assert segment.words is None
    assert segment.tokens == (0, 1, 2, 3)


def test_a_window_without_alignment_and_without_text_is_no_segment():
    assert Assembly().add_whole(part("")) == []


def test_words_found_on_a_second_try_are_put_where_they_were_said():
    late = part("the end.", start_s=4.0)
    early = part("the start and", start_s=1.0)
    assert texts(assembled_together(late, early)) == ["the start and", "the end."]


def assembled_together(*parts: Part) -> list[Segment]:
    assembly = Assembly()
    return [*assembly.add(spoken_words(parts)), *assembly.finish()]


def test_text_without_an_end_is_given_out_while_it_goes_on():
    assembly = Assembly()
    early = assembly.add(spoken_words([part("and then " * 40, word_s=0.4)]))
    assert early
    late = assembly.finish()
    assert " ".join(texts([*early, *late])).split() == ("and then " * 40).split()
    assert late[-1].end_s - late[0].start_s <= HELD_S


# Translations.


def translated(*parts: Part) -> list[Segment]:
    assembly = Assembly(pause_s=math.inf, with_words=False)
    segments = [s for each in parts for s in assembly.add(translated_words([each]))]
    return [*segments, *assembly.finish()]


def test_each_sentence_of_a_translation_is_a_cue_inside_the_voices():
    segments = translated(part("x " * 12, start_s=10, translation=" Hello there. How are you?"))
    assert texts(segments) == ["Hello there.", "How are you?"]
    assert segments[0].start_s == 10.0
    assert segments[0].end_s == segments[1].start_s
    assert segments[-1].end_s == 16.0
    assert segments[0].words is None


def test_a_translated_sentence_may_go_on_in_the_next_window():
    segments = translated(
        part("x " * 4, start_s=0, translation=" I have"),
        part("x " * 4, start_s=2, translation=" a dream. Truly."),
    )
    assert texts(segments) == ["I have a dream.", "Truly."]


def voiced(whole: Part, *voices_s: tuple[float, float]) -> Part:
    """The part with these voices in place of its one."""
    voices = tuple(Span(round(start * RATE), round(end * RATE)) for start, end in voices_s)
    return Part(replace(whole.window, voices=voices), whole.decoded)


@pytest.mark.parametrize(
    ("asked_again", "cues"),
    [
        ([(5, 30)], [("Hello.", 0, 5), ("Then.", 5, 30)]),
        ([(5, 12), (20, 30)], [("Hello.", 0, 5), ("Then.", 20, 30)]),
        ([(0, 10)], [("Then.", 0, 10), ("Hello.", 10, 30)]),
        ([(0.05, 10)], [("Then.", 0.05, 10), ("Hello.", 10, 30)]),
        ([(0, 30)], [("Hello.", 0, 0), ("Then.", 0, 30)]),
    ],
)
def test_a_translation_keeps_to_the_speech_that_was_not_asked_for_again(asked_again, cues):
    first = voiced(part("x " * 60, translation=" Hello."), (0, 30))
    second = voiced(part("x " * 60, translation=" Then."), *asked_again)
    assembly = Assembly(pause_s=math.inf, with_words=False)
    segments = [*assembly.add(translated_words([first, second])), *assembly.finish()]
    assert [(s.text.strip(), s.start_s, s.end_s) for s in segments] == cues


def test_the_parts_of_a_translation_come_in_the_order_of_time():
    first = voiced(part("x " * 60, translation=" One. Two."), (0, 8), (9, 14), (16, 30))
    second = voiced(part("x " * 60, translation=" Three. Four."), (16, 22))
    third = voiced(part("x " * 60, translation=" Five."), (20, 22))
    assembly = Assembly(pause_s=math.inf, with_words=False)
    words = translated_words([first, second, third])
    segments = [*assembly.add(words), *assembly.finish()]
    assert texts(segments) == ["One.", "Two.", "Three.", "Four.", "Five."]
    assert [s.start_s for s in segments] == sorted(s.start_s for s in segments)
    assert segments[1].end_s == 14
    assert (segments[2].start_s, segments[3].end_s) == (16, 20)


def test_a_translation_asked_for_again_on_both_sides_stands_on_both_sides():
    first = voiced(part("x " * 60, translation=" Two. Three."), (0, 2), (3, 6), (7, 10), (11, 18))
    second = voiced(part("x " * 60, translation=" One. Four five six seven."), (0, 2), (11, 18))
    assembly = Assembly(pause_s=math.inf, with_words=False)
    segments = [*assembly.add(translated_words([first, second])), *assembly.finish()]
    assert texts(segments) == ["One.", "Two.", "Three.", "Four five six seven."]
    assert [s.start_s for s in segments] == [0, 3, 7, 11]
    assert segments[-1].end_s == 18


def test_a_translation_without_a_voice_of_its_own_stands_unmixed_before_what_took_its_place():
    first = voiced(part("x " * 60, translation=" Yes, of course."), (1, 10))
    second = voiced(part("x " * 60, translation=" We are going to the park."), (1, 10))
    assembly = Assembly(pause_s=math.inf, with_words=False)
    segments = [*assembly.add(translated_words([first, second])), *assembly.finish()]
    assert " ".join(texts(segments)) == "Yes, of course. We are going to the park."
    assert [s.start_s for s in segments] == sorted(s.start_s for s in segments)
    assert [(s.start_s, s.end_s) for s in segments if "course" in s.text] == [(1, 1)]
    assert [s.end_s for s in segments if "park" in s.text] == [10]


# What a segment says of its window.


def in_language(whole: Part, language: str) -> Part:
    return Part(whole.window, replace(whole.decoded, language=language))


def test_a_segment_of_words_held_back_is_of_the_window_that_its_first_word_came_from():
    first = part("and so " * 5, start_s=0)
    later = part("he went on " * 8, start_s=5)
    later = Part(
        later.window, replace(later.decoded, draft=replace(later.decoded.draft, avg_logprob=-0.75))
    )
    segments = assembled(first, later)
    assert len(segments) > 2
    assert {(s.seek, s.avg_logprob) for s in segments if s.start_s >= 5} == {(500, -0.75)}
    assert (segments[0].seek, segments[0].avg_logprob) == (0, -0.25)


def test_a_segment_has_one_language():
    segments = assembled(
        in_language(part("and so he said", start_s=0), "en"),
        in_language(part("no quiero nada", start_s=2), "es"),
    )
    assert [(s.language, s.text.strip(), s.seek) for s in segments] == [
        ("en", "and so he said", 0),
        ("es", "no quiero nada", 200),
    ]


def test_a_window_without_translation_gives_no_cue():
    assert translated(part("x", translation=None), part("x", start_s=5, translation="")) == []


# Whatever the engine says.

speech = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["and", "then,", "he", "came.", "Mr.", "彼。", "…"]), max_size=30),
        st.floats(0.05, 2.0),
        st.floats(0.0, 3.0),
    ),
    max_size=5,
)


@given(speech)
def test_any_speech_gives_segments_in_order_with_all_words_and_readable(windows):
    parts, at_s, said = [], 0.0, []
    for words, word_s, pause_s in windows:
        at_s += pause_s
        parts.append(part(" ".join(words), start_s=at_s, word_s=word_s))
        at_s += max(1, len(words)) * word_s
        said += words
    segments = assembled(*parts)
    assert " ".join(segment.text for segment in segments).split() == said
    at_s = 0.0
    for segment in segments:
        assert at_s <= segment.start_s <= segment.end_s
        assert segment.text.strip()
        if len(segment.words) > 1:
            assert segment.end_s - segment.start_s <= LONGEST_S + 1e-6
            assert len(segment.text.strip()) <= LONGEST_TEXT
        at_s = segment.end_s


def test_texts_of_two_windows_in_one_segment_are_parted_by_a_space():
    """A window's text may begin without one."""
    first, second = part("It was"), unspaced(part("the best", start_s=1.0))
    (segment,) = assembled(first, second)
    assert segment.text == " It was the best"
    assert [word.text for word in segment.words] == [" It", " was", " the", " best"]
    chinese = [unspaced(part("天", start_s=at)) for at in (0.0, 0.5)]
    assert texts(assembled(*chinese)) == ["天天"]


def unspaced(one: Part) -> Part:
    first, *others = one.decoded.words
    words = (replace(first, text=first.text.strip()), *others)
    return Part(one.window, replace(one.decoded, words=words))


def test_a_word_beside_a_voice_that_is_asked_for_again_leaves_it_to_what_is_found_there():
    """The window ends early, with a word whose end lies in the pause, nearer to the next voice."""
    piece = Span(0, 30 * RATE)
    voices = (Span(RATE, 9 * RATE), Span(10 * RATE, 29 * RATE))
    whole = Window(0, (piece,), voices, np.zeros(30 * RATE, np.float32))
    said = [TimedWord(" the", (1,), 1.0, 8.0, 0.9), TimedWord(" dog.", (2,), 8.0, 9.8, 0.9)]
    (missing,) = uncovered(whole, said)
    again = narrowed(whole, [missing], 0.4)
    found = [TimedWord(f" word{at}", (at,), 1.0 + at, 2.0 + at, 0.9) for at in range(10)]
    draft = part("x").decoded
    parts = [
        Part(whole, replace(draft, words=tuple(said))),
        Part(again, replace(draft, words=tuple(found))),
    ]
    words = [word for word, _ in spoken_words(parts)]
    assert [word.text for word in words[:3]] == [" the", " dog.", " word0"]
    assert words[1].end_s < 10.0 == words[2].start_s
    assert all(word.end_s - word.start_s > 0.5 for word in words[2:])
