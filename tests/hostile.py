"""Hosts that a worker must never open, and names that lead where a test wants, each time anew."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

LOOPBACK = (
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "localhost",
    "LocalHost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
)
METADATA = ("169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]")
METADATA_ELSEWHERE = (
    "100.100.100.200",
    "192.0.0.192",
    "[::ffff:192.0.0.192]",
    "[64:ff9b::c000:c0]",
    "[fd20:ce::254]",
)
PRIVATE = (
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
)
WRAPPED = (
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::808:808]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
)
NOT_PUBLIC = (*LOOPBACK, *METADATA, *METADATA_ELSEWHERE, *PRIVATE, *WRAPPED)
METADATA_NAMES = (
    "metadata.google.internal",
    "metadata",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
)


class Names:
    """Names that only a test knows: each lookup of one takes its next answer, the last one stays.

    An answer is a list of IP addresses.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lookups: list[str] = []
        self._answers: dict[str, Iterator[Sequence[str]]] = {}
        self._truth = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def lead(self, name: str, *answers: Sequence[str]) -> None:
        self._answers[name] = itertools.chain(answers, itertools.repeat(answers[-1]))

    def _look_up(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in self._answers:
            return self._truth(host, port, *args, **kwargs)
        self.lookups.append(host)
        return [
            info
            for address in next(self._answers[host])
            for info in self._truth(address, port, *args, **kwargs)
        ]


def call_public(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let the guard take `address` for a public one."""
    guard = pytest.importorskip("runpod.serverless.utils.rp_ssrf")
    truth = guard.is_safe_address
    monkeypatch.setattr(guard, "is_safe_address", lambda ip: ip == address or truth(ip))
