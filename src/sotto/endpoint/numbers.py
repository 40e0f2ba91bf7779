"""Kinds of numbers that options of `sotto endpoint` take: text in, a number within its limits out.

Invariant: what comes out is finite; what is refused is refused with what is allowed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def number(low: float, high: float) -> Callable[[str], float]:
    """A type of option: a number from `low` to `high`."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; use a number from {low:g} to {high:.10g}"
        )

    return parsed


def whole(low: int, high: int) -> Callable[[str], int]:
    """A type of option: a whole number from `low` to `high`."""

    def parsed(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= len(str(high)):
            value = int(text)
            if low <= value <= high:
                return value
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; use a whole number from {low} to {high}"
        )

    return parsed


def listed(one: Callable[[str], Number]) -> Callable[[str], tuple[Number, ...]]:
    """A type of option: several of another type, separated by commas."""
    return lambda text: tuple(one(part.strip()) for part in text.split(","))
