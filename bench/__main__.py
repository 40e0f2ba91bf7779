"""`python -m bench`: run scenarios, write their rows down, make the report."""

from __future__ import annotations

import argparse
import sys

from bench import report, rows, scenarios


def main() -> int:
    """Run the command line. Gives back the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Sotto beside faster-whisper; results go into bench/results.",
    )
    known = (*scenarios.NAMES, *scenarios.APART)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="SCENARIO",
        choices=["all", "report", *known],
        default="all",
        help=f"all (the default: all but {', '.join(scenarios.APART)}), {', '.join(known)}, "
        "or report: only write the page",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs behind each median (3)")
    args = parser.parse_args()
    names = [args.names] if isinstance(args.names, str) else args.names
    if "all" in names:
        names = list(scenarios.NAMES)
    for name in names:
        if name != "report":
            print(f"{scenarios.load(name).TITLE} ({name})", flush=True)
            rows.append(scenarios.load(name).run(args.repeats))
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
