"""What was measured, one JSON line each, with all that is needed to measure it again.

Invariant: rows are only ever appended; the rows of one run of a scenario share their date.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from bench.measure import ROOT

RESULTS = ROOT / "bench" / "results"
SEED = 7
"""Orders the speech, chooses the clips, makes the random weights."""
RESULTING = (":!bench/results", ":!docs/benchmarks.md", ":!docs/benchmarks")
"""What running the bench itself changes, in git's words."""
PACKAGES = ("ctranslate2", "faster-whisper", "numpy", "onnxruntime", "av")


@dataclass(frozen=True, slots=True)
class Row:
    """One variant of a scenario: `values` were measured, `settings` say how."""

    scenario: str
    variant: str
    values: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it was written down."""

    row: Row
    date: str
    commit: str
    dirty: bool
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def append(rows: Iterable[Row], folder: Path = RESULTS) -> None:
    """Write rows as they come, each scenario's into its own file."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {**commit(), "machine": machine(), "versions": versions()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    for row in rows:
        line = {
            "scenario": row.scenario,
            "variant": row.variant,
            "values": dict(row.values),
            "settings": dict(row.settings),
            "seed": SEED,
            "date": date,
            **about,
        }
        with (folder / f"{row.scenario}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def latest(scenario: str, folder: Path = RESULTS) -> list[list[Record]]:
    """The rows of the scenario's last run on each machine, the newest run first."""
    path = folder / f"{scenario}.jsonl"
    if not path.exists():
        return []
    runs: dict[str, list[Record]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        record = _record(json.loads(text))
        known = runs.get(_place(record), [])
        same = known and known[0].date == record.date
        runs[_place(record)] = [*known, record] if same else [record]
    return sorted(runs.values(), key=lambda run: run[0].date, reverse=True)


def _record(line: Mapping[str, Any]) -> Record:
    row = Row(line["scenario"], line["variant"], line["values"], line["settings"])
    kept = ("date", "commit", "dirty", "machine", "versions")
    return Record(row, **{name: line[name] for name in kept})


def _place(record: Record) -> str:
    return json.dumps(record.machine, sort_keys=True)


@functools.cache
def commit() -> dict[str, Any]:
    """The commit that is checked out, and whether files other than results differ from it."""
    try:
        name = _output(["git", "rev-parse", "--short=12", "HEAD"])
        dirty = bool(_output(["git", "status", "--porcelain", "--", ".", *RESULTING]))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": True}
    return {"commit": name, "dirty": dirty}


@functools.cache
def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory, and the GPU if there is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else "unknown",
        "cores": cores(),
        "memory_gb": round(memory / 1e9),
        "gpu": _gpu(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Python and the packages whose speed is measured here."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _gpu() -> str | None:
    try:
        names = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return names.splitlines()[0] if names else None


def _output(command: Sequence[str]) -> str:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.strip()
