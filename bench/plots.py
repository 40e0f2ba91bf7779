"""Rows in, SVG files out: one plot each, the same rows always the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.rows import Row
from bench.table import Plot

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "sotto",  # else every file has its own ids
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "axes.axisbelow": True,
    }
)
OURS, OTHERS = "#1b6ca8", ("#b8bec5", "#8d959d", "#666e76")
US = "Sotto"
WIDTH_IN = 6.4


def draw(rows: Sequence[Row], plot: Plot, path: Path) -> bool:
    """Write the plot; False if no row has its value."""
    rows = [row for row in rows if plot.value in row.values]
    if not rows:
        return False
    height = 3.0 if plot.group or plot.along else 0.34 * len(rows) + 0.9
    figure, axes = plt.subplots(figsize=(WIDTH_IN, height))
    if plot.along is not None:
        _lines(axes, rows, plot, plot.along)
    elif plot.group is not None:
        _groups(axes, rows, plot, plot.group)
    else:
        _bars(axes, rows, plot)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def _bars(axes: Any, rows: Sequence[Row], plot: Plot) -> None:
    names = [row.variant for row in rows]
    values = [row.values[plot.value] for row in rows]
    compared = any(name.startswith(US) for name in names)
    colours = [_colour(name, 0) if compared else OURS for name in names]
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(plot.label)
    axes.margins(x=0.12)


def _groups(axes: Any, rows: Sequence[Row], plot: Plot, by: str) -> None:
    groups = list(dict.fromkeys(row.values[by] for row in rows))
    systems = list(dict.fromkeys(row.values["system"] for row in rows))
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        own = {row.values[by]: row for row in rows if row.values["system"] == system}
        at = [place + number * width for place, group in enumerate(groups) if group in own]
        values = [own[group].values[plot.value] for group in groups if group in own]
        axes.bar(at, values, width, label=system, color=_colour(system, number))
    middle = (len(systems) - 1) * width / 2
    axes.set_xticks([place + middle for place in range(len(groups))], groups)
    axes.set_ylabel(plot.label)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=len(systems))


def _lines(axes: Any, rows: Sequence[Row], plot: Plot, along: str) -> None:
    for number, group in enumerate(dict.fromkeys(row.values["system"] for row in rows)):
        own = [row for row in rows if row.values["system"] == group]
        axes.plot(
            [row.values[along] for row in own],
            [row.values[plot.value] for row in own],
            marker="o",
            linestyle="-" if number % 2 else "--",
            label=group,
            color=_colour(group, number),
        )
    axes.set_xlabel(plot.along_label)
    axes.set_ylabel(plot.label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _colour(name: str, number: int) -> str:
    """The colour of a system's bars or line: only ours has one."""
    return OURS if name.startswith(US) else OTHERS[number % len(OTHERS)]
