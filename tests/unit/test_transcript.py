"""A job's answer while it grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window
from sotto.engine.base import Decoded, Draft, TimedWord
from sotto.language import Language
from sotto.transcript.parts import Part
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript

WORD_S = 0.5
ENGLISH = Language("en")


def part(text: str, start_s: float = 0.0, spoken_s: float | None = None, **changes: object) -> Part:
    """A window that is spoken for `spoken_s` seconds, else for as long as `text` has words."""
    words = text.split()
    length_s = spoken_s or max(1, len(words)) * WORD_S
    piece = Span(round(start_s * RATE), round((start_s + length_s) * RATE))
    timed = tuple(
        TimedWord(f" {word}", (place,), place * WORD_S, (place + 1) * WORD_S, 0.9)
        for place, word in enumerate(words)
    )
    draft = Draft(tuple(range(len(words))), f" {text}", 0.0, -0.25, 0.01, 1.5)
    decoded = Decoded(draft, timed, None, "en", 0.9, silent=False)
    pcm = np.zeros(piece.end - piece.start, np.float32)
    return Part(Window(0, (piece,), (piece,), pcm), replace(decoded, **changes))


class Growing(Transcript):
    """A transcript of one track, all channels mixed."""

    def __init__(self, language: Language = ENGLISH, warnings: Iterable[str] = ()) -> None:
        super().__init__(warnings)
        self.only = self.track(None, language)

    def add(self, *parts: Part) -> list[Segment]:
        return [self.keep(segment) for segment in self.only.add(parts)]

    def end(self) -> list[Segment]:
        last = [self.keep(segment) for segment in self.only.finish()]
        self.finish()
        return last


def texts(segments) -> list[str]:
    return [segment.text.strip() for segment in segments]


def test_a_job_without_speech_has_an_empty_answer():
    transcript = Growing(Language(None))
    assert transcript.end() == []
    assert (transcript.segments, transcript.translation) == ([], [])
    assert transcript.language is None
    assert (transcript.duration_s, transcript.decoded_s, transcript.uncovered_s) == (0.0, 0.0, 0.0)
    assert transcript.warnings == []


def test_what_is_given_out_is_what_is_kept_and_never_changes():
    transcript = Growing()
    first = transcript.add(part("He came. Then he"))
    given_out = list(first)
    second = transcript.add(part("left. And", start_s=2.0))
    third = transcript.end()
    assert texts(given_out) == ["He came."]
    assert texts(second) == ["Then he left."]
    assert texts(third) == ["And"]
    assert transcript.segments == [*given_out, *second, *third]
    assert [segment.id for segment in transcript.segments] == [1, 2, 3]


def test_the_blocks_that_pass_are_counted_and_not_touched():
    transcript = Growing()
    blocks = [np.zeros(RATE, np.float32), np.zeros(RATE // 2, np.float32)]
    assert all(a is b for a, b in zip(transcript.only.measure(iter(blocks)), blocks, strict=True))
    assert transcript.duration_s == 1.5


def test_seconds_that_the_engine_got_are_counted():
    transcript = Growing()
    transcript.add(part("one two"))
    transcript.add(part("three", start_s=5))
    assert transcript.decoded_s == pytest.approx(1.5)


def test_the_language_is_that_of_the_first_channel_in_which_somebody_speaks():
    spanish = Language("es")
    assert Growing(spanish).language is spanish
    silence, english = Transcript(), Language("en")
    silence.track(0, Language(None))
    silence.track(1, english)
    assert silence.language is english


def test_a_translation_grows_beside_the_segments_and_is_numbered_by_itself():
    transcript = Growing()
    transcript.add(part("Hola. Adiós.", translation=" Hello. Goodbye."))
    assert texts(transcript.translation) == ["Hello."]
    transcript.end()
    assert texts(transcript.translation) == ["Hello.", "Goodbye."]
    assert [cue.id for cue in transcript.translation] == [1, 2]
    assert texts(transcript.segments) == ["Hola.", "Adiós."]


def test_without_alignment_a_window_is_one_segment():
    transcript = Growing()
    whole = part("He came. She left.", words=None)
    assert texts(transcript.add(whole)) == ["He came. She left."]
    assert transcript.end() == []


@pytest.mark.parametrize(("count", "says"), [(1, "1 window was"), (2, "2 windows were")])
def test_windows_judged_silent_are_told_in_a_warning(count: int, says: str):
    transcript = Growing(warnings=["first"])
    for place in range(count):
        transcript.add(Part(part("hm", place).window, part("hm").decoded.silenced()))
    assert transcript.end() == []
    assert transcript.warnings[0] == "first"
    assert says in transcript.warnings[1]
    assert "no_speech_threshold" in transcript.warnings[1]


@pytest.mark.parametrize(
    ("starts_s", "told"),
    [
        ([], []),
        ([0.0], []),
        ([1.0, 1.4999], []),
        ([1.5], ["1 of 1 clips begins behind the end of the audio (1.5 s)"]),
        ([0.5, 2.0], ["1 of 2 clips begins behind the end of the audio (1.5 s)"]),
        ([0.5, 2.0, 9e8], ["2 of 3 clips begin behind the end of the audio (1.5 s)"]),
    ],
)
def test_a_clip_behind_the_end_is_told_in_a_warning(starts_s: list[float], told: list[str]):
    transcript = Growing()
    list(transcript.only.measure(iter([np.zeros(RATE * 3 // 2, np.float32)])))
    transcript.finish([Span(round(s * RATE), round((s + 1) * RATE)) for s in starts_s])
    assert transcript.warnings == [f"clip_timestamps: {text}" for text in told]


def test_speech_that_got_no_words_is_counted():
    transcript = Growing()
    transcript.add(part("one two three four", spoken_s=10.0))
    assert transcript.uncovered_s == pytest.approx(8.0)


def test_speech_that_a_second_try_found_is_not_counted_and_its_words_are_in_place():
    transcript = Growing()
    first = part("one two.", spoken_s=3.0)
    again = part("three four.", start_s=1.0, spoken_s=2.0)
    transcript.add(first, again)
    transcript.end()
    assert transcript.uncovered_s == 0.0
    assert texts(transcript.segments) == ["one two.", "three four."]
    assert [(s.start_s, s.end_s) for s in transcript.segments] == [(0.0, 1.0), (1.0, 3.0)]


def test_speech_asked_for_again_in_vain_is_no_silent_window():
    transcript = Growing()
    again = part("hm", start_s=1.0, spoken_s=2.0)
    again = Part(again.window, again.decoded.silenced())
    transcript.add(part("one two.", spoken_s=3.0), again)
    transcript.end()
    assert transcript.uncovered_s == pytest.approx(2.0)
    assert transcript.warnings == []


def test_without_alignment_it_is_not_known_what_was_missed():
    transcript = Growing()
    transcript.add(part("He came.", spoken_s=30.0, words=None))
    transcript.add(part("She left.", start_s=30.0, words=None))
    assert transcript.uncovered_s is None


def test_channels_are_numbered_together_and_add_up():
    transcript = Transcript()
    left, right = (transcript.track(channel, ENGLISH) for channel in (0, 1))
    for track, text, start_s in ((left, "one.", 0), (right, "two.", 1), (left, "three.", 2)):
        track.add([part(text, start_s, translation=text)])
        for segment in track.finish():
            transcript.keep(segment)
    assert [(s.id, s.channel, s.text) for s in transcript.segments] == [
        (1, 0, " one."),
        (2, 1, " two."),
        (3, 0, " three."),
    ]
    assert [(cue.id, cue.channel) for cue in transcript.translation] == [(1, 0), (2, 1), (3, 0)]
    assert transcript.decoded_s == pytest.approx(1.5)
