"""What a scenario says about its rows: columns, goals, plots. Pure data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.rows import Row


@dataclass(frozen=True, slots=True)
class Column:
    """A value of the rows, its heading, and how it is written."""

    value: str
    heading: str
    form: str = ".1f"

    def cell(self, row: Row) -> str:
        """The value as text; a row without it has an empty cell."""
        value = row.values.get(self.value)
        return "" if value is None else format(value, self.form)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a variant's value has to be: `least` or `most`."""

    what: str
    variant: str
    value: str
    least: float | None = None
    most: float | None = None
    form: str = ".2f"

    def met(self, measured: float) -> bool:
        """Is the goal reached?"""
        low = self.least is None or measured >= self.least
        return low and (self.most is None or measured <= self.most)

    def bound(self) -> str:
        """The goal as text."""
        if self.most is None:
            return f"≥ {format(self.least, self.form)}"
        return f"≤ {format(self.most, self.form)}"


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars of a value, one for each row.

    `group`: bars of each `system` beside each other, grouped by this value. `along`: `value` drawn
    over this one, a line for each `system`.
    """

    name: str
    value: str
    label: str
    group: str | None = None
    along: str | None = None
    along_label: str = ""


class Scenario(Protocol):
    """A module of `bench.scenarios`; its docstring is its text in the report."""

    __doc__: str | None
    TITLE: str
    COLUMNS: Sequence[Column]
    GOALS: Sequence[Goal]
    PLOTS: Sequence[Plot]

    @staticmethod
    def run(repeats: int) -> Iterator[Row]:
        """Measure; each row is given out as soon as it is known."""
        ...
