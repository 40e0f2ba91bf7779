"""The command as a person calls it: options in, a report or one clear refusal out."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.platform_api import PlatformApi
from tests.processes import run_unread

from sotto.endpoint import simulate

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = """
name = "sotto"
gpu.pools = ["ADA_24", "ADA_48_PRO"]
[workers]
max = 2
idle_timeout_s = 30
[env]
SOTTO_CONCURRENCY = "4"
"""
COUNTED = """
name = "sotto"
scaling.kind = "request_count"
scaling.value = 4
"""
GIVEN = ("--rtfx", "40", "--job-s", "0.5", "--batching", "1=0.4,8=1", "--cold-start-s", "8")
TRAFFIC = ("--jobs-per-day", "200")
PRICE = ("--price", "1.2")
HANG_S = 90


@dataclass(frozen=True)
class Told:
    code: int
    out: str
    error: str

    def line(self, name: str) -> str:
        """What the report says beside `name`."""
        found = re.search(rf"^{name} +(.*)$", self.out, re.MULTILINE)
        assert found is not None, self.out
        return found[1]


Command = Callable[..., Told]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs in a folder with an endpoint.toml, without a key, with prices kept beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    (tmp_path / "endpoint.toml").write_text(ENDPOINT)

    def run(*argv: str) -> Told:
        parser = argparse.ArgumentParser()
        simulate.add_arguments(parser)
        try:
            code = simulate.run(parser.parse_args(argv))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Told(code, *capsys.readouterr())

    return run


@pytest.fixture
def counted(tmp_path: Path) -> str:
    path = tmp_path / "counted.toml"
    path.write_text(COUNTED)
    return str(path)


# What is refused


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ((), "one of the arguments --trace --jobs-per-day is required"),
        (("--jobs-per-day", "nan"), "'nan' is not allowed; use a number from 0 to 1000000"),
        (("--jobs-per-day", "1e7"), "'1e7' is not allowed"),
        ((*TRAFFIC, "--audio-s", "0"), "'0' is not allowed; use a number from 0.1 to 86400"),
        ((*TRAFFIC, "--peak", "3"), "'3' is not allowed; use a number from 1 to 2"),
        ((*TRAFFIC, "--seed", "1.5"), "'1.5' is not allowed; use a whole number"),
        ((*TRAFFIC, "--seed", "-1"), "--seed"),
        ((*TRAFFIC, "--seed", "9" * 5000), "is not allowed; use a whole number"),
        ((*TRAFFIC, "--rtfx", "inf"), "'inf' is not allowed"),
        ((*TRAFFIC, "--price", "-1"), "--price"),
        ((*TRAFFIC, "--max-workers", "0"), "'0' is not allowed; use a whole number from 1 to 1000"),
        ((*TRAFFIC, "--scaler", "magic"), "invalid choice: 'magic'"),
        ((*TRAFFIC, "--sweep-idle-s", "5,,10"), "'' is not allowed; use a number from 1 to 3600"),
        ((*TRAFFIC, "--sweep-max", "1,2.5"), "'2.5' is not allowed"),
        ((*TRAFFIC, *PRICE, "--gpu", "ADA_24"), "not allowed with argument --price"),
        ((*TRAFFIC, "--trace", "x.csv"), "not allowed with argument --jobs-per-day"),
    ],
)
def test_an_option_that_is_wrong_is_refused_before_anything_is_done(
    command: Command, argv: tuple[str, ...], reason: str
) -> None:
    told = command(*argv)
    assert (told.code, told.out) == (2, "")
    assert reason in told.error


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ((*TRAFFIC, *PRICE), "--rows, --rtfx: give what the bench has measured, or a speed"),
        ((*TRAFFIC, *PRICE, "--rtfx", "9"), "--cold-start-s: not measured; give"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--batching", "x"), "--batching: 'x' is not WINDOWS=SHARE"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--variant", "a"), "--variant: cannot act: there are no"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--rows", "none"), "--rows: none cannot be read"),
        ((*TRAFFIC, *GIVEN), "RUNPOD_API_KEY: not set"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--refresh-prices"), "--refresh-prices: cannot act: --price"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--endpoint", "a.toml"), "a.toml: cannot be read: No such"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--min-workers", "3"), "workers.min: 3 is more than"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--scaler", "request_count"), "--scaler-value: missing"),
        (
            (*TRAFFIC, *GIVEN, *PRICE, "--scaler", "request_count", "--scaler-value", "1.5"),
            "scaling.value: 1.5 is not allowed; use a whole number of jobs",
        ),
        ((*TRAFFIC, *GIVEN, *PRICE, "--target", "fast"), "--target: 'fast' is not understood"),
        ((*TRAFFIC, *GIVEN, *PRICE, "--plot", "a.pdf"), "--plot: 'a.pdf' is not allowed"),
        (("--trace", "a.csv", *GIVEN, *PRICE), "a.csv: cannot be read: No such file"),
        (
            ("--trace", "a.csv", "--peak", "2", "--seed", "1", *GIVEN, *PRICE),
            "--peak, --seed: cannot act: --trace says when jobs come",
        ),
    ],
)
def test_what_cannot_be_simulated_is_told_in_one_line(
    command: Command, argv: tuple[str, ...], reason: str
) -> None:
    told = command(*argv)
    assert (told.code, told.out) == (1, "")
    assert told.error.startswith(reason)
    assert told.error.count("\n") == 1


def test_an_idle_timeout_that_cannot_act_is_refused(command: Command, counted: str) -> None:
    base = (*TRAFFIC, *GIVEN, *PRICE, "--endpoint", counted)
    told = command(*base, "--idle-timeout-s", "30")
    assert told.error.startswith("workers.idle_timeout_s: 30 cannot act: with request_count")
    told = command(*base, "--sweep-idle-s", "30")
    assert told.error.startswith("--sweep-idle-s: cannot act: with request_count")


def test_an_endpoint_that_runs_nothing_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "endpoint.toml").write_text('name = "sotto"\nworkers.max = 0\n')
    told = command(*TRAFFIC, *GIVEN, *PRICE)
    assert (told.code, told.error.split(":")[0]) == (1, "workers.max")


# What is reported


def test_a_report_says_what_it_rests_on_and_what_comes_out(command: Command) -> None:
    told = command(*TRAFFIC, *GIVEN, *PRICE)
    assert (told.code, told.error) == (0, "")
    assert re.match(r"\d+ jobs, \d+\.\d h of audio$", told.line("traffic"))
    assert "seed 7: 200 jobs a day, 1.8 times as dense at 14 h" in told.out
    assert told.line("worker") == "40 x real time in full batches, 0.5 s a job"
    assert "cold start 8 s, 4 jobs at once" in told.out
    assert "given: --rtfx, --job-s, --batching, --cold-start-s\n" in told.out
    assert told.line("endpoint") == "0 to 2 workers, idle timeout 30 s"
    assert told.line("price") == "1.2 USD an hour, as given"
    assert told.line("seconds").split() == ["p50", "p95", "p99"]
    waits_s, totals_s = ([*map(float, told.line(name).split())] for name in ("wait", "total"))
    assert waits_s == sorted(waits_s)
    assert all(total_s > wait_s for wait_s, total_s in zip(waits_s, totals_s, strict=True))
    assert re.match(r"\d+\.\d\d USD a day, 0\.\d{4} USD an hour of audio$", told.line("cost"))
    shares = [int(share) for share in re.findall(r"(\d+)%", told.line("paid"))]
    assert 99 <= sum(shares) <= 101


def test_a_report_that_nobody_reads_ends_without_a_word(command: Command, tmp_path: Path) -> None:
    done = run_unread(
        [sys.executable, "-m", "sotto", "endpoint", "simulate", *TRAFFIC, *GIVEN, *PRICE],
        cwd=tmp_path,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_command_tells_the_same(command: Command) -> None:
    argv = (*TRAFFIC, *GIVEN, *PRICE, "--target", "p95 <= 1 h")
    assert command(*argv) == command(*argv)
    assert command(*argv, "--seed", "8").out != command(*argv).out


def test_the_options_go_before_the_file(command: Command) -> None:
    told = command(
        *TRAFFIC, *GIVEN, *PRICE, "--min-workers", "1", "--max-workers", "4", "--idle-timeout-s",
        "60", "--scaler-value", "2", "--concurrency", "9",
    )  # fmt: skip
    assert told.line("endpoint") == "1 to 4 workers, idle timeout 60 s"
    assert "scaling by queue_delay, 2\n" in told.out
    assert ", 9 jobs at once" in told.out


@pytest.mark.parametrize(("given", "means"), [("0", 48), ("4", 4), ("x", 48), ("9" * 5000, 48)])
def test_the_workers_own_setting_says_how_many_jobs_one_takes(
    command: Command, tmp_path: Path, given: str, means: int
) -> None:
    text = f'name = "sotto"\nenv.SOTTO_CONCURRENCY = "{given}"\n'
    (tmp_path / "endpoint.toml").write_text(text)
    assert f", {means} jobs at once\n" in command(*TRAFFIC, *GIVEN, *PRICE).out


def test_another_scaler_takes_no_idle_timeout_from_the_file(command: Command) -> None:
    told = command(*TRAFFIC, *GIVEN, *PRICE, "--scaler", "request_count", "--scaler-value", "4")
    assert told.line("endpoint") == "0 to 2 workers"
    assert "scaling by request_count, 4\n" in told.out


def test_a_trace_is_replayed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,audio_s\n0,80\n5,40\n")
    told = command("--trace", "trace.csv", *GIVEN, *PRICE)
    assert told.line("traffic") == "2 jobs, 0.0 h of audio"
    assert told.line("wait").split() == ["3.00", "8.00", "8.00"]
    assert told.line("starts") == "1 a day"


def test_a_day_without_jobs_costs_what_the_minimum_costs(command: Command) -> None:
    told = command("--jobs-per-day", "0", *GIVEN, *PRICE)
    assert told.line("cost") == "0.00 USD a day"
    told = command("--jobs-per-day", "0", *GIVEN, *PRICE, "--min-workers", "2")
    assert told.line("cost") == f"{2 * 24 * 1.2:.2f} USD a day"


def test_jobs_that_the_platform_would_stop_are_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,audio_s\n0,50000\n5,40\n")
    told = command("--trace", "trace.csv", *GIVEN, *PRICE)
    assert told.line("overdue").startswith("1 jobs ran longer than timeout_s = 300")


def test_what_is_not_known_of_a_worker_is_said(command: Command) -> None:
    told = command(*TRAFFIC, *PRICE, "--rtfx", "40", "--cold-start-s", "8")
    assert "not known, and taken as none: --job-s, --batching\n" in told.out


def test_the_rows_of_the_bench_describe_a_worker(command: Command) -> None:
    told = command(*TRAFFIC, *PRICE, "--rows", str(ROOT / "bench" / "results"))
    assert told.code == 0, told.error
    rows = (ROOT / "bench" / "results" / "long.jsonl").read_text().splitlines()
    ours = [json.loads(row) for row in rows if json.loads(row)["variant"] == "Sotto"]
    newest = max(ours, key=lambda row: row["date"])
    assert told.line("worker").startswith(f"{newest['values']['times_real']:.4g} x real time")
    assert f"measured {newest['date'][:10]} on {newest['machine']['cpu']}" in told.out


# What is recommended


def test_a_target_gets_the_cheapest_setting_that_meets_it(command: Command) -> None:
    told = command(*TRAFFIC, *GIVEN, *PRICE, "--target", "p95 total <= 1 h")
    assert told.code == 0
    assert "For p95 total <= 3600 s, the cheapest: max = 1, idle_timeout_s = 5\n" in told.out
    assert told.out.count("*") >= 1


def test_a_target_that_nothing_meets_is_told_and_is_a_failure(command: Command) -> None:
    told = command(*TRAFFIC, *GIVEN, *PRICE, "--target", "p95 <= 1 ms", "--sweep-max", "1")
    assert told.code == 1
    assert "Nothing that was tried meets p95 wait <= 0.001 s. The nearest: max = " in told.out


def test_the_settings_to_try_can_be_said_and_the_endpoints_own_is_among_them(
    command: Command,
) -> None:
    lists = ("--sweep-max", "3,1", "--sweep-idle-s", "5,600")
    told = command("--jobs-per-day", "5000", *GIVEN, *PRICE, "--concurrency", "1", *lists)
    lines = told.out[told.out.index("  max") :].splitlines()[1:]
    tried = [tuple(line.split()[:2]) for line in lines]
    assert tried == [(most, idle_s) for most in "123" for idle_s in ("5", "30", "600")]


def test_by_count_only_the_maximum_is_tried(command: Command, counted: str) -> None:
    traffic = ("--jobs-per-day", "5000", "--sweep-max", "1,2")
    told = command(*traffic, *GIVEN, *PRICE, "--endpoint", counted, "--max-workers", "4")
    lines = told.out[told.out.index("  max") :].splitlines()[1:]
    assert [tuple(line.split()[:2]) for line in lines] == [
        ("1", "-"),
        ("2", "-"),
        ("More", "than"),
    ]


def test_a_picture_is_drawn(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    told = command(
        *TRAFFIC, *GIVEN, *PRICE, "--plot", "plot.svg", "--sweep-max", "1", "--sweep-idle-s", "5"
    )
    assert (told.code, told.error) == (0, "")
    assert told.out.endswith("drawn: plot.svg\n")
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


# Prices


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch, command: Command) -> Iterator[PlatformApi]:
    with PlatformApi() as opened:
        for name, value in opened.environ.items():
            monkeypatch.setenv(name, value)
        yield opened


def asked(platform: PlatformApi) -> int:
    return platform.calls().count(("GET", "/v2/catalog/gpus"))


def test_the_price_is_the_catalogues_for_the_endpoints_first_pool_and_is_kept(
    command: Command, platform: PlatformApi, tmp_path: Path
) -> None:
    told = command(*TRAFFIC, *GIVEN)
    assert told.code == 0, told.error
    shown = r"1\.2 USD an hour, NVIDIA GeForce RTX 4090, ADA_24, catalogue of \d{4}-\d\d-\d\d"
    assert re.fullmatch(shown, told.line("price"))
    command(*TRAFFIC, *GIVEN)
    assert command(*TRAFFIC, *GIVEN, "--gpu", "NVIDIA L4").line("price").startswith("0.6 USD")
    assert asked(platform) == 1
    kept = "".join(path.read_text() for path in (tmp_path / "cache").rglob("*.json"))
    assert platform.key not in kept
    assert "NVIDIA A2" not in kept  # no serverless worker can have it


def test_prices_are_asked_for_again_on_demand(command: Command, platform: PlatformApi) -> None:
    command(*TRAFFIC, *GIVEN)
    platform.gpus[1]["price"]["serverless"] = 1.4
    assert command(*TRAFFIC, *GIVEN).line("price").startswith("1.2 USD")
    assert command(*TRAFFIC, *GIVEN, "--refresh-prices").line("price").startswith("1.4 USD")
    assert command(*TRAFFIC, *GIVEN).line("price").startswith("1.4 USD")
    assert asked(platform) == 2


def test_a_gpu_that_the_catalogue_lacks_is_told_with_those_it_has(
    command: Command, platform: PlatformApi
) -> None:
    told = command(*TRAFFIC, *GIVEN, "--gpu", "HOPPER_141")
    assert told.code == 1
    assert "has no 'HOPPER_141'" in told.error
    assert "ADA_24, ADA_48_PRO, AMPERE_16" in told.error


def test_a_refusal_of_the_api_is_told_and_nothing_is_kept(
    command: Command, platform: PlatformApi, tmp_path: Path
) -> None:
    platform.fail("GET", "/v2/catalog", 401)
    told = command(*TRAFFIC, *GIVEN)
    assert (told.code, told.out) == (1, "")
    assert "the API key is not accepted" in told.error
    assert list((tmp_path / "cache").rglob("*")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'{"gpus": null}',
        b'{"gpus": [{"id": 1}]}',
        b'{"gpus": [{"id": "a", "pool": "ADA_24", "price": {"serverless": "1"}}]}',
    ],
)
def test_an_answer_without_prices_is_told_and_not_kept(
    command: Command, platform: PlatformApi, tmp_path: Path, body: bytes
) -> None:
    platform.fail("GET", "/v2/catalog", 200, body=body)
    told = command(*TRAFFIC, *GIVEN)
    assert (told.code, told.out) == (1, "")
    assert told.error == "--gpu: the catalogue has no price of any GPU; give --price\n"
    assert list((tmp_path / "cache").rglob("*")) == []


def test_a_price_that_can_be_none_is_passed_over(command: Command, platform: PlatformApi) -> None:
    for price in (0, -1, None):
        platform.gpus[2]["price"]["serverless"] = price
        told = command(*TRAFFIC, *GIVEN, "--gpu", "AMPERE_16", "--refresh-prices")
        assert "has no 'AMPERE_16'" in told.error


def test_a_folder_that_cannot_be_written_keeps_nothing_and_stops_nothing(
    command: Command, platform: PlatformApi, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert command(*TRAFFIC, *GIVEN).code == 0
    assert command(*TRAFFIC, *GIVEN).code == 0
    assert asked(platform) == 2
