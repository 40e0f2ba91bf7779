"""Which texts count as repetitive, whatever they are written in."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.speech_data import clip

from sotto.engine.repetition import compression_ratio
from sotto.options import Options

LIMIT = Options().compression_ratio_threshold


def of_bytes(text: str) -> float:
    """openai-whisper's own measure."""
    return len(text.encode()) / len(zlib.compress(text.encode()))


@given(st.text(st.characters(max_codepoint=127)))
def test_of_ascii_it_is_openais_number(text: str) -> None:
    assert compression_ratio(text) == of_bytes(text)


@given(st.text())
def test_any_text_has_one(text: str) -> None:
    assert 0 <= compression_ratio(text) <= max(1, len(text))


def test_an_empty_text_is_not_repetitive() -> None:
    assert compression_ratio("") == 0


@pytest.mark.parametrize(
    "phrase",
    ["Press one now. ", "Нажмите один. ", "谢谢观看 ", "ありがとうございました。", "شكرا لكم "],
)
def test_a_text_that_runs_in_circles_is_repetitive_in_every_script(phrase: str) -> None:
    assert compression_ratio(20 * phrase) > 2 * LIMIT


@pytest.mark.parametrize("name", ["en-long", "es-long", "fr-long", "it-long", "ru-long"])
def test_what_people_say_in_half_a_minute_is_not_repetitive(name: str) -> None:
    said = ""
    for utterance in clip(name).utterances:
        said = f"{said} {utterance.text}".strip()[-450:]
        assert compression_ratio(said) < LIMIT


def test_another_script_is_no_more_repetitive_than_ours() -> None:
    english = "Press one to turn your microphone on or off, and two to lock the conference."
    cyrillic = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщ")
    russian = english.lower().translate(cyrillic)
    assert compression_ratio(russian) == pytest.approx(compression_ratio(english.lower()), rel=0.05)
    assert of_bytes(russian) > 1.2 * of_bytes(english.lower())
