"""The command: what was asked for is simulated, and told.

Invariant: what can be refused at once is refused before anything that takes time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sotto.endpoint import output
from sotto.endpoint.api import ApiError
from sotto.endpoint.config import Endpoint, EndpointError
from sotto.endpoint.simulate import given, plots, report
from sotto.endpoint.simulate.case import Case
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.simulation import simulate
from sotto.endpoint.simulate.sweep import recommended, sweep
from sotto.endpoint.simulate.target import USUAL, Target, target


def run(args: argparse.Namespace) -> int:
    """Simulate and tell. Gives back the exit code: 1 if something is refused or nothing will do."""
    try:
        return _run(args)
    except (ApiError, EndpointError, SimulationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


def _run(args: argparse.Namespace) -> int:
    wanted = None if args.target is None else target(args.target)
    if args.plot is not None:
        plots.check(args.plot)
    case = given.case(args)
    tried = given.tried(args, case.endpoint)
    outcome = simulate(case.trace, case.endpoint, case.service)
    _tell(f"{report.assumptions(case)}\n{report.result(outcome, case)}")
    return _compare(case, tried, wanted, args.plot) if tried else 0


def _compare(
    case: Case, tried: Sequence[Endpoint], wanted: Target | None, plot: Path | None
) -> int:
    """Try other settings, and tell which is the cheapest that will do."""
    measure = USUAL if wanted is None else wanted.measure
    compared = sweep(case, tried, measure)
    points = [*tqdm(compared, "settings", total=len(tried), leave=False, disable=None)]
    _tell(f"\n{report.table(points, measure, case, tried[-1].workers.max)}")
    if plot is not None:
        plots.draw(plots.Picture(points, case, measure, wanted), plot)
        _tell(f"\ndrawn: {plot}\n")
    if wanted is None:
        return 0
    _tell(f"\n{report.recommendation(points, wanted, case)}")
    return 0 if recommended(points, wanted) else 1


def _tell(text: str) -> None:
    output.write(sys.stdout, text)
