"""The two things that are done with an address: what it serves is fetched, an answer is put there.

Invariant: one object for a whole process, and no state but its limits.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import BinaryIO

from sotto.net.exchange import NetLimits
from sotto.net.fetch import fetch
from sotto.net.upload import Destination, put


class Net:
    """Opens addresses for jobs, within limits; safe to use from many threads."""

    def __init__(self, limits: NetLimits) -> None:
        self.limits = limits

    def fetch(
        self, url: str, headers: Mapping[str, str], into: BinaryIO, cancelled: threading.Event
    ) -> None:
        """Write what `url` answers into `into`; see `sotto.net.fetch.fetch`."""
        fetch(url, headers, into, self.limits, cancelled)

    def put(self, destination: Destination, body: bytes, cancelled: threading.Event) -> None:
        """Store `body` at `destination`; see `sotto.net.upload.put`."""
        put(destination, body, self.limits, cancelled)
