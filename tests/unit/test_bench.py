"""The bench measures what it says: scores, costs, rows, and models of random weights."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
from bench import report, rows, scenarios
from bench.measure import Clock, Result, Task, costs, interleaved, measured, ratio
from bench.rows import Record, Row, append, latest
from bench.score import Cue, shape, times, word_errors
from bench.simulated import Device, FirstInFirstOut, asks
from bench.speech import Utterance
from bench.table import Column, Goal
from tests.speech_data import clip

from sotto.engine.base import Ask
from sotto.engine.batcher import Batcher

HERE = "tests.unit.test_bench"


def said(*utterances: tuple[str, float, float]) -> tuple[Utterance, ...]:
    return tuple(Utterance(*utterance) for utterance in utterances)


def cue(*words: tuple[str, float, float], text: str | None = None) -> Cue:
    heard = text if text is not None else " ".join(word for word, _, _ in words)
    return Cue(heard, words[0][1], words[-1][2], words)


def plain(text: str) -> str:
    return text.lower().replace(".", "")


TALK = said(("Good morning.", 1.0, 2.0), ("Please wait.", 3.0, 4.0))


def test_the_same_words_are_no_errors_whatever_the_segments() -> None:
    cues = [cue(("good", 1, 1.5), ("morning please", 1.5, 3.2)), cue(("wait", 3.5, 4))]
    assert word_errors(cues, TALK, plain) == 0


def test_a_missing_word_in_four_is_an_error_rate_of_a_quarter() -> None:
    assert word_errors([cue(("good morning wait", 1, 4))], TALK, plain) == 0.25


def test_no_words_at_all_are_all_errors() -> None:
    assert word_errors([], TALK, plain) == 1
    assert times([], TALK, plain) == {}
    assert shape([], []) == {"segments": 0}


def test_times_are_those_of_the_outer_words() -> None:
    cues = [cue(("Good", 1.1, 1.4), ("morning.", 1.4, 2.5), ("please", 3, 3.2), ("wait", 3.2, 4))]
    assert times(cues, TALK, plain) == {
        "starts": 2,
        "starts_near": 1.0,
        "starts_median_s": 0.05,
        "ends": 2,
        "ends_near": 0.5,
        "ends_median_s": 0.25,
    }


def test_a_time_is_not_judged_where_the_word_was_not_recognised() -> None:
    cues = [cue(("wood", 9, 9.1), ("morning", 1.4, 2), ("please", 3, 3.2), ("weight", 8, 9))]
    found = times(cues, TALK, plain)
    assert (found["starts"], found["ends"]) == (1, 1)
    assert (found["starts_near"], found["ends_near"]) == (1, 1)


def test_a_word_that_normalises_to_several_keeps_its_times() -> None:
    expanding = {"we'll": "we will", "see": "see"}
    found = times(
        [cue(("we'll", 1, 2), ("see", 2, 3))],
        said(("we'll see", 1.0, 3.0)),
        lambda text: " ".join(expanding[word] for word in text.split()),
    )
    assert (found["starts_near"], found["ends_near"]) == (1, 1)


def test_a_segment_is_readable_up_to_the_limits_and_not_beyond() -> None:
    good = cue(("x" * 84, 0, 7))
    long = cue(("x", 10, 17.1))
    wide = cue(("x" * 85, 20, 21))
    found = shape([good, long, wide], [])
    assert found["readable"] == pytest.approx(1 / 3, abs=1e-4)
    assert (found["longest_s"], found["most_chars"]) == (7.1, 85)
    assert found["in_order"]


def test_a_segment_is_closed_by_a_sentence_end_or_by_the_end_of_a_voice() -> None:
    cues = [cue(("Yes.", 0, 1)), cue(("well", 2, 3)), cue(("so", 4, 5)), cue(("这。", 6, 7))]
    assert shape(cues, [3.02])["closed"] == 0.75


def test_a_gap_counts_inside_a_segment_only() -> None:
    cues = [cue(("a", 0, 1), ("b", 1.5, 2)), cue(("c", 30, 31))]
    assert shape(cues, [])["largest_gap_s"] == 0.5


def test_segments_out_of_order_are_seen() -> None:
    assert not shape([cue(("b", 5, 6)), cue(("a", 1, 2))], [])["in_order"]


def work(clock: Clock, seconds: float) -> str:
    """A task that wastes time before the clock and works in it."""
    time.sleep(0.2)
    sys.stdout.write("a library that talks")
    with clock:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    return "done"


def handed_on(clock: Clock, seconds: float) -> None:
    """A task whose work another process does, which has ended when the clock stops."""
    code = f"import time\nwhile time.process_time() < {seconds}: pass"
    with clock:
        subprocess.run([sys.executable, "-c", code], check=True)


def broken(_clock: Clock) -> None:
    """A task that fails."""
    raise ValueError("on purpose")


def test_a_task_is_measured_in_its_own_process_and_inside_the_clock_only() -> None:
    result = measured(Task(f"{HERE}:work", {"seconds": 0.1}))
    assert result.value == "done"
    assert result.cpu_s >= 0.1
    assert result.wall_s >= 0.1
    assert result.peak_mb > 5


def test_what_a_process_did_counts_when_it_has_ended() -> None:
    assert measured(Task(f"{HERE}:handed_on", {"seconds": 0.3})).cpu_s >= 0.3


SEEN = """
import json, os, sys

import bench.ours  # imports Sotto
from bench.measure import Task, measured

names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "CT2_FORCE_CPU_ISA", "OPENBLAS_NUM_THREADS"]
assert "OMP_NUM_THREADS" in os.environ
seen = measured(Task(sys.argv[1], {})).value
print(json.dumps([seen["MARK"], *(seen.get(name) for name in names)]))
"""


def environment(_clock: Clock) -> dict[str, str]:
    """A task: the variables that its process was started with."""
    started = Path("/proc/self/environ").read_text(encoding="utf-8")
    return dict(pair.split("=", 1) for pair in started.split("\0") if "=" in pair)


def test_what_sotto_sets_for_itself_is_not_set_for_what_is_measured_beside_it() -> None:
    root = Path(__file__).resolve().parents[2]
    set_by_sotto = ("OMP_", "MKL_", "OPENBLAS_", "CT2_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(set_by_sotto)}
    done = subprocess.run(
        [sys.executable, "-c", SEEN, f"{HERE}:environment"],
        cwd=root,
        env={**kept, "MARK": "kept", "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["kept", None, None, None, None]


def test_a_task_that_fails_stops_the_bench() -> None:
    with pytest.raises(RuntimeError, match="test_bench:broken ended with code 1"):
        measured(Task(f"{HERE}:broken", {}))


def test_variants_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(f"{HERE}:work", {"seconds": 0.0})
    results = interleaved({"A": task, "B": task}, 2)
    assert {name: len(runs) for name, runs in results.items()} == {"A": 2, "B": 2}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["1/2 A", "1/2 B", "2/2 A", "2/2 B"]


def results(*walls_s: float) -> list[Result]:
    return [Result(wall_s, 2 * wall_s, 100.0, None) for wall_s in walls_s]


def test_costs_are_medians_and_ratios_are_taken_side_by_side() -> None:
    assert costs(results(1, 9, 2)) == {
        "wall_s": 2,
        "cpu_s": 4,
        "peak_mb": 100.0,
        "walls_s": [1, 9, 2],
    }
    assert ratio(results(2, 18, 4), results(1, 9, 1)) == 2


def test_rows_are_appended_with_what_is_needed_to_measure_again(tmp_path: Path) -> None:
    append([Row("long", "Sotto", {"wall_s": 1.5}, {"beam_size": 5})], tmp_path)
    append([Row("long", "Sotto", {"wall_s": 1.4})], tmp_path)
    lines = (tmp_path / "long.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 2
    assert first["values"] == {"wall_s": 1.5}
    assert first["settings"] == {"beam_size": 5}
    assert set(first["machine"]) == {"cpu", "cores", "memory_gb", "gpu"}
    assert set(first["versions"]) == {"python", *rows.PACKAGES}
    assert {"commit", "dirty", "seed", "date"} <= set(first)


def line(variant: str, date: str, cpu: str) -> str:
    given = {"values": {}, "settings": {}, "commit": "0", "dirty": False, "versions": {}}
    about = {"scenario": "long", "variant": variant, "date": date, "machine": {"cpu": cpu}}
    return json.dumps({**given, **about})


def test_the_last_run_of_each_machine_is_reported(tmp_path: Path) -> None:
    written = [
        line("old", "2026-01-01", "one"),
        line("A", "2026-01-02", "one"),
        line("other", "2026-01-03", "two"),
        line("B", "2026-01-02", "one"),
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(written), encoding="utf-8")
    runs = latest("long", tmp_path)
    assert [[record.row.variant for record in run] for run in runs] == [["other"], ["A", "B"]]
    assert latest("clips", tmp_path) == []


@pytest.mark.parametrize(("measured", "met"), [(2.69, False), (2.7, True), (9, True)])
def test_a_goal_is_met_from_its_bound_on(measured: float, met: bool) -> None:
    assert Goal("fast", "Sotto", "ratio", least=2.7).met(measured) is met
    assert Goal("slow", "Sotto", "ratio", most=2.7).met(-measured + 5.4) is met


def test_a_row_without_a_value_has_an_empty_cell() -> None:
    row = Row("long", "Sotto", {"share": 0.974})
    assert Column("share", "share", ".1%").cell(row) == "97.4%"
    assert Column("wall_s", "wall s").cell(row) == ""


@pytest.mark.parametrize("name", scenarios.NAMES)
def test_a_scenario_explains_itself_and_reports_without_rows(name: str) -> None:
    scenario = scenarios.load(name)
    assert scenario.__doc__
    assert scenario.COLUMNS
    text = "\n".join(report.goals({name: scenario}, {name: []}))
    assert text.count("not measured") == len(scenario.GOALS)


def test_the_report_says_which_goals_are_met_and_leaves_out_empty_columns() -> None:
    scenario = scenarios.load("fairness")
    row = Row("fairness", "Sotto", {"ratio": 0.5, "median_s": 1.25})
    better = Row("fairness", "Sotto", {"ratio": 0.2})
    runs = [
        [Record(row, "2026-01-02T00:00:00", "0", True, {"cpu": "Slow", "gpu": None}, {})],
        [Record(better, "2026-01-02T00:00:00", "0", True, {"cpu": "Fast", "gpu": None}, {})],
        [Record(row, "2026-01-01T00:00:00", "0", True, {"cpu": "Fast", "gpu": None}, {})],
        [Record(better, "2026-01-01T00:00:00", "0", True, {"cpu": "Fast", "gpu": "H1"}, {})],
    ]
    goals = "\n".join(report.goals({"fairness": scenario}, {"fairness": runs}))
    assert "| | goal | Fast | H1 | Slow |" in goals
    assert "| ≤ 0.35 | 0.20 met | 0.20 met | 0.50 **missed** |" in goals
    assert list(report.table(scenario, [row])) == [
        "| | median latency s | ratio to the queue |",
        "| --- | ---: | ---: |",
        "| Sotto | 1.25 | 0.50 |",
    ]


def test_what_is_asked_for_is_what_a_worker_would_ask() -> None:
    path = clip("en-young-man").path
    (ask,) = asyncio.run(asks(path, {"language": "en", "beam_size": 3}, mels=128))
    assert ask.features.shape[0] == 128
    assert ask.features.dtype == np.float32
    assert (ask.decoding.beam_size, ask.language) == (3, "en")


@pytest.mark.parametrize(("kind", "clip_at"), [(Batcher, 3), (FirstInFirstOut, 7)])
def test_a_plain_queue_lets_the_clip_wait_and_sotto_does_not(
    kind: type[Batcher], clip_at: int
) -> None:
    (ask,) = asyncio.run(asks(clip("en-young-man").path, {"language": "en"}))
    begun, go = threading.Event(), threading.Event()
    order: list[int] = []

    def watch(batch: Iterable[Ask]) -> None:
        order.extend(len(one.prompt) for one in batch)
        begun.set()
        go.wait(30)

    device = Device(batch_limit=1, fault=watch)
    batcher = kind(device)
    futures = [batcher.submit("long", ask)]
    assert begun.wait(30)
    futures += [batcher.submit("long", ask) for _ in range(5)]
    futures.append(batcher.submit("clip", prompted(ask)))
    go.set()
    wait(futures, 30)
    batcher.close()
    assert order.index(1) + 1 == clip_at
    assert 0 < device.busy_share() <= 1


def prompted(ask: Ask) -> Ask:
    """The same window, told apart by a prompt of one token."""
    return Ask(ask.features, ask.decoding, ask.thresholds, ask.temperatures, prompt=(7,))


@pytest.mark.model
@pytest.mark.parametrize("beam_size", [1, 2])
def test_random_weights_of_a_real_shape_can_be_decoded_aligned_and_batched(
    weights: Path, tmp_path: Path, beam_size: int
) -> None:
    from bench.scenarios import gpu
    from bench.weights import TINY, make

    how = {
        "weights": str(make(tmp_path / "tiny", TINY, weights / "base")),
        "device": "cpu",
        "compute_type": "float32",
        "workers": 2,
        "batch": 3,
        "paths": [str(clip("en-dashwood").path)] * 4,
        "beam_size": beam_size,
    }
    aligned = gpu.engine(Clock(), align=True, **how)
    whole = gpu.pipeline(Clock(), align=False, **how)
    peer = gpu.peer(Clock(), align=False, **how)
    for done in (aligned, whole, peer):
        assert done["tokens_a_window"] == [gpu.TOKENS]
        assert done["windows"] == 4
