"""RunPod's JSON APIs: a path and a body in, the decoded answer out, patiently.

Invariant: a request is repeated only where doing it twice is doing it once, or where it surely was
not done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sotto.endpoint.exchange import ApiError, Call, Exchange

__all__ = ["API_URL", "JOBS_URL", "Api", "ApiError", "api_url", "jobs_url", "key_from"]

API_URL = "https://api.runpod.io"
"""The REST API v2, and GraphQL."""
JOBS_URL = "https://api.runpod.ai"
"""What an endpoint's clients call."""
KEY_VARIABLE = "RUNPOD_API_KEY"
API_URL_VARIABLE = "RUNPOD_API_URL"
JOBS_URL_VARIABLE = "RUNPOD_JOBS_URL"
HOST = re.compile(r"[A-Za-z0-9._:-]+")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
PAUSES_S = (1.0, 2.0, 4.0)  # before the second, third and fourth attempt
LONGEST_PAUSE_S = 60.0  # a limit by the minute is over then; one by the day is not worth waiting


def key_from(environ: Mapping[str, str]) -> str:
    """The API key that the environment holds. Raises ApiError, which says how to set it."""
    key = environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise ApiError(
            f"{KEY_VARIABLE}: not set; create a key in RunPod's console under Settings, API Keys, "
            f"and give it by `export {KEY_VARIABLE}=...`"
        )
    return key


def api_url(environ: Mapping[str, str]) -> str:
    """Where the REST API is."""
    return environ.get(API_URL_VARIABLE, "").strip() or API_URL


def jobs_url(environ: Mapping[str, str]) -> str:
    """Where the endpoints are that jobs go to."""
    return environ.get(JOBS_URL_VARIABLE, "").strip() or JOBS_URL


class Api:
    """One JSON API behind a key. As a context manager it closes its connections.

    `timeout_s`: the longest silence, and the longest an answer may take. `pause` sleeps between
    attempts.
    """

    def __init__(
        self,
        key: str,
        url: str = API_URL,
        *,
        timeout_s: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ApiError for a key or an address that cannot be used."""
        if not re.fullmatch(r"[!-~]+", key):
            raise ApiError(f"{KEY_VARIABLE}: not a key: it has letters that no key has")
        self._exchange = Exchange(key, _checked(url), timeout_s)
        self._pause = pause

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._exchange.close()

    def get(self, path: str, **query: str) -> Any:
        """What `path` answers. Raises ApiError."""
        return self._persist(Call("GET", path, is_repeatable=True, query=query))

    def post(self, path: str, body: Mapping[str, Any], *, is_repeatable: bool = False) -> Any:
        """What `path` answers to `body`. Raises ApiError.

        Unless it is repeatable it is sent again only if it surely was not carried out.
        """
        return self._persist(Call("POST", path, is_repeatable=is_repeatable, body=body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """What `path` answers to the values that it shall have from now on. Raises ApiError."""
        return self._persist(Call("PATCH", path, is_repeatable=True, body=body))

    def delete(self, path: str) -> None:
        """Delete what is at `path`. Raises ApiError, with status 404 if it never was there."""
        self._persist(Call("DELETE", path, is_repeatable=True))

    def shown(self, text: str) -> str:
        """`text` of the API as a message may hold it: one line, not long, without the key."""
        return self._exchange.shown(text)

    def _persist(self, call: Call) -> Any:
        """Send until there is an answer, a refusal for good, or no pause is left."""
        may_have_acted = False
        for pause_s in (*PAUSES_S, None):
            try:
                return self._exchange.send(call)
            except ApiError as error:
                if call.method == "DELETE" and error.status == 404 and may_have_acted:
                    return None
                is_safe = call.is_repeatable or not error.may_have_acted
                error.may_have_acted = may_have_acted = may_have_acted or error.may_have_acted
                wait_s = max(pause_s or 0.0, error.retry_after_s or 0.0)
                is_last = pause_s is None or wait_s > LONGEST_PAUSE_S
                if is_last or not (is_safe and error.may_pass):
                    raise
            self._pause(wait_s)
        raise AssertionError


def _checked(url: str) -> str:
    """The address without a slash at its end. Raises ApiError, which does not show it."""
    where = f"{API_URL_VARIABLE}, {JOBS_URL_VARIABLE}: "
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ApiError(f"{where}not an address; use https://host") from None
    if parts.scheme not in {"https", "http"} or port == 0 or not HOST.fullmatch(host or ""):
        raise ApiError(f"{where}not an address; use https://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ApiError(f"{where}not allowed with a user, a query or a fragment; use https://host")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ApiError(f"{where}http:// would show the key to everyone on the way; use https://")
    return url.rstrip("/")
