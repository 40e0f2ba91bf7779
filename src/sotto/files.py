"""`sotto transcribe`: files, folders and addresses in, transcripts printed or written.

Invariant: one file's failure leaves the others alone, and the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import typing
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from tqdm import tqdm

from sotto import log
from sotto.errors import InternalError, SottoError, UnknownModel
from sotto.models import catalogue
from sotto.options import Options
from sotto.pipeline import transcribe
from sotto.request import Request, parse
from sotto.settings import Settings, SettingsError
from sotto.targets import EXTENSIONS, Target, TargetError, find_targets, save
from sotto.transcript.formats import render
from sotto.transcript.transcript import Transcript
from sotto.workshop import Workshop

GIVEN_OTHERWISE = {
    "audio": "FILE",
    "audio_base64": "FILE",
    "audio_path": "FILE",
    "transcription": "--format",
    "translation": "--format",
}
"""Options of a job that the command line has its own way to give."""
ONLY_ON_A_WORKER = frozenset({"stream", "upload", "upload_headers", "upload_url"})
"""Options of a job that say how a worker gives its answer."""
AT_ONCE = 4
"""Files in flight: enough to keep the engine's batches full, few enough to follow."""

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Transcribe all that is named. Gives back the exit code."""
    log.configure("warning")
    try:
        settings = _settings(args)
        formats = _formats(args)
        options = _options(args, formats)
        targets = find_targets(args.inputs, args.output_dir)
    except (SettingsError, TargetError, SottoError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        failed = asyncio.run(_run(targets, settings, options, formats))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 1 if failed else 0


def _settings(args: argparse.Namespace) -> Settings:
    """The environment's settings under the flags; the person's own files may all be read."""
    changes: dict[str, Any] = {"audio_roots": ("/",)}
    if args.device is not None:
        changes["device"] = args.device
    if args.download:
        changes["model_download"] = True
    return msgspec.structs.replace(Settings.from_env(os.environ), **changes)


def _options(args: argparse.Namespace, formats: Sequence[str]) -> dict[str, Any]:
    """The job's input but for its audio. Raises TargetError, RequestError."""
    options = _named(args.option)
    for name in ("model", "language"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    if args.translate:
        options["translate"] = True
    for name in {"srt", "vtt"}.intersection(formats):
        options["transcription"] = name  # options for subtitles are refused without any
    any_source = (
        {"audio": "https://host/any"} if "audio_headers" in options else {"audio_path": "/"}
    )
    parse({**any_source, **options})
    return options


def _named(pairs: Sequence[str]) -> dict[str, Any]:
    """The options given as NAME=VALUE. Raises TargetError."""
    options: dict[str, Any] = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        if not equals:
            raise TargetError(f"--option: {text!r}: expected NAME=VALUE")
        if name in GIVEN_OTHERWISE:
            raise TargetError(f"--option: {name!r} is given by {GIVEN_OTHERWISE[name]}")
        if name in ONLY_ON_A_WORKER:
            raise TargetError(f"--option: {name!r} acts on a worker alone")
        options[name] = _value(name, value)
    return options


def _value(name: str, text: str) -> Any:
    """What is given for an option: JSON, or text if it is none.

    Text, too, where the option takes texts and nothing of the kind that the JSON is: a prompt may
    be a year. A list or an object is one all the same, and refused where it does not belong.
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    hint = typing.get_type_hints(Options).get(name)
    kinds = typing.get_args(hint) or (hint,)
    is_plain = value is not None and not isinstance(value, list | dict)
    return text if is_plain and str in kinds and type(value) not in kinds else value


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    """The formats to write; none prints the text. Raises TargetError."""
    text: str = args.format or ""
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if name not in EXTENSIONS:
            raise TargetError(f"--format: {name!r} is not one of {', '.join(EXTENSIONS)}")
    if args.output_dir is not None and not names:
        raise TargetError("--output-dir goes with --format")
    return names


async def _run(
    targets: Sequence[Target], settings: Settings, options: dict[str, Any], formats: Sequence[str]
) -> int:
    """Transcribe all targets, a few at once. Gives back how many failed."""
    workshop = Workshop(settings)
    room = asyncio.Semaphore(AT_ONCE)
    hint = _download_hint(options.get("model") or settings.model, settings.model_download)

    async def one(target: Target) -> bool:
        async with room:
            return await _transcribe(target, workshop, options, formats, len(targets) > 1, hint)

    try:
        done = await asyncio.gather(*(one(target) for target in targets))
    finally:
        workshop.close()
    return done.count(False)


async def _transcribe(
    target: Target,
    workshop: Workshop,
    options: dict[str, Any],
    formats: Sequence[str],
    named: bool,
    hint: str,
) -> bool:
    """Transcribe one target and write its formats; without any, print its text, `named` or not.

    `hint`: what else to say of a model that is not here.
    """
    try:
        request = parse({**target.source, **options})
        transcript = await _watched(target, request, workshop)
        translated = request.options.translate
        segments = transcript.translation if translated else transcript.segments
        if not formats:
            heading = f"== {target.name}\n" if named else ""
            tqdm.write(heading + render("formatted_text", segments).rstrip("\n"))
        for name in formats:
            save(target, name, render(EXTENSIONS[name], segments, request.lines))
    except (SottoError, OSError) as error:
        more = hint if isinstance(error, UnknownModel) else ""
        tqdm.write(f"{target.name}: {error}{more}", file=sys.stderr)
        return False
    except Exception:
        logger.exception("%s: %s", target.name, InternalError.code)
        return False
    for warning in transcript.warnings:
        tqdm.write(f"{target.name}: warning: {warning}", file=sys.stderr)
    return True


def _download_hint(name: str, downloads: bool) -> str:
    """What --download could do for a person whose model `name` is not here."""
    models = catalogue.load()
    if downloads:
        return f"; --download fetches {', '.join(models)}"
    return f"; --download fetches {name!r}" if catalogue.canonical(name) in models else ""


async def _watched(target: Target, request: Request, workshop: Workshop) -> Transcript:
    """Transcribe one target under a progress bar that counts seconds of audio."""
    async with workshop.open(request) as (tools, transcript):
        path = target.path
        total = await asyncio.to_thread(tools.decoders.length_s, path) if path else None
        with tqdm(
            total=total and round(total, 1),
            desc=target.name[-40:],
            unit="s",
            leave=False,
            bar_format=None if total is None else "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio",
        ) as bar:
            async with aclosing(transcribe(request, tools, transcript)) as segments:
                async for segment in segments:
                    bar.update(max(0.0, segment.end_s - bar.n))
        return transcript
