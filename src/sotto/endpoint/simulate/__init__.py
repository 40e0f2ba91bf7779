"""`sotto endpoint simulate`: what an endpoint will cost, and how long its jobs will wait.

Invariant: nothing is deployed, started or changed, and but for the prices of the catalogue no
network is used.
"""

from __future__ import annotations

import argparse

from sotto.endpoint.simulate.arguments import add_arguments

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Simulate and tell. Gives back the exit code: 1 if something is refused or nothing will do."""
    from sotto.endpoint.simulate import command  # requests takes its time

    return command.run(args)
