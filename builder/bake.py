"""Bake models into the folder that an image, or a machine, serves them from.

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
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builder.checkpoint import ConvertError
from builder.making import DEFAULT, BakeError
from builder.model_bin import ModelBinError
from builder.origin import OWN_FOLDER, Origin, OriginError, Wanted, find
from builder.prove import ProofError
from builder.quantise import FORMATS
from builder.steps import bake

from sotto.errors import UnknownModel
from sotto.models.fetch import HUB_ENDPOINT, FetchError, Hub, verify
from sotto.models.record import read

ROOT = Path(__file__).resolve().parents[1]
EPILOG = """\
MODEL is a name of the catalogue (base, turbo), owner/name of a repository on the model hub, or a
folder or *.pt file here, which begins with '.' or '/'. A repository or folder may hold a Whisper
model for CTranslate2, or a checkpoint of the transformers library or of OpenAI's own package (one
*.pt), which is converted; that needs builder/requirements.txt. HF_TOKEN in the environment opens
private and gated repositories.
"""
ERRORS = (
    BakeError,
    ConvertError,
    FetchError,
    ModelBinError,
    OriginError,
    ProofError,
    UnknownModel,
)


def main(arguments: list[str] | None = None) -> int:
    """Bake what the command line names; the exit status."""
    options = _options(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    # It tells of each try; the error that is left when none helps says enough.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    hub = hub_from_env(os.environ)
    wanted = [Wanted(model, options.name, options.revision) for model in options.models]
    try:
        for origin in [find(one, hub) for one in wanted]:
            into = options.into / origin.name
            _bake(origin, into, options.compute_type, hub)
            if options.verify:
                verify(into)
                print(f"{origin.name}: every file has the sha256 on record")
    except ERRORS as error:
        print(f"bake: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bake: interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


def hub_from_env(environ: Mapping[str, str]) -> Hub:
    """The hub that the environment names; Sotto's own variables go before the hub's."""
    endpoint = environ.get("SOTTO_HUB_ENDPOINT") or environ.get("HF_ENDPOINT") or HUB_ENDPOINT
    token = environ.get("SOTTO_HUB_TOKEN") or environ.get("HF_TOKEN") or ""
    return Hub(endpoint, token.strip() or None)


def _bake(origin: Origin, into: Path, compute_type: str, hub: Hub) -> None:
    """Bake one model and say so. Raises one of ERRORS."""
    source = f"{origin.repository} at {origin.revision[:12]}" if origin.repository else OWN_FOLDER
    print(f"{origin.name}: {source}, licence {origin.licence}")
    started_s = time.monotonic()
    if not bake(origin, into, compute_type, hub):
        print(f"{origin.name}: already in {into}")
        return
    took_s = time.monotonic() - started_s
    print(f"{origin.name}: checked and put into {into} in {took_s:.1f} s")
    record = read(into)
    if record is not None:
        languages = f"{record.languages} languages" if record.languages > 1 else "English alone"
        print(
            f"{origin.name}: {record.compute_type}, {record.disk_bytes / 1e6:.0f} MB, "
            f"{languages}, {record.mels} mel bands"
        )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bake", description="Fetch, convert, quantise and prove models.", epilog=EPILOG
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="see below")
    parser.add_argument("--into", type=Path, default=ROOT / "weights", help="default: %(default)s")
    parser.add_argument(
        "--name", default="", help="what to call the one MODEL; a folder or file needs it"
    )
    parser.add_argument(
        "--compute-type",
        choices=[DEFAULT, *FORMATS],
        default=DEFAULT,
        help="number format to store the weights in; default: the one they come in",
    )
    parser.add_argument(
        "--revision",
        default="",
        help="commit, branch or tag of the one MODEL",
    )
    parser.add_argument("--verify", action="store_true", help="hash what is there already, too")
    options = parser.parse_args(arguments)
    if len(options.models) > 1 and (options.name or options.revision):
        parser.error("--name and --revision go with one MODEL")
    return options


if __name__ == "__main__":
    sys.exit(main())
