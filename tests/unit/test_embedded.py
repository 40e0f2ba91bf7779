from __future__ import annotations

import base64
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.audio.embedded import decode_base64
from sotto.errors import RequestError

SOUND = bytes(range(256))


def refused(text: str) -> str:
    with pytest.raises(RequestError) as caught:
        decode_base64(text, "audio_base64")
    assert caught.value.field == "audio_base64"
    return str(caught.value)


@pytest.mark.parametrize("text", ["", " \r\n\t", "====", "data:audio/wav;base64,", "data:,"])
def test_nothing_is_refused(text: str) -> None:
    assert "audio_base64: " in refused(text)


@pytest.mark.parametrize(
    ("text", "character", "position"),
    [
        ("!AAA", "!", 0),
        ("AAAA AAAA\nAAA!", "!", 13),
        ("AAAAAAAA*", "*", 8),
        ("AA==AAAA", "=", 2),
        ("AAAAé", "é", 4),
        ("AAAA\u200bAAAA", "\u200b", 4),
        ("AA\x00A", "\x00", 2),
        ("https://host/a.wav", ":", 5),
        ("data:audio/wav;base64,AAAA$AAA", "$", 26),
        ("data:audio/wav;base64,AAé", "é", 24),
        ("A" * 100_000 + "\ud800", "\ud800", 100_000),
    ],
)
def test_a_stray_character_is_named_with_its_position(
    text: str, character: str, position: int
) -> None:
    message = refused(text)
    assert message == (f"audio_base64: not base64: character {character!r} at position {position}")


@pytest.mark.parametrize("text", ["A", "AAAAA", "AAAA\nA===", "data:;base64,A"])
def test_a_length_that_no_bytes_have_is_refused(text: str) -> None:
    assert "one is missing or one too many" in refused(text)


@pytest.mark.parametrize(
    ("text", "position"), [("AAAA====", 4), ("AA=", 2), ("AA===", 2), ("AAA==", 3), ("AA =", 3)]
)
def test_padding_of_the_wrong_length_is_refused(text: str, position: int) -> None:
    assert f"from position {position}" in refused(text)


def test_a_data_uri_without_a_comma_is_refused() -> None:
    assert "comma" in refused("data:audio/wav;base64")


@given(st.binary(min_size=1))
def test_standard_base64_comes_back(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode(), "f") == data


@given(st.binary(min_size=1))
def test_url_safe_base64_without_padding_comes_back(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert decode_base64(text, "f") == data


@given(st.binary(min_size=1), st.randoms(use_true_random=False))
def test_white_space_anywhere_is_ignored(data: bytes, random: object) -> None:
    text = "".join(
        c + random.choice(["", "", " ", "\r\n", "\t"]) for c in base64.b64encode(data).decode()
    )
    assert decode_base64(f"\n {text}", "f") == data


@given(st.text())
def test_any_text_is_decoded_or_refused(text: str) -> None:
    with suppress(RequestError):
        assert decode_base64(text, "f")


@given(st.binary(min_size=1), st.integers(min_value=0), st.sampled_from("!@#$%^&*(){}[]:;,.<>?ü"))
def test_garbage_is_never_skipped(data: bytes, where: int, garbage: str) -> None:
    text = base64.b64encode(data).decode()
    where %= len(text.rstrip("="))
    assert f"at position {where}" in refused(text[:where] + garbage + text[where:])


@pytest.mark.parametrize(
    "head",
    [
        "data:audio/mpeg;base64,",
        "data:;base64,",
        "DATA:audio/ogg; codecs=opus;BASE64,",
        " data:audio/wav;base64,\n",
        "data:audio/wav; base64,",
    ],
)
def test_a_data_uri_is_unwrapped(head: str) -> None:
    assert decode_base64(head + base64.b64encode(SOUND).decode(), "f") == SOUND


def test_a_percent_encoded_data_uri_is_decoded() -> None:
    text = "data:audio/wav," + "".join(f"%{byte:02X}" for byte in SOUND)
    assert decode_base64(text, "f") == SOUND


def test_a_long_percent_encoded_data_uri_is_refused_undecoded() -> None:
    told = refused("data:," + "%" * 20_000_000)
    assert "20000000 percent-encoded characters, of which at most 200000 are taken" in told
    assert "base64" in told


def test_twenty_megabytes_are_decoded_and_checked_without_a_loop() -> None:
    data = bytes(15_000_000)
    text = base64.b64encode(data).decode()
    started = time.perf_counter()
    assert decode_base64(text, "f") == data
    assert f"position {len(text)}" in refused(text + "!")
    assert time.perf_counter() - started < 5
