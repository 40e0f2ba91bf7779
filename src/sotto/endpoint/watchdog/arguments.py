"""The options of `sotto endpoint watchdog`.

Invariant: a number that comes out is finite and within what its option allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from sotto.endpoint.numbers import number
from sotto.endpoint.watchdog.redis_address import REDIS_VARIABLE

WEEK_S = 7 * 24 * 3600.0
IDLE_S = 900.0
ALARM_S = 1800.0
GPU_BUSY_PERCENT = 5.0
EVERY_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sotto endpoint watchdog`."""
    _add_queue(parser)
    pods = parser.add_argument_group("the pods").add_argument
    pods("--pod", action="append", default=[], metavar="ID", help="stop this one; repeatable")
    pods(
        "--pod-name",
        action="append",
        default=[],
        metavar="GLOB",
        help="stop those whose name fits, such as 'whisper-*'; repeatable",
    )
    _add_rules(parser.add_argument_group("the rules").add_argument)
    _add_running(parser.add_argument_group("how it runs").add_argument)


def _add_queue(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the queue")
    either = group.add_mutually_exclusive_group(required=True)
    either.add_argument("--endpoint", metavar="ID", help="the jobs of a RunPod endpoint")
    either.add_argument("--redis-list", metavar="KEY", help="a list in Redis")
    either.add_argument("--redis-stream", metavar="KEY", help="a stream in Redis")
    add = group.add_argument
    add(
        "--redis",
        metavar="URL",
        help=f"the server, redis:// or rediss://; else {REDIS_VARIABLE}, where others do not see "
        "its password",
    )
    add("--group", metavar="NAME", help="consumer group: what it has not acknowledged is work")
    add(
        "--processing",
        action="append",
        default=[],
        metavar="KEY",
        help="key in Redis that holds the jobs in progress, or their number; repeatable",
    )


def _add_rules(add: Callable[..., object]) -> None:
    long = number(1, WEEK_S)
    for flag, kind, default, text in (
        ("--idle-s", long, IDLE_S, "stop after so many seconds without work"),
        ("--alarm-s", long, ALARM_S, "alarm after so many seconds without a decision"),
        ("--gpu-busy-percent", number(1, 100), GPU_BUSY_PERCENT, "a GPU used this much works"),
    ):
        add(flag, type=kind, default=default, metavar="N", help=f"{text}; else {default:g}")


def _add_running(add: Callable[..., object]) -> None:
    add("--once", action="store_true", help="look once and end, as for cron; else in a loop")
    add(
        "--every-s",
        type=number(0.1, WEEK_S),
        metavar="S",
        help=f"pause between two looks; else {EVERY_S:g}, or a quarter of --idle-s if that is less",
    )
    add("--dry-run", action="store_true", help="stop nothing, say what would be")
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="where the idle time is kept; else a file in ~/.local/state/sotto for these options",
    )
