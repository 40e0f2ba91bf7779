"""What the rows of a bench say of a worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.scenarios import inflight, start

from sotto.endpoint.simulate import measured
from sotto.endpoint.simulate.measured import Row, read
from sotto.endpoint.simulate.refusal import SimulationError

ROOT = Path(__file__).resolve().parents[2]
CPU = {"cpu": "EPYC", "cores": 2, "memory_gb": 25, "gpu": None}
GPU = {"cpu": "Xeon", "cores": 16, "memory_gb": 128, "gpu": "NVIDIA L4"}


def row(scenario: str, variant: str, machine: Any = CPU, *, day: int = 1, **values: Any) -> Row:
    date = f"2026-11-{day:02}T10:00:00+00:00"
    return Row(scenario, variant, values, {"jobs": 64}, date, machine)


LONG = row("long", "Sotto", times_real=40.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense\n", "1: not a row"),
        ("[]\n", "1: not a row"),
        ('{"scenario": "long"}\n', "1: not a row"),
        ("\n", "1: not a row"),
        ('{"scenario": 1}\n', "1: not a row"),
        ("[" * 100_000 + "\n", "1: not a row"),
        ("\xff\n", "1: not a row"),
    ],
)
def test_what_is_no_row_is_refused_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SimulationError, match=f"long.jsonl:{reason}"):
        read([path])


def test_a_folder_without_rows_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"holds no \.jsonl"):
        read([tmp_path])
    with pytest.raises(SimulationError, match="cannot be read: No such file"):
        read([tmp_path / "long.jsonl"])


@pytest.mark.parametrize(
    "speed", [None, "40", True, 0, -1, float("nan"), float("inf"), 10**400, [40]]
)
def test_a_row_whose_speed_is_none_has_none(speed: Any) -> None:
    with pytest.raises(SimulationError, match="no row of 'Sotto' has a speed"):
        measured.measured([row("long", "Sotto", times_real=speed)], None)


def test_an_unknown_variant_is_refused_with_those_there_are() -> None:
    with pytest.raises(SimulationError, match=r"no row of 'Soto' .* there are: Sotto; a, greedy"):
        measured.measured([LONG, row("gpu", "a, greedy", times_real=900)], "Soto")


def test_the_newest_row_counts_with_those_of_its_machine() -> None:
    rows = [
        row("long", "Sotto", day=2, times_real=40.0),
        LONG,
        row("start", measured.READY, GPU, day=9, ready_s=9.0),
        row("start", measured.READY, day=3, ready_s=1.5),
        row("start", measured.READY, day=1, ready_s=3.0),
        row("start", "part: Python itself", day=4, ready_s=0.1),
    ]
    found = measured.measured(rows, None)
    assert (found.rtfx, found.cold_start_s) == (40.0, 1.5)
    assert (found.batching, found.job_s) == (None, None)
    assert found.told == "long, 'Sotto', measured 2026-11-02 on EPYC, 2 cores, no GPU"


def test_a_variant_is_chosen_on_its_own_machine() -> None:
    found = measured.measured(
        [
            LONG,
            row("gpu", "pipeline", GPU, times_real=900),
            row("start", measured.READY, ready_s=2),
        ],
        "pipeline",
    )
    assert (found.rtfx, found.cold_start_s) == (900, None)
    assert "on NVIDIA L4, 16 cores" in found.told


def test_short_jobs_in_flight_say_what_batches_gain() -> None:
    rows = [
        LONG,
        row("inflight", "1 in flight", ratio=1.0, all_s=130.0),
        row("inflight", "16 in flight", ratio=2.0, all_s=65.0),
        row("inflight", "64 in flight", ratio=1.98, all_s=65.6),
        row("inflight", "0 in flight", ratio=9.0),
        row("inflight", "many", ratio=9.0),
        row("inflight", "128 in flight", GPU, ratio=9.0),
    ]
    assert measured.measured(rows, None).batching == ((1, 0.5), (16, 1.0), (64, 1.0))
    assert measured.measured(rows, None).job_s is None


def test_what_short_jobs_cost_beyond_their_audio_is_a_cost_of_each_job() -> None:
    rows = [
        LONG,
        row("inflight", "1 in flight", ratio=1.0, all_s=130.0, audio_s=400.0),
        row("inflight", "64 in flight", ratio=2.0, all_s=74.0, audio_s=400.0),
    ]
    assert measured.measured(rows, None).job_s == pytest.approx((74 - 400 / 40) / 64)


def test_the_rows_that_the_bench_has_written_are_understood() -> None:
    found = measured.measured(read([ROOT / "bench" / "results"]), None)
    assert found.rtfx is not None
    assert found.cold_start_s is not None
    assert found.batching is not None
    assert found.batching[-1][1] == 1


def test_the_variants_are_called_as_the_bench_calls_them() -> None:
    assert start.OURS == measured.READY
    for number in inflight.IN_FLIGHT:
        assert measured.IN_FLIGHT.fullmatch(f"{number} in flight")
    (path,) = (ROOT / "bench" / "results").glob("inflight.jsonl")
    names = {json.loads(line)["variant"] for line in path.read_text().splitlines()}
    assert all(measured.IN_FLIGHT.fullmatch(name) for name in names)
