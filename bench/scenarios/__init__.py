"""What is measured, one module each."""

from __future__ import annotations

import importlib
from typing import cast

from bench.table import Scenario

NAMES = (
    "long", "accuracy", "clips", "fairness", "memory", "frontend", "device",
    "start", "inflight", "overhead", "gpu",
)  # fmt: skip

"""What `make bench` measures."""
APART = ("soak",)
"""What is measured when asked for by name."""


def load(name: str) -> Scenario:
    """The scenario called `name`."""
    return cast(Scenario, importlib.import_module(f"bench.scenarios.{name}"))
