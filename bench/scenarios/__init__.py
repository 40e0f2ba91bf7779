"""What is measured, one module each."""

from __future__ import annotations

import importlib
from typing import cast

from bench.table import Scenario

NAMES = ("long", "accuracy", "clips", "fairness", "memory", "frontend", "device", "gpu")


def load(name: str) -> Scenario:
    """The scenario called `name`."""
    return cast(Scenario, importlib.import_module(f"bench.scenarios.{name}"))
