"""The languages are the tokenizer's, and a wrong one is met with the right one."""

from __future__ import annotations

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import given
from hypothesis import strategies as st

from sotto.languages import LANGUAGES, LONGEST, OTHER_NAMES, WITHOUT_SPACES, suggest


def test_the_codes_are_those_of_the_tokenizer() -> None:
    assert set(LANGUAGES) == set(_LANGUAGE_CODES)


def test_no_two_codes_have_one_name() -> None:
    assert len(set(LANGUAGES.values())) == len(LANGUAGES)


def test_other_names_are_those_of_languages_and_no_names_twice() -> None:
    assert set(OTHER_NAMES.values()) <= set(LANGUAGES)
    assert not set(OTHER_NAMES) & (set(LANGUAGES) | set(LANGUAGES.values()))
    assert all(len(name) <= LONGEST for name in OTHER_NAMES)


@pytest.mark.parametrize(("name", "code"), OTHER_NAMES.items())
def test_what_its_speakers_call_a_language_is_not_taken_for_another(name: str, code: str) -> None:
    assert suggest(name) == suggest(f" {name.upper()}") == code


def test_languages_without_spaces_are_languages() -> None:
    assert set(LANGUAGES) >= WITHOUT_SPACES


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("english", "en"),
        ("English", "en"),
        (" ENGLISH ", "en"),
        ("englsh", "en"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("zh-Hans-CN", "zh"),
        ("YUE-hk", "yue"),
        ("germany", "de"),
        ("norvegian", "no"),
        ("haitian creole", "ht"),
        ("deutch", "de"),
        ("norsk", "no"),
        ("american", "en"),
        ("espanol", "es"),
        ("francais", "fr"),
        ("portugues", "pt"),
        ("turkce", "tr"),
    ],
)
def test_what_was_meant_is_suggested(wrong: str, meant: str) -> None:
    assert suggest(wrong) == meant


@pytest.mark.parametrize("wrong", ["", "  ", "-", "klingon", "xx", "123", "自動", "\ud800"])
def test_nothing_is_suggested_for_what_is_like_no_language(wrong: str) -> None:
    assert suggest(wrong) is None


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_a_suggestion_is_a_code_whatever_is_asked(wrong: str) -> None:
    assert suggest(wrong) in {None, *LANGUAGES}


def test_a_megabyte_is_answered_too() -> None:
    assert suggest("english" * 150_000) is None
