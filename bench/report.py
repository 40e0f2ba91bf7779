"""Rows in, docs/benchmarks.md and its plots out.

Invariant: no number in a table or plot is written by hand; each comes from the last run of its
scenario on the machine that the report names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.measure import ROOT
from bench.rows import Record, Row, latest
from bench.scenarios import APART, NAMES, load
from bench.table import Goal, Scenario

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
FRAME = """# Benchmarks

Generated from `bench/results/` by `python -m bench report`. To measure again:

```
make bench                                # all but the soak; about three hours on two cores
.venv/bin/python -m bench long clips      # some scenarios
.venv/bin/python -m bench report          # this page, from the rows
```

**How.** Every measured run is a process of its own; variants take turns (A B C A B C), and medians
are shown, of as many runs as stands below each table. Memory, the soak and what needs a GPU are
measured once. Wall and CPU seconds leave out the loading of the model, for everyone; the peak of
memory is that of the whole process. The systems get the same weights, number format and files. On a
CPU faster-whisper runs with the number of threads, and batch size, that is fastest there on the
first three minutes, called as it is measured (up to commit 93e70b3, called with VAD and words);
rows in `bench/results/` say which. Sotto runs as in its image, with memory
from one pool and CTranslate2's kernels for AVX-512 where the CPU has it; faster-whisper as it
comes. Ratios are medians over runs side by side. Rows of commits before 2fd8e71 started
faster-whisper with what Sotto then set for itself, one OpenMP thread and oneDNN, which may have
slowed it down.

**The speech** is recorded by professional speakers, five languages, a sentence or a few words each,
in random order with pauses of 0.3 to 1.6 s. Words are known, and where each sentence begins and
ends to 10 ms. See CREDITS.md for who speaks. It is read speech in quiet rooms: other audio
will give other numbers.
"""
MIXED = """What the last run of each scenario reached on each processor. The commits differ, and
stand below the tables. Ratios of before 2fd8e71 are to a faster-whisper that may have been slowed
down, as told above.
"""


def write() -> None:
    """Write the page and the plots of all scenarios that have rows."""
    scenarios = {name: load(name) for name in (*NAMES, *APART)}
    runs = {name: latest(name) for name in scenarios}
    parts = [FRAME, *goals(scenarios, runs)]
    for name, scenario in scenarios.items():
        parts += section(name, scenario, runs[name])
    PAGE.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def goals(
    scenarios: Mapping[str, Scenario], runs: Mapping[str, Sequence[Sequence[Record]]]
) -> Iterator[str]:
    """What Sotto is meant to reach, and what it reached on each kind of processor."""
    heads = sorted({_processor(run) for name in scenarios for run in runs[name]}) or ["measured"]
    yield f"## Goals\n\n{MIXED}"
    yield f"| | goal | {' | '.join(heads)} |\n| --- | --- |{' --- |' * len(heads)}"
    for name, scenario in scenarios.items():
        newest = {_processor(run): run for run in reversed(runs[name])}
        for goal in scenario.GOALS:
            reached = [_reached(goal, newest.get(head, ())) for head in heads]
            yield f"| {goal.what} | {goal.bound()} | {' | '.join(reached)} |"
    yield ""


def _processor(run: Sequence[Record]) -> str:
    machine = run[0].machine
    return str(machine["gpu"] or machine["cpu"])


def _reached(goal: Goal, run: Sequence[Record]) -> str:
    values = {record.row.variant: record.row.values for record in run}
    measured = values.get(goal.variant, {}).get(goal.value)
    if measured is None:
        return "not measured"
    return f"{format(measured, goal.form)} {'met' if goal.met(measured) else '**missed**'}"


def section(name: str, scenario: Scenario, runs: Sequence[Sequence[Record]]) -> Iterator[str]:
    """A scenario's text, then a table and plots for each machine it ran on."""
    from bench.plots import draw  # the only part that needs matplotlib

    yield f"## {scenario.TITLE}\n\n{(scenario.__doc__ or '').strip()}\n"
    if not runs:
        yield f"Not measured yet: `python -m bench {name}`.\n"
    for number, run in enumerate(runs):
        rows = [record.row for record in run]
        yield from table(scenario, rows)
        yield ""
        for plot in scenario.PLOTS:
            file = f"{plot.name}-{number + 1}.svg" if number else f"{plot.name}.svg"
            if draw(rows, plot, PLOTS / file):
                yield f"![{plot.label}](benchmarks/{file})\n"
        yield provenance(run)


def table(scenario: Scenario, rows: Sequence[Row]) -> Iterator[str]:
    """The rows as a Markdown table; columns that no row fills are left out."""
    columns = [c for c in scenario.COLUMNS if any(c.value in row.values for row in rows)]
    yield f"| | {' | '.join(column.heading for column in columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for row in rows:
        yield f"| {row.variant} | {' | '.join(column.cell(row) for column in columns)} |"


def provenance(run: Sequence[Record]) -> str:
    """Where, when, with what and how often the rows were measured."""
    record = run[0]
    machine = record.machine
    timed = max(len(one.row.values.get("walls_s", ())) for one in run)
    often = f"; medians of up to {timed} runs" if timed else ""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    place = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB{gpu}"
    packages = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    commit = f"commit {record.commit}{' with changes' if record.dirty else ''}"
    return f"<sub>{record.date[:10]}, {commit}; {place}; {packages}{often}</sub>\n"
