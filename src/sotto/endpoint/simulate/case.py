"""One thing to simulate, with all that is assumed of it."""

from __future__ import annotations

from dataclasses import dataclass

from sotto.endpoint.config import Endpoint
from sotto.endpoint.simulate.prices import Price
from sotto.endpoint.simulate.service import Service
from sotto.endpoint.simulate.trace import Trace


@dataclass(frozen=True, slots=True)
class Case:
    """Traffic, an endpoint, its workers and their price. `told`: how the workers are known."""

    trace: Trace
    endpoint: Endpoint
    service: Service
    told: str
    price: Price

    @property
    def has_idle_timeout(self) -> bool:
        """Does an idle timeout act? Else the number of jobs alone decides when a worker goes."""
        return self.endpoint.scaling.kind == "queue_delay"

    @property
    def audio_hours_a_day(self) -> float:
        """Hours of audio that a day brings."""
        return sum(self.trace.audio_s) / 3600 / self.trace.days
