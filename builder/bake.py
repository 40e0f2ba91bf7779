"""Fetch models into the folder that an image, or a machine, serves them from.

Run from anywhere: `python builder/bake.py base tiny.en --into weights`. Invariant: exit status 0
means that every model named stands complete below the folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from sotto.errors import UnknownModel
from sotto.models.catalogue import Model, resolve
from sotto.models.fetch import HUB_ENDPOINT, FetchError, Hub, fetch, verify
from sotto.models.record import is_complete

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Bake what the command line names; the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    hub = hub_from_env(os.environ)
    try:
        for model in [resolve(name) for name in options.models]:
            bake(model, options.into / model.name, hub, verify_all=options.verify)
    except (UnknownModel, FetchError) as error:
        print(f"bake: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bake: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


def hub_from_env(environ: Mapping[str, str]) -> Hub:
    """The hub that the environment names; Sotto's own variables go before the hub's."""
    endpoint = environ.get("SOTTO_HUB_ENDPOINT") or environ.get("HF_ENDPOINT") or HUB_ENDPOINT
    token = environ.get("SOTTO_HUB_TOKEN") or environ.get("HF_TOKEN") or None
    return Hub(endpoint, token)


def bake(model: Model, into: Path, hub: Hub, *, verify_all: bool) -> None:
    """Fetch `model` into `into` and say so. Raises FetchError."""
    print(f"{model.name}: {model.repository} at {model.revision[:12]}, licence {model.licence}")
    if is_complete(model, into):
        print(f"{model.name}: already in {into}")
    else:
        started_s = time.monotonic()
        fetch(model, into, hub=hub, progress=True)
        took_s = time.monotonic() - started_s
        print(f"{model.name}: checked and put into {into} in {took_s:.1f} s")
    if verify_all:
        verify(model, into)
        print(f"{model.name}: every file has the sha256 on record")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bake", description="Fetch and check models.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name of the catalogue")
    parser.add_argument("--into", type=Path, default=ROOT / "weights", help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="hash what is there already, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
