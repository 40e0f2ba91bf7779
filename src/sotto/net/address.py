"""Which addresses may be opened, and what may be said of them.

Invariant: an IP address leaves this module only after the SDK's guard has found every address of
its host public.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from sotto.errors import SourceError, SourceForbidden, SourceUnreachable
from sotto.net import sdk

DEFAULT_PORTS = {"http": 80, "https": 443}
PART_SHOWN = 200
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
MISSED = tuple(
    ipaddress.ip_network(text) for text in ("192.0.0.0/24", "64:ff9b:1::/48", "fec0::/10")
)
"""Not public, though an older Python's `ipaddress`, on which the SDK's guard stands, says global.

The first has the metadata service of one cloud.
"""


class TemporarilyUnknown(Exception):
    """The name of the host could not be looked up just now."""


def bare(url: str) -> str:
    """`url` without its secrets: scheme, host and path. Raises ValueError if it is malformed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shown(url: str) -> str:
    """The part of `url` that a message may hold: scheme, host and path, neither of them endless."""
    try:
        parts = urlsplit(bare(url))
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{_short(parts.netloc)}{_short(parts.path)}"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of `url`.

    Raises SourceForbidden unless it is http or https, SourceUnreachable if it is malformed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SourceUnreachable(f"{shown(url)}: not an address that can be opened") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise SourceForbidden(f"{shown(url)}: only http and https addresses are opened")
    return parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port


def openable(url: str) -> bool:
    """Has `url` the form of an address that can be opened? Where it leads is not looked at."""
    try:
        origin(url)
    except SourceError:
        return False
    return url.isprintable()


def public_addresses(url: str) -> list[str]:
    """The IP addresses of the URL's host.

    Raises SourceForbidden if one of them is not public or a proxy would be used, SourceUnreachable
    if there is no such host, TemporarilyUnknown if asking again may help.
    """
    _, host, port = origin(url)
    if select_proxy(url, get_environ_proxies(url)):
        raise SourceForbidden(
            f"{shown(url)}: the worker's environment sends this through a proxy, which could lead "
            "it to a private address; unset the proxy or list the host in NO_PROXY"
        )
    not_public = SourceForbidden(f"{shown(url)}: the host is not on the public internet")
    guard = _guard()
    try:
        addresses: list[str] = guard.resolve_and_validate(host, port)
    except guard.SSRFError as error:
        cause = error.__cause__
        if not isinstance(cause, socket.gaierror):
            raise not_public from None
        if cause.errno == socket.EAI_AGAIN:
            raise TemporarilyUnknown from None
        raise SourceUnreachable(f"{shown(url)}: there is no such host") from None
    except UnicodeError:
        raise SourceUnreachable(f"{shown(url)}: not the name of a host") from None
    if any(_leads_inside(address, guard) for address in addresses):
        raise not_public
    return addresses


def pinned_adapter(address: str) -> HTTPAdapter:
    """The SDK's adapter: connects to `address` whatever the URL's host resolves to by then."""
    adapter: HTTPAdapter = _guard().PinnedIPAdapter(address)
    return adapter


def _leads_inside(address: str, guard: Any) -> bool:
    """Is this an address that the SDK's guard lets pass, and still not a public one?"""
    parsed = ipaddress.ip_address(address)
    if any(parsed in network for network in MISSED):
        return True
    inner = _inner(parsed)
    return inner is not None and (not guard.is_safe_address(inner) or _leads_inside(inner, guard))


def _inner(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """The IPv4 address that the system or a gateway finds in an IPv6 one.

    Behind NAT64 or 6to4, `64:ff9b::7f00:1` and `2002:7f00:1::` may well end at 127.0.0.1.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return None
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = address.ipv4_mapped or address.sixtofour or (last if address in NAT64 else None)
    return None if inner is None else str(inner)


def _short(part: str) -> str:
    text = "".join(character for character in part if character.isprintable())
    return text if len(text) <= PART_SHOWN else f"{text[:PART_SHOWN]}…"


def _guard() -> Any:
    """The SDK's guard, imported when first needed: the SDK takes its time."""
    sdk.load()
    from runpod.serverless.utils import rp_ssrf

    return rp_ssrf
