"""Errors as the code that raises them sees them."""

from __future__ import annotations

import pytest

from sotto import errors
from sotto.errors import RequestError, SottoError

RAISED = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SottoError) and kind.code
]


def test_a_request_error_names_its_field() -> None:
    error = RequestError("language", "'english' is not a Whisper language code; did you mean 'en'?")
    assert error.field == "language"
    assert str(error).startswith("language: 'english' is not")


def test_a_request_error_about_no_field_is_only_its_reason() -> None:
    error = RequestError("", "expected an object, got null")
    assert (str(error), error.field) == ("expected an object, got null", "")


@pytest.mark.parametrize(
    ("group", "members"),
    [
        (
            errors.SourceError,
            {"source_unreachable", "source_forbidden", "source_too_large", "source_timeout"},
        ),
        (errors.AudioError, {"audio_undecodable", "audio_empty", "audio_too_long"}),
        (errors.DeliveryError, {"result_too_large", "upload_failed"}),
        (errors.EngineError, {"engine_failed", "out_of_memory"}),
    ],
)
def test_a_group_catches_its_members_and_no_others(
    group: type[SottoError], members: set[str]
) -> None:
    assert {kind.code for kind in RAISED if issubclass(kind, group)} == members


def test_what_sending_again_cannot_mend_is_not_retryable() -> None:
    assert {kind.code for kind in RAISED if not kind.retryable} == {
        "invalid_request",
        "unknown_model",
        "source_forbidden",
        "source_too_large",
        "audio_undecodable",
        "audio_empty",
        "audio_too_long",
        "out_of_memory",
        "result_too_large",
    }
