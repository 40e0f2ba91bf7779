"""What a caller sees of an error.

Invariant: it can be sent as JSON in UTF-8, whatever the caller's own words in it are.
"""

from __future__ import annotations

from typing import Any

from sotto.errors import RequestError, SottoError


def failure(error: SottoError) -> dict[str, Any]:
    """A job's answer to `error`: the SDK makes `error` the job's error, the rest its output."""
    details: dict[str, Any] = {"code": error.code, "retryable": error.retryable}
    if isinstance(error, RequestError):
        details["field"] = in_utf8(error.field)
    return {"error": in_utf8(f"{error.code}: {error}"), **details}


def in_utf8(text: str) -> str:
    """`text` with a question mark for each code point that UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode()
