"""What the operator may set, and how a wrong setting is told."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from sotto.models.fetch import HUB_ENDPOINT
from sotto.settings import SECRETS, Settings, SettingsError, variable

NUMBERS = [
    "SOTTO_MAX_AUDIO_S",
    "SOTTO_CONNECT_TIMEOUT_S",
    "SOTTO_READ_TIMEOUT_S",
    "SOTTO_FETCH_TIMEOUT_S",
    "SOTTO_JOB_TIMEOUT_S",
    "SOTTO_STOP_GRACE_S",
]
WHOLE_NUMBERS = ["SOTTO_MAX_AUDIO_BYTES", "SOTTO_MAX_WAITING"]
MAY_BE_EMPTY = {
    "hub_token": None,
    "temp_dir": None,
    "audio_roots": (),
    "s3_endpoint_url": None,
    "s3_bucket": None,
    "s3_region": None,
    "s3_access_id": None,
    "s3_access_secret": None,
}


def refusal(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return str(caught.value)


# Bad input


@pytest.mark.parametrize(
    ("name", "text", "use"),
    [
        ("SOTTO_DEVICE", "gpu", "auto, cpu or cuda"),
        ("SOTTO_DEVICE", "CPU", "auto, cpu or cuda"),
        ("SOTTO_MODEL_FALLBACK", "tiny", "none or baked"),
        ("SOTTO_LOG_LEVEL", "warn", "debug, info, warning or error"),
        ("SOTTO_MODEL_DOWNLOAD", "yes", "true, false, 1 or 0"),
        ("SOTTO_MODEL_DOWNLOAD", "2", "true, false, 1 or 0"),
        ("SOTTO_HUB_ENDPOINT", "ftp://x", "an address that begins with http:// or https://"),
        ("SOTTO_HUB_ENDPOINT", "https://", "an address that begins with http:// or https://"),
        ("SOTTO_S3_ENDPOINT_URL", "s3://x", "an address that begins with http:// or https://"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(
    name: str, text: str, use: str
) -> None:
    assert refusal(**{name: text}) == f"{name}: {text!r} is not allowed; use {use}"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "0", "-1", "ten", "1_0", "1 s"])
def test_a_number_that_cannot_be_used_is_refused_with_the_bound(name: str, text: str) -> None:
    expected = f"{name}: {text!r} is not allowed; use a finite number above 0"
    assert refusal(**{name: text}) == expected


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
@pytest.mark.parametrize("text", ["0", "-5", "1.5", "2GB", "nan", "0x10", "٣"])
def test_a_whole_number_that_cannot_be_used_is_refused_with_the_bound(name: str, text: str) -> None:
    expected = f"{name}: {text!r} is not allowed; use a whole number, 1 or more"
    assert refusal(**{name: text}) == expected


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
@pytest.mark.parametrize("field", sorted(set(Settings.__struct_fields__) - set(MAY_BE_EMPTY)))
def test_an_empty_value_is_refused(field: str, text: str) -> None:
    name = variable(field)
    assert refusal(**{name: text}).startswith(f"{name}: {text!r} is not allowed; use ")


@pytest.mark.parametrize("text", ["", "  "])
@pytest.mark.parametrize(("field", "nothing"), MAY_BE_EMPTY.items())
def test_an_empty_value_means_none_where_none_is_possible(
    field: str, nothing: object, text: str
) -> None:
    assert getattr(Settings.from_env({variable(field): text}), field) == nothing


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SOTTO_DEVISE", "SOTTO_DEVICE"),
        ("SOTTO_MAX_AUDIO_SECONDS", "SOTTO_MAX_AUDIO_S"),
        ("SOTTO_device", "SOTTO_DEVICE"),
        ("sotto_hub_token", "SOTTO_HUB_TOKEN"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert refusal(**{name: "hf_x"}) == f"{name}: no such setting; did you mean {meant}?"


@pytest.mark.parametrize("name", ["SOTTO_", "SOTTO_ZZZ", "SOTTO___DICT__", "SOTTO_FROM_ENV"])
def test_an_unknown_setting_like_no_other_is_refused_without_a_suggestion(name: str) -> None:
    assert refusal(**{name: "x"}) == f"{name}: no such setting"


def test_all_problems_are_told_at_once() -> None:
    told = refusal(SOTTO_DEVICE="gpu", SOTTO_MAX_WAITING="0", SOTTO_NOTHING_LIKE_IT="1")
    assert [line.split(":")[0] for line in told.splitlines()] == [
        "SOTTO_DEVICE",
        "SOTTO_MAX_WAITING",
        "SOTTO_NOTHING_LIKE_IT",
    ]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([variable(f) for f in Settings.__struct_fields__]), st.text(max_size=20)
    )
)
def test_any_text_is_either_taken_or_refused_by_name(environ: dict[str, str]) -> None:
    assert {line.split(":")[0] for line in problems(environ)} <= set(environ)


def problems(environ: dict[str, str]) -> list[str]:
    try:
        Settings.from_env(environ)
    except SettingsError as error:
        return str(error).splitlines()
    return []


# Secrets


def test_what_looks_like_a_secret_is_one() -> None:
    words = ("token", "secret", "password", "key", "credential")
    alike = {f for f in Settings.__struct_fields__ if any(word in f for word in words)}
    assert alike <= SECRETS


def test_a_secret_is_never_shown() -> None:
    read = Settings.from_env({"SOTTO_HUB_TOKEN": "hf_sesame"})
    assert read.hub_token == "hf_sesame"
    assert "sesame" not in f"{read} {read!r}"
    assert "hub_token=***" in repr(read)


def test_a_refused_secret_is_not_shown_either() -> None:
    class Strict(Settings, frozen=True, kw_only=True):
        hub_token: Annotated[str, Meta(pattern="^hf_", title="a token of the hub")] = "hf_"

    with pytest.raises(SettingsError) as caught:
        Strict.from_env({"SOTTO_HUB_TOKEN": "open sesame"})
    assert str(caught.value) == "SOTTO_HUB_TOKEN: *** is not allowed; use a token of the hub"


def test_a_secret_that_is_not_set_is_seen_to_be_unset() -> None:
    assert "hub_token=None" in repr(Settings())


# Good input


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_other_variables_are_left_alone() -> None:
    assert Settings.from_env({"PATH": "/bin", "RUNPOD_SOTTO_X": "1", "SOTTO": "1"}) == Settings()


def test_every_setting_is_read_as_its_type() -> None:
    environ = {
        "SOTTO_MODEL": "large-v3",
        "SOTTO_MODEL_DOWNLOAD": "TRUE",
        "SOTTO_HUB_ENDPOINT": "http://mirror.example:8080/hub",
        "SOTTO_DEVICE": "cuda",
        "SOTTO_AUDIO_ROOTS": "/runpod-volume:/mnt/audio",
        "SOTTO_TEMP_DIR": "/scratch",
        "SOTTO_MAX_AUDIO_BYTES": "1048576",
        "SOTTO_MAX_AUDIO_S": "90.5",
    }
    assert Settings.from_env(environ) == Settings(
        model="large-v3",
        model_download=True,
        hub_endpoint="http://mirror.example:8080/hub",
        device="cuda",
        audio_roots=("/runpod-volume", "/mnt/audio"),
        temp_dir="/scratch",
        max_audio_bytes=1048576,
        max_audio_s=90.5,
    )


@pytest.mark.parametrize(
    ("text", "flag"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)],
)
def test_a_boolean_is_true_false_1_or_0(text: str, flag: bool) -> None:
    assert Settings.from_env({"SOTTO_MODEL_DOWNLOAD": text}).model_download is flag


def test_space_around_a_value_is_trimmed() -> None:
    read = Settings.from_env(
        {
            "SOTTO_DEVICE": " cpu\n",
            "SOTTO_MAX_WAITING": "\t7 ",
            "SOTTO_AUDIO_ROOTS": " /a : /b c :",
            "SOTTO_HUB_TOKEN": "hf_x\r\n",
        }
    )
    assert (read.device, read.max_waiting) == ("cpu", 7)
    assert (read.audio_roots, read.hub_token) == (("/a", "/b c"), "hf_x")


def test_the_temporary_folder_is_the_systems_own_unless_set() -> None:
    assert Settings().temp_root is None
    assert str(Settings(temp_dir="/scratch").temp_root) == "/scratch"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().model = "tiny"


def test_the_hub_of_the_settings_is_that_of_the_builder() -> None:
    assert Settings().hub_endpoint == HUB_ENDPOINT
