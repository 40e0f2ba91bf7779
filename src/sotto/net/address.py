"""Which addresses may be opened, and what may be said of them.

With worker/, the importer of runpod.

Invariant: an IP address leaves this module only after the SDK's guard has found every address of
its host public.
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from sotto.errors import SourceForbidden, SourceUnreachable
from sotto.net import sdk

DEFAULT_PORTS = {"http": 80, "https": 443}
PATH_SHOWN = 200


class TemporarilyUnknown(Exception):
    """The name of the host could not be looked up just now."""


def shown(url: str) -> str:
    """The part of `url` that a message may hold: scheme, host and path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    host = parts.netloc.rpartition("@")[2]
    path = "".join(character for character in parts.path if character.isprintable())
    return f"{parts.scheme}://{host}{path if len(path) <= PATH_SHOWN else path[:PATH_SHOWN] + '…'}"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of `url`.

    Raises SourceForbidden unless it is http or https, SourceUnreachable if it is malformed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceUnreachable(f"{shown(url)}: not an address that can be opened") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise SourceForbidden(f"{shown(url)}: only http and https addresses are opened")
    return parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port


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
    guard = _guard()
    try:
        addresses: list[str] = guard.resolve_and_validate(host, port)
    except guard.SSRFError as error:
        cause = error.__cause__
        if not isinstance(cause, socket.gaierror):
            raise SourceForbidden(
                f"{shown(url)}: the host is not on the public internet"
            ) from error
        if cause.errno == socket.EAI_AGAIN:
            raise TemporarilyUnknown from error
        raise SourceUnreachable(f"{shown(url)}: there is no such host") from error
    except UnicodeError as error:
        raise SourceUnreachable(f"{shown(url)}: not the name of a host") from error
    return addresses


def pinned_adapter(address: str) -> HTTPAdapter:
    """The SDK's adapter: connects to `address` whatever the URL's host resolves to by then."""
    adapter: HTTPAdapter = _guard().PinnedIPAdapter(address)
    return adapter


def _guard() -> Any:
    """The SDK's guard, imported when first needed: the SDK takes its time."""
    sdk.load()
    from runpod.serverless.utils import rp_ssrf

    return rp_ssrf
