"""The URL of a Redis server: checked, and told to people without its password.

Invariant: nothing that may be part of a password stands in a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from sotto.endpoint.watchdog.refusal import WatchdogError

REDIS_VARIABLE = "REDIS_URL"
SCHEMES = ("redis", "rediss", "unix")
EXPECTED = (
    "use redis://[[user]:password@]host[:port][/database], rediss:// for TLS, or "
    "unix:///path; in a password, write other characters than letters and digits as %XX"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`shown`: as people may see it."""

    url: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def without_secrets(self, text: str) -> str:
        """`text` of the server or of a library, in one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def address(url: str) -> RedisAddress:
    """Raises WatchdogError, which does not show the URL."""
    try:
        parts = urlsplit(url)
        host, port, options = parts.hostname, parts.port, parse_qsl(parts.query, True)
    except ValueError:
        raise _refused("not the address of a Redis server") from None
    is_path = parts.scheme == "unix"
    is_whole = bool(parts.path) and not host if is_path else bool(host)
    # A stray / # or ? in a password moves the rest of it into the path or behind it.
    if parts.scheme not in SCHEMES or not is_whole or parts.fragment:
        raise _refused("not the address of a Redis server")
    if not is_path and not re.fullmatch(r"/?|/\d{1,9}", parts.path):
        raise _refused("the path is not the number of a database")
    for name, _ in options:
        if not (name.startswith("ssl_") and parts.scheme == "rediss") and name != "db":
            raise _refused("options behind ? are db, and ssl_... with rediss://; no others")
    given = [parts.password or "", *(value for name, value in options if name == "ssl_password")]
    secrets = {form for text in given for form in (text, unquote(text)) if text}
    where = parts.path if is_path else f"{host}:{port or 6379}{parts.path.rstrip('/')}"
    longest_first = sorted(secrets, key=len, reverse=True)
    return RedisAddress(url, f"{parts.scheme}://{where}", tuple(longest_first))


def _refused(reason: str) -> WatchdogError:
    return WatchdogError(f"--redis, {REDIS_VARIABLE}: {reason}; {EXPECTED}")
