"""The command line: `sotto transcribe FILE...`, `sotto serve` and `sotto endpoint`.

Invariant: light, as every start of `sotto` reads it; what a command works with is imported when it
runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from sotto import __version__
from sotto.endpoint import commands as endpoint
from sotto.targets import EXTENSIONS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Gives back the exit code."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sotto", description="Whisper transcription.")
    parser.add_argument("--version", action="version", version=f"sotto {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(
        commands.add_parser(
            "serve",
            help="serve an endpoint on this machine",
            description="Serve an endpoint on this machine, with real workers.",
        )
    )
    endpoint.add_arguments(
        commands.add_parser(
            "endpoint",
            help="plan, make, watch and price an endpoint of RunPod's",
            description="An endpoint of RunPod's, as its endpoint.toml describes it.",
        )
    )
    _add_transcribe(
        commands.add_parser(
            "transcribe", help="transcribe files, folders and URLs", description="Transcribe audio."
        )
    )
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    add = parser.add_argument
    add(
        "--endpoint",
        type=Path,
        default=Path("endpoint.toml"),
        metavar="FILE",
        help="what the endpoint is; else endpoint.toml in this folder",
    )
    add("--host", default="127.0.0.1", help="address to listen on; else 127.0.0.1")
    add("--port", type=_port, default=8000, help="port to listen on; 0: any; else 8000")
    add("--key", help="API key that clients must send; else 'local', if nobody else can reach it")


def _add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_transcribe)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="FILE", help="audio or video file, folder or http(s) URL")
    add(
        "--format",
        metavar="LIST",
        help=f"write files: {', '.join(EXTENSIONS)}, separated by commas; else the text is printed",
    )
    add(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="where to write, with --format; else beside the audio",
    )
    add("--model", help="name of the model; else SOTTO_MODEL or base")
    add("--language", metavar="CODE", help="spoken language; else it is detected")
    add("--translate", action="store_true", help="give the English translation instead")
    add("--device", choices=("auto", "cpu", "cuda"), help="where the model runs")
    add("--download", action="store_true", help="download the model if it is not here")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any option of a job's input, such as beam_size=1; may be repeated; VALUE is read as "
        "JSON, and as text if it is none or if the option takes text, as initial_prompt=1984 does",
    )


def _serve(args: argparse.Namespace) -> int:
    from sotto.serve import run  # aiohttp takes its time

    return run(args)


def _transcribe(args: argparse.Namespace) -> int:
    from sotto.files import run  # faster-whisper takes its time

    return run(args)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; use a number from 0 to 65535")
