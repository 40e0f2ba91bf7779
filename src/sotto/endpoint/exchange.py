"""One request to a JSON API out, its decoded answer or one clear sentence in.

Invariant: the key goes to the address it was given for and nowhere else, redirects included; it
and what was sent as an environment stand in no message. Every exception of requests is translated
here, none kept as a cause, since it holds the request.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.auth import AuthBase

from sotto import __version__

CONNECT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024**2
SHOWN_LETTERS = 300
LASTING = frozenset({501, 505})
"""Failures of a server that no time mends. All others may pass, those of what stands before the
API too: a proxy has numbers of its own for them, such as 520."""
PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~:%-]+)+")
"""No part of a path may lead elsewhere: many come out of the API's own answers."""
MEANINGS = {
    401: "the API key is not accepted",
    403: "the API key has no right to do this",
    404: "there is no such thing, or the key may not see it",
    409: "that cannot be done in the present state",
    429: "too many requests",
}
REMEDIES = {
    401: "check RUNPOD_API_KEY",
    403: "give the key more permissions in RunPod's console, or use another one",
    429: "try again later",
}
LEAST_SECRET_LETTERS = 4
"""A shorter value of an environment cannot be hidden: it is part of too many words."""


class ApiError(Exception):
    """What the API, or the way to it, refuses: one sentence, which never holds the key.

    `status`: of the answer over HTTP, None where there was none. `may_have_acted`: the request may
    have been carried out though no answer says so. `may_pass`: the same request may succeed later.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        may_have_acted: bool = False,
        may_pass: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.may_have_acted = may_have_acted
        self.may_pass = may_pass
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as often as it is sent. `is_repeatable`: twice is as good as once."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    is_repeatable: bool
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Exchange:
    """Sends calls to the API at `url`, which has no slash at its end.

    `timeout_s`: the longest silence, and the longest an answer may take.
    """

    def __init__(self, key: str, url: str, timeout_s: float) -> None:
        self._key = key
        self._url = url
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.auth = _Bearer(key)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, call: Call) -> Any:
        """What the API answers to `call`; None for an answer without content. Raises ApiError."""
        if not PATH.fullmatch(call.path):
            raise ApiError(f"{call.path!r}: not a path of the API")
        with self._translated(call), self._requested(call) as response:
            body = self._read(call, response)
            if not 200 <= response.status_code < 300:
                self._refuse(call, response, body)
            if response.status_code == 204:
                return None
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, RecursionError):
                raise ApiError(
                    f"{call}: the answer is not JSON; is {self._url} the API's address?",
                    status=response.status_code,
                    may_have_acted=True,
                ) from None

    def shown(self, text: str, call: Call | None = None) -> str:
        """`text` of the API as a message may hold it: one line, not long, without secrets."""
        secrets = _secrets(self._key, call)
        # As it was sent, and as it may look once it is part of one line.
        line = _hidden(_one_line(_hidden(text, secrets)), secrets).rstrip(".")
        return line if len(line) <= SHOWN_LETTERS else f"{line[: SHOWN_LETTERS - 3]}..."

    def _requested(self, call: Call) -> requests.Response:
        return self._session.request(
            call.method,
            self._url + call.path,
            params=dict(call.query),
            data=None if call.body is None else msgspec.json.encode(call.body),
            headers={
                "User-Agent": f"sotto/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **({} if call.body is None else {"Content-Type": "application/json"}),
            },
            allow_redirects=False,
            stream=True,
            timeout=(min(CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s),
        )

    def _read(self, call: Call, response: requests.Response) -> bytes:
        """The body, within the size and the time that an answer may have."""
        until = time.monotonic() + self._timeout_s
        body = bytearray()
        while piece := response.raw.read1(64 * 1024, decode_content=True):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise ApiError(
                    f"{call}: the answer has more than {MAX_ANSWER_BYTES} bytes",
                    status=response.status_code,
                    may_have_acted=True,
                )
            if time.monotonic() > until:
                raise requests.Timeout
        return bytes(body)

    def _refuse(self, call: Call, response: requests.Response, body: bytes) -> NoReturn:
        status = response.status_code
        meaning, remedy = MEANINGS.get(status, "is refused"), REMEDIES.get(status, "")
        is_redirect = 300 <= status < 400
        if is_redirect:
            meaning = "redirected to another address, where the key is not sent"
        elif status >= 500:
            meaning = "the API fails"
            remedy = "" if status in LASTING else "try again later"
        may_pass = status == 429 or (status >= 500 and status not in LASTING)
        retry_after_s = _seconds(response.headers.get("Retry-After"))
        if retry_after_s is not None and may_pass:
            remedy = f"try again in {retry_after_s:.0f} s"
        detail = "" if is_redirect else self.shown(_detail(body), call)
        told = f"{call}: {meaning} ({status})"
        if detail:
            told += f": {detail}"
        if remedy:
            told += f"; {remedy}"
        raise ApiError(
            told,
            status=status,
            may_have_acted=status >= 500 or is_redirect,
            may_pass=may_pass,
            retry_after_s=retry_after_s,
        )

    @contextmanager
    def _translated(self, call: Call) -> Iterator[None]:
        """Turn what fails on the way to the API into an ApiError."""
        where = f"{call}: {urlsplit(self._url).netloc}"
        try:
            yield
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            reason = f"{where} does not answer within {self._timeout_s:g} s"
            connected = not _is_by(error, urllib3.exceptions.ConnectTimeoutError)
            raise ApiError(reason, may_have_acted=connected, may_pass=True) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _is_by(error, ssl.SSLCertVerificationError):
                raise ApiError(f"{where} has a certificate that is not valid") from None
            if _is_by(error, urllib3.exceptions.NewConnectionError):
                raise ApiError(f"{where} cannot be reached", may_pass=True) from None
            reason = f"{where} broke the connection off"
            raise ApiError(reason, may_have_acted=True, may_pass=True) from None


class _Bearer(AuthBase):
    """The key as a header. As `auth`, so that no ~/.netrc takes its place."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _secrets(key: str, call: Call | None) -> list[str]:
    """What an answer may repeat and a message may not, also in one line: longest first."""
    sent = call.body.get("env") if call is not None and call.body is not None else None
    values = sent.values() if isinstance(sent, Mapping) else ()
    shapes = {shape for value in values for shape in (value, _one_line(value))}
    long = (shape for shape in shapes if len(shape) >= LEAST_SECRET_LETTERS)
    return sorted((key, *long), key=len, reverse=True)


def _hidden(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _detail(body: bytes) -> str:
    """What the API says of a refusal."""
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return ""
    errors = problem.get("errors")
    said = [
        problem.get("detail") or problem.get("title") or problem.get("error"),
        *(errors if isinstance(errors, list) else []),
    ]
    return "; ".join(text for text in said if isinstance(text, str))


def _is_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Is `kind` at the root of `error`? The libraries wrap causes in each other's arguments."""
    seen: set[int] = set()
    found: list[object] = [error]
    while found:
        one = found.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        if isinstance(one, kind):
            return True
        seen.add(id(one))
        found += [*one.args, one.__context__, getattr(one, "reason", None)]
    return False


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds, which is how the API gives it."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return None
    return float(text)
