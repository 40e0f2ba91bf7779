"""The options of `sotto endpoint simulate`.

Invariant: a number that comes out is finite and within what its option allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from sotto.endpoint.numbers import listed, number, whole
from sotto.endpoint.simulate.trace import LONGEST_AUDIO_S, MOST_JOBS, Day

IDLE_TIMEOUTS_S = (5.0, 15.0, 60.0, 300.0, 900.0)
MAX_WORKERS = (1, 2, 3, 5, 8)
"""What a sweep tries if it is not told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sotto endpoint simulate`."""
    _add_traffic(parser)
    _add_worker(parser.add_argument_group("the worker").add_argument)
    _add_endpoint(parser.add_argument_group("the endpoint").add_argument)
    _add_price(parser)
    _add_sweep(parser.add_argument_group("other settings").add_argument)


def _add_traffic(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the traffic")
    either = group.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="CSV with the columns arrival_s and audio_s, a row for each job",
    )
    either.add_argument(
        "--jobs-per-day",
        type=number(0, MOST_JOBS),
        metavar="N",
        help="generate a day with about so many jobs",
    )
    add = group.add_argument
    for name, kind, text in (
        ("audio_s", number(0.1, LONGEST_AUDIO_S), "median length of a generated job's audio"),
        ("audio_sigma", number(0, 5), "spread of the lengths, which are log-normal; 0: all equal"),
        ("peak", number(1, 2), "times as many jobs at the busiest hour as on average"),
        ("peak_hour", number(0, 24), "the busiest hour of the day"),
        ("seed", whole(0, 2**32), "another seed gives another day"),
    ):
        flag = f"--{name.replace('_', '-')}"
        default = Day.__dataclass_fields__[name].default
        add(flag, type=kind, metavar="N", help=f"{text}; else {default:g}")


def _add_worker(add: Callable[..., object]) -> None:
    add(
        "--rows",
        type=Path,
        action="append",
        metavar="PATH",
        help="what the bench has measured: bench/results, or files of it; may be repeated",
    )
    add("--variant", metavar="NAME", help="row of the bench whose speed counts; else Sotto")
    add(
        "--rtfx",
        type=number(0.01, 1e6),
        metavar="N",
        help="seconds of audio a second in full batches, instead of a measured one",
    )
    add(
        "--job-s",
        type=number(0, 3600),
        metavar="S",
        help="what a job costs besides its audio, in seconds of the device",
    )
    add(
        "--batching",
        metavar="POINTS",
        help="share of the full speed by windows in flight, as 1=0.45,16=1",
    )
    add(
        "--cold-start-s",
        type=number(0, 3600),
        metavar="S",
        help="from the decision to start a worker until it asks for a job",
    )
    add(
        "--concurrency",
        type=whole(1, 1000),
        metavar="N",
        help="jobs that a worker takes at once; else SOTTO_CONCURRENCY of the endpoint",
    )


def _add_endpoint(add: Callable[..., object]) -> None:
    add(
        "--endpoint",
        type=Path,
        default=Path("endpoint.toml"),
        metavar="FILE",
        help="what the endpoint is; else endpoint.toml in this folder; the options go before it",
    )
    add("--min-workers", type=whole(0, 1000), metavar="N", help="workers that are always there")
    add("--max-workers", type=whole(1, 1000), metavar="N", help="workers at most")
    add("--idle-timeout-s", type=number(1, 3600), metavar="S", help="how long one idles")
    add("--scaler", choices=("queue_delay", "request_count"), help="when one more is started")
    add("--scaler-value", type=number(0.5, 1e6), metavar="N", help="seconds, or jobs a worker")


def _add_price(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the price")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--price", type=number(0.0001, 1e4), metavar="USD", help="what a worker costs an hour"
    )
    either.add_argument(
        "--gpu",
        metavar="NAME",
        help="pool or GPU whose price in RunPod's catalogue counts; else the endpoint's first pool",
    )
    group.add_argument(
        "--refresh-prices", action="store_true", help="ask for the catalogue's prices again"
    )


def _add_sweep(add: Callable[..., object]) -> None:
    add("--target", metavar="TEXT", help="what is wanted, such as 'p95 wait <= 10 s'")
    add("--plot", type=Path, metavar="FILE", help="draw cost and time of all settings: .png, .svg")
    add(
        "--sweep-idle-s",
        type=listed(number(1, 3600)),
        metavar="LIST",
        help=f"idle timeouts to try; else {','.join(f'{s:g}' for s in IDLE_TIMEOUTS_S)}",
    )
    add(
        "--sweep-max",
        type=listed(whole(1, 1000)),
        metavar="LIST",
        help=f"maxima of workers to try; else {','.join(map(str, MAX_WORKERS))}",
    )
