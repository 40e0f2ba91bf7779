"""`sotto endpoint`: the arguments of plan, apply, status and destroy, of watchdog and simulate.

Invariant: light, as every start of `sotto` reads it; what a command works with is imported when it
runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sotto.endpoint import simulate, watchdog
from sotto.endpoint.numbers import number

CHANGES = 3
"""The exit code of `plan --exit-code` for changes; 2 is that of a wrong command line."""
LONGEST_WAIT_S = 900.0
OTHERS = {
    "watchdog": (watchdog, "stop pods whose queue has been empty for long"),
    "simulate": (simulate, "say how long jobs would wait, and what that would cost"),
}
"""The commands that have a room of their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sotto endpoint`."""
    commands = parser.add_subparsers(dest="endpoint_command", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        made.set_defaults(run=_run)
        return made

    planning = command("plan", "show what apply would change, and what that costs")
    _add_endpoint(planning)
    _add_json(planning)
    planning.add_argument(
        "--exit-code", action="store_true", help=f"exit with {CHANGES} if there are changes"
    )
    applying = command("apply", "create or update the endpoint, and wait until it answers")
    _add_endpoint(applying)
    applying.add_argument(
        "--wait-s",
        type=number(0, 86_400),
        default=LONGEST_WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait for it at most; 0: do not wait; else {LONGEST_WAIT_S:g}",
    )
    showing = command("status", "show workers, jobs, release and what idling costs now")
    _add_endpoint(showing)
    _add_json(showing)
    destroying = command("destroy", "take the endpoint away")
    _add_endpoint(destroying)
    destroying.add_argument("--yes", action="store_true", help="do not ask")
    destroying.add_argument("--id", help="which one, where several have the name")
    for name, (room, does) in OTHERS.items():
        made = command(name, does)
        made.set_defaults(run=room.run)
        room.add_arguments(made)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint",
        type=Path,
        default=Path("endpoint.toml"),
        metavar="FILE",
        help="what the endpoint is; else endpoint.toml in this folder",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")


def _run(args: argparse.Namespace) -> int:
    """Run a command. Gives back the exit code."""
    from sotto.endpoint.actions import run  # requests takes its time

    return run(args)
