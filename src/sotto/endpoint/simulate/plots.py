"""The points of a sweep as a picture: cost along, time up, a line for each maximum of workers.

Invariant: the same points give the same SVG, byte for byte.
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.sweep import Point, frontier, recommended
from sotto.endpoint.simulate.target import Measure, Target

FORMS = (".png", ".svg")
STYLE = {
    "svg.hashsalt": "sotto",  # else every file has its own ids
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
SIZE_IN = (6.4, 4.0)
DOTS_AN_INCH = 150
WIDE, LINEAR_S = 50.0, 1.0
"""So many times the shortest time, and a second at least, is too far away for an even scale."""
SAME = 6.0
"""Points that are fewer dots apart look like one."""
LINE, BEST, WANTED = "#b8bec5", "#1b6ca8", "#b3541e"
TEXT = "#4a5056"
Offset = tuple[float, float]
BESIDE: tuple[Offset, ...] = ((5, 5), (5, -5), (-5, -5), (-5, 5))
"""Where a label may lie, in points from what it names."""
BEHIND: tuple[Offset, ...] = ((7, 0), *BESIDE)
ABOVE: tuple[Offset, ...] = ((-5, 5), (-5, -5))


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn. `measure`: that of the points. `target`: None draws none."""

    points: Sequence[Point]
    case: Case
    measure: Measure
    target: Target | None


def check(path: Path) -> None:
    """Raise SimulationError unless a picture of that name can be drawn."""
    if path.suffix.lower() not in FORMS:
        raise SimulationError(f"--plot: {str(path)!r} is not allowed; use a name in .png or .svg")
    if not path.parent.is_dir():
        raise SimulationError(f"--plot: there is no folder {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise SimulationError(
            "--plot: matplotlib is not installed; `python -m pip install matplotlib` installs it"
        )


def draw(picture: Picture, path: Path) -> None:
    """Write the picture; `check` the path first. Raises SimulationError if it cannot be written."""
    import matplotlib as mpl  # an extra, and slow to import
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, dpi=DOTS_AN_INCH, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel("cost, USD a day")
        axes.set_ylabel(f"{picture.measure} of a job, s")
        axes.margins(0.14)
        _curves(axes, picture)
        _scale(axes, [point.value_s for point in picture.points])
        figure.draw_without_rendering()  # from here on it is known where each point lies
        _names(_Labels(axes, picture.points), picture)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        try:
            figure.savefig(path, metadata=metadata)
        except OSError as error:
            raise SimulationError(f"--plot: {path}: {error.strerror}") from None


def _curves(axes: Any, picture: Picture) -> None:
    """A line for each maximum along its idle timeouts, the frontier, the target, what meets it."""
    for _, group in groupby(picture.points, key=lambda point: point.max_workers):
        axes.plot(*_places(group), color=LINE, marker="o", markersize=3, linewidth=1)
    axes.plot(*_places(frontier(picture.points)), color=BEST, marker="o", markersize=4)
    if picture.target is None:
        return
    axes.axhline(picture.target.most_s, color=WANTED, linewidth=1, linestyle="--", zorder=0)
    good = recommended(picture.points, picture.target)
    if good is not None:
        axes.plot(*_places([good]), "o", markersize=12, fillstyle="none", color=WANTED)


def _scale(axes: Any, times_s: Sequence[float]) -> None:
    """Times of seconds and of hours in one picture need a logarithm, and 0 must have its place."""
    if max(times_s) > WIDE * max(LINEAR_S, min(times_s)):
        axes.set_yscale("symlog", linthresh=LINEAR_S)
        axes.yaxis.set_major_formatter("{x:g}")


def _names(labels: _Labels, picture: Picture) -> None:
    """Name what is drawn, the most important first: what has no room goes without."""
    if picture.target is not None:
        right = max(point.usd_a_day for point in picture.points)
        labels.put(str(picture.target), (right, picture.target.most_s), WANTED, ABOVE)
    for most, group in groupby(picture.points, key=lambda point: point.max_workers):
        *_, last = group
        labels.put(f"max {most}", (last.usd_a_day, last.value_s), TEXT, BEHIND)
    if not picture.case.has_idle_timeout:
        return
    best = frontier(picture.points)
    first = [best[0], best[-1]]
    if picture.target is not None and (good := recommended(picture.points, picture.target)):
        first.insert(0, good)
    for point in dict.fromkeys([*first, *best]):
        text = f"idle {point.idle_timeout_s:g} s"
        labels.put(text, (point.usd_a_day, point.value_s), BEST)


def _places(points: Iterable[Point]) -> tuple[list[float], list[float]]:
    """Along, up."""
    own = list(points)
    return [point.usd_a_day for point in own], [point.value_s for point in own]


class _Labels:
    """Text beside points, none over another or over one of `points`."""

    def __init__(self, axes: Any, points: Iterable[Point]) -> None:
        from matplotlib.transforms import Bbox

        self._axes = axes
        places = axes.transData.transform([(point.usd_a_day, point.value_s) for point in points])
        self._named: defaultdict[str, list[Offset]] = defaultdict(list)
        self._taken = [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in places]

    def put(
        self, text: str, at: tuple[float, float], colour: str, beside: Sequence[Offset] = BESIDE
    ) -> None:
        """Write beside a point, at the first offset where there is room.

        A point that looks the same as one that has a label of this colour needs none.
        """
        x, y = self._axes.transData.transform(at)
        if any(math.hypot(x - ox, y - oy) < SAME for ox, oy in self._named[colour]):
            return
        self._named[colour].append((x, y))
        for dx, dy in beside:
            note = self._axes.annotate(
                text,
                at,
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right",
                va="center" if not dy else "bottom" if dy > 0 else "top",
                color=colour,
            )
            box = note.get_window_extent()
            if not any(box.overlaps(other) for other in self._taken):
                self._taken.append(box)
                return
            note.remove()
