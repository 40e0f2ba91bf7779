"""Traffic to simulate: files that are none, and days that are made up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest

from sotto.endpoint.simulate import trace
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.trace import DAY_S, Day, generated, read

HEADER = "arrival_s,audio_s\n"
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes) -> Path:
        path = tmp_path / "trace.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def refusal(path: Path) -> str:
    with pytest.raises(SimulationError) as refused:
        read(path)
    return str(refused.value).removeprefix(f"{path}:")


# Files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "1: no column arrival_s; the first line names the columns"),
        ("0,5\n1,6\n", "1: no column arrival_s"),
        ("arrival_s,length\n0,5\n", "1: no column audio_s"),
        ("arrival_s,audio_s,audio_s\n0,5,5\n", "1: more than one column audio_s"),
        (HEADER, " no jobs below the header"),
        (HEADER + "\n\n", " no jobs below the header"),
        (HEADER + "0\n", "2: audio_s: '' is not allowed; use seconds from 0 to 86400"),
        (HEADER + "0,5\n,5\n", "3: arrival_s: '' is not allowed"),
        (HEADER + "-1,5\n", "2: arrival_s: '-1' is not allowed"),
        (HEADER + "0,-5\n", "2: audio_s: '-5' is not allowed"),
        (HEADER + "nan,5\n", "2: arrival_s: 'nan' is not allowed"),
        (HEADER + "0,inf\n", "2: audio_s: 'inf' is not allowed"),
        (HEADER + "0,1e400\n", "2: audio_s: '1e400' is not allowed"),
        (HEADER + "0,86401\n", "2: audio_s: '86401' is not allowed; use seconds from 0 to 86400"),
        (HEADER + "0,5 s\n", "2: audio_s: '5 s' is not allowed"),
        (HEADER + "2026-11-25T10:00:00Z,5\n", "2: arrival_s: '2026-11-25T10:00:00Z' is not"),
        (HEADER + "0,5\n1764064800000,5\n", "3: arrival_s: '1764064800000' is not allowed"),
        (HEADER + "0,5\n99999999999,5\n", " arrival_s spans 1157407 days; at most 366 are"),
        (HEADER.encode() + b"0,\xff\xfe\n", " not text in UTF-8"),
        ("arrival_s,audio_s\n0,5\n".encode("utf-16"), " not text in UTF-8"),
        (HEADER + "0," + "9" * 200_000, "1: not CSV: field larger than field limit (131072)"),
        (HEADER + "0," + "9" * 100, f"2: audio_s: '{'9' * 37}...' is not allowed"),
        (HEADER + '0,"5\n1,5\n', "2: audio_s: '5\\n1,5' is not allowed"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(
    write: Write, content: str | bytes, reason: str
) -> None:
    assert refusal(write(content)).startswith(reason)


def test_a_null_byte_is_refused(write: Write) -> None:
    # Up to Python 3.11 csv itself refuses it, and later ones leave it in the field.
    assert refusal(write(HEADER + "0,\0\n"))


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "none.csv")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_a_file_without_end_is_refused_as_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "MOST_JOBS", 5000)
    path = tmp_path / "trace.csv"
    os.mkfifo(path)

    def write_on() -> None:
        with path.open("wb", buffering=0) as file, suppress(BrokenPipeError):
            file.write(HEADER.encode())
            while True:
                file.write(b"0,5\n" * 1000)

    writer = threading.Thread(target=write_on)
    writer.start()
    assert "more than 5000 jobs; give a part" in refusal(path)
    writer.join()


def test_a_trace_is_sorted_and_begins_with_its_first_job(write: Write) -> None:
    found = read(write("\ufeff Audio_S ,who, ARRIVAL_S\n5,ann,1030.5\n\n60.25,bob,1000\n0,,1e3\n"))
    assert found.arrivals_s == [0.0, 0.0, 30.5]
    assert found.audio_s == [0.0, 60.25, 5.0]
    assert found.days == 1


@pytest.mark.parametrize(("length_s", "days"), [(60, 1), (1.4 * DAY_S, 1), (6.9 * DAY_S, 7)])
def test_a_trace_stands_for_whole_days(write: Write, length_s: float, days: int) -> None:
    assert read(write(f"{HEADER}0,5\n{length_s},5\n")).days == days


# Days


def test_a_seed_always_gives_the_same_day_and_another_seed_another() -> None:
    assert generated(Day(500, seed=3)) == generated(Day(500, seed=3))
    assert generated(Day(500, seed=3)).arrivals_s != generated(Day(500, seed=4)).arrivals_s


def test_a_day_has_the_jobs_the_lengths_and_the_peak_that_were_asked_for() -> None:
    made = generated(Day(40_000, audio_s=90, audio_sigma=0.5, peak=1.8, peak_hour=14))
    assert len(made.arrivals_s) == pytest.approx(40_000, rel=0.02)
    assert list(made.arrivals_s) == sorted(made.arrivals_s)
    assert 0 <= made.arrivals_s[0] <= made.arrivals_s[-1] < DAY_S
    assert median(made.audio_s) == pytest.approx(90, rel=0.02)
    hours = [0] * 24
    for arrival_s in made.arrivals_s:
        hours[int(arrival_s / 3600)] += 1
    mean = len(made.arrivals_s) / 24
    assert hours[13] + hours[14] == pytest.approx(2 * 1.8 * mean, rel=0.05)
    assert hours[1] + hours[2] == pytest.approx(2 * 0.2 * mean, rel=0.15)


def test_without_a_peak_or_a_spread_everything_is_even() -> None:
    made = generated(Day(1000, audio_sigma=0, peak=1))
    assert made.audio_s == pytest.approx([60.0] * len(made.audio_s))


def test_a_day_without_jobs_has_none() -> None:
    assert generated(Day(0)).arrivals_s == []


def test_no_length_is_beyond_what_a_trace_may_have() -> None:
    assert max(generated(Day(500, audio_s=50_000, audio_sigma=5)).audio_s) == DAY_S
