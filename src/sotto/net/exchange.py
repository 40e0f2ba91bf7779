"""A request out, the answer at the end of its redirects in: what a fetch and an upload share.

Invariant: a hop goes to an address that the guard has just found public, or to one that the
operator chose; a caller's headers stay with the origin they were given for; every exception of
requests and urllib3 is translated here, none kept as a cause, since its text holds the query.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from sotto.errors import SottoError, SourceForbidden, SourceTimeout, SourceUnreachable
from sotto.net.address import TemporarilyUnknown, origin, pinned_adapter, public_addresses, shown
from sotto.net.headers import USER_AGENT
from sotto.net.watch import Watch

PAUSES_S = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt
MAX_REDIRECTS = 5
REDIRECTS = {
    "GET": frozenset({301, 302, 303, 307, 308}),
    "PUT": frozenset({307, 308}),  # after any other, what follows would be a GET
}
WORTH_RETRYING = frozenset({408, 429, 500, 502, 503, 504})

# At DEBUG it logs every address with its query, in which signatures lie.
logging.getLogger("urllib3").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class NetLimits:
    """How long a transfer may take and how much a fetch may bring.

    `read_timeout_s` is the longest silence, `fetch_timeout_s` the whole, retries included; an
    upload has as long.
    """

    connect_timeout_s: float
    read_timeout_s: float
    fetch_timeout_s: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `headers` are the caller's, `ours` go along wherever it is sent.

    `by_operator`: the address is the operator's choice and may be private.
    """

    method: Literal["GET", "PUT"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    ours: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    by_operator: bool = False

    def redirected(self, location: str) -> Call:
        """The request that a redirect to `location` asks for."""
        target = urljoin(self.url, location)
        if origin(target) == origin(self.url):
            return replace(self, url=target)
        return replace(self, url=target, headers={}, by_operator=False)


class Broken(Exception):
    """An attempt failed in a way that may pass; `error` is for the caller if it does not."""

    def __init__(self, error: SottoError) -> None:
        super().__init__(str(error))
        self.error = error


def persist(attempt: Callable[[], None], watch: Watch) -> None:
    """Attempt until it succeeds, fails for good, or has broken once more than there are pauses."""
    for pause_s in (*PAUSES_S, None):
        try:
            attempt()
            return
        except Broken as broken:
            watch.check()
            if pause_s is None:
                raise broken.error from None
            watch.pause(pause_s)


@contextmanager
def translated(name: str, breakage: Callable[[], str]) -> Iterator[None]:
    """Turn what fails inside into Broken or a SourceError about `name`."""
    try:
        yield
    except TemporarilyUnknown:
        raise Broken(SourceUnreachable(f"{name}: the host is not known just now")) from None
    except (requests.Timeout, ReadTimeoutError):
        raise Broken(SourceTimeout(f"{name}: the server does not answer")) from None
    except requests.exceptions.SSLError:
        raise SourceUnreachable(f"{name}: no secure connection to the server") from None
    except (requests.ConnectionError, HTTPError):
        raise Broken(SourceUnreachable(f"{name}: {breakage()}")) from None
    except requests.RequestException:
        raise SourceUnreachable(f"{name}: the server's answer cannot be read") from None


@contextmanager
def answered(call: Call, limits: NetLimits, watch: Watch) -> Iterator[requests.Response]:
    """The answer at the end of the redirects, its body still unread.

    The SDK's `safe_get` would take the headers along to wherever it is sent; here the caller's own
    stay behind with their origin.
    """
    for _ in range(MAX_REDIRECTS + 1):
        with _hop(call, limits, watch) as response:
            location = response.headers.get("Location")
            if response.status_code not in REDIRECTS[call.method] or location is None:
                yield response
                return
        try:
            call = call.redirected(_as_sent(location))
        except ValueError:
            raise SourceUnreachable(f"{shown(call.url)}: redirects to no address") from None
    raise SourceForbidden(f"{shown(call.url)}: more than {MAX_REDIRECTS} redirects")


def _as_sent(location: str) -> str:
    """The header as the server wrote it: often UTF-8, which is read as Latin-1."""
    try:
        return location.encode("latin-1").decode()
    except UnicodeError:
        return location


@contextmanager
def _hop(call: Call, limits: NetLimits, watch: Watch) -> Iterator[requests.Response]:
    """One request, to the first of the host's addresses that takes the connection."""
    own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    refusal = requests.ConnectionError()
    for adapter in _adapters(call):
        watch.check()
        with watch.session(adapter) as session:
            try:
                response = session.request(
                    call.method,
                    call.url,
                    headers={**own, **call.ours, **call.headers},
                    # As a file it is sent in pieces, each with the time of a connection; whole, all
                    # of it would have to be out within that time.
                    data=None if call.body is None else io.BytesIO(call.body),
                    stream=True,
                    allow_redirects=False,
                    timeout=(min(limits.connect_timeout_s, watch.left_s), limits.read_timeout_s),
                )
            except requests.ConnectionError as error:
                watch.check()
                refusal = error
                continue
            except ValueError:
                raise SourceUnreachable(
                    f"{shown(call.url)}: not an address that can be opened"
                ) from None
            with response:
                yield response
                return
    raise refusal


def _adapters(call: Call) -> Iterator[HTTPAdapter]:
    """One way of connecting for each address that may be tried."""
    if call.by_operator:
        yield HTTPAdapter()
        return
    for address in public_addresses(call.url):
        yield pinned_adapter(address)
