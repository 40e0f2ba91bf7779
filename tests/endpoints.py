"""Endpoints by how they scale."""

from __future__ import annotations

from sotto.endpoint.config import Endpoint, Scaling, Workers


def by_delay(
    least: int = 0, most: int = 3, *, delay_s: float = 4, idle_timeout_s: float = 10
) -> Endpoint:
    return Endpoint(
        name="sotto",
        workers=Workers(min=least, max=most, idle_timeout_s=idle_timeout_s),
        scaling=Scaling(kind="queue_delay", value=delay_s),
    )


def by_count(least: int = 0, most: int = 3, *, jobs: int = 4) -> Endpoint:
    return Endpoint(
        name="sotto",
        workers=Workers(min=least, max=most),
        scaling=Scaling(kind="request_count", value=jobs),
    )
