"""Audio written inside the job's JSON: base64 or a `data:` URI in, bytes out; no I/O.

Invariant: every character of the text is accounted for; one that cannot be part of base64 is
named with its position, never skipped.
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote_to_bytes

from sotto.errors import RequestError

WHITE_SPACE = b" \t\r\n\f\v"
DATA_URI = re.compile(r"\s*data:(?P<type>[^,]*),", re.IGNORECASE)
BASE64_MARK = re.compile(r";\s*base64\s*\Z", re.IGNORECASE)
NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/_\-" + WHITE_SPACE + rb"]")
MOST_PERCENT_ENCODED = 200_000
"""Characters; megabytes of them would take gigabytes to decode."""
URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode_base64(text: str, field: str) -> bytes:
    """Decode `text`, the value of the job's `field`, to bytes.

    Takes both base64 alphabets, with or without padding, with white space anywhere, alone or in a
    `data:` URI; and short `data:` URIs that are percent-encoded instead.

    Raises RequestError for an empty text, a long percent-encoded one and broken base64; positions
    count characters of `text` from 0.
    """
    uri = DATA_URI.match(text)
    if uri is None:
        if text[:64].lstrip()[:5].lower() == "data:":
            raise RequestError(field, "not a data: URI: the comma before the data is missing")
        data = _from_base64(text, 0, field)
    elif BASE64_MARK.search(uri["type"]):
        data = _from_base64(text[uri.end() :], uri.end(), field)
    else:
        data = _from_percents(text[uri.end() :], field)
    if not data:
        raise RequestError(field, "is empty; give the bytes of an audio file as base64")
    return data


def _from_percents(text: str, field: str) -> bytes:
    """Decode what is percent-encoded, in lists of a piece for each percent sign."""
    if len(text) > MOST_PERCENT_ENCODED:
        raise RequestError(
            field,
            f"{len(text)} percent-encoded characters, of which at most {MOST_PERCENT_ENCODED} are "
            "taken; give the audio as base64, in a data: URI with ';base64' before the comma",
        )
    return unquote_to_bytes(text)


def _from_base64(text: str, offset: int, field: str) -> bytes:
    """Decode base64 that begins at character `offset` of what the caller gave."""
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise _stray(text[error.start], offset + error.start, field) from None
    body = raw.rstrip(b"=" + WHITE_SPACE)
    stray = NOT_BASE64.search(body)
    if stray:
        raise _stray(stray[0].decode("ascii"), offset + stray.start(), field)

    digits = body.translate(URL_SAFE_TO_STANDARD, delete=WHITE_SPACE)
    padding = raw.count(b"=", len(body))
    if len(digits) % 4 == 1:
        raise RequestError(
            field,
            f"not base64: {len(digits)} characters without white space and padding; "
            "one is missing or one too many",
        )
    if padding and padding != -len(digits) % 4:
        raise RequestError(
            field,
            f"not base64: {padding} padding characters '=' from position "
            f"{offset + raw.index(b'=')}, where {-len(digits) % 4} belong",
        )
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _stray(character: str, position: int, field: str) -> RequestError:
    return RequestError(field, f"not base64: character {character!r} at position {position}")
