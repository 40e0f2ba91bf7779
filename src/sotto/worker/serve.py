"""The process: settings in, a worker that answers jobs out, on the platform or at a desk.

Invariant: at a desk (no job queue in the environment) one job is run, its result is printed for a
person, and the exit code says whether it succeeded. On the platform no job is taken before the
model is loaded and warm.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sotto import log
from sotto.settings import Settings, SettingsError

TEST_INPUT = "test_input.json"
FLAG = "--test_input"


class TestInputError(Exception):
    """The job to run at the desk cannot be read."""


def main(handler_file: str) -> None:
    """Start the worker. `handler_file`: path of the handler, beside or below its test input."""
    # The first process of a container is only stopped by what it listens to; the loop does later.
    signal.signal(signal.SIGTERM, _stop)
    try:
        settings = Settings.from_env(os.environ)
        sys.argv = with_test_input(sys.argv, Path(handler_file).resolve(), os.environ)
    except (SettingsError, TestInputError) as error:
        sys.exit(f"{error}")
    log.configure(settings.log_level)
    with ThreadPoolExecutor(1, thread_name_prefix="sotto-start") as starter:
        _serve(settings, starter)


def _stop(*_: object) -> None:
    """End at once: there is no job yet that could be lost."""
    os._exit(128 + signal.SIGTERM)


def _serve(settings: Settings, starter: Executor) -> None:
    """Load the model in a thread, and meanwhile the SDK, whose worker then runs."""
    at_desk = FLAG in sys.argv
    if at_desk:
        # At INFO the SDK prints the whole result, which is printed for people below.
        os.environ.setdefault("RUNPOD_LOG_LEVEL", "WARN")
    # Nothing is imported before it is needed here, so that the load begins as soon as it can.
    from sotto.loading import engines_of

    engines = engines_of(settings)
    starter.submit(engines.load)
    from sotto.net import sdk

    serverless = sdk.load().serverless
    from sotto.worker import health, job, loop

    try:
        service = job.open_service(settings, engines)
    except SettingsError as error:
        engines.close()
        sys.exit(f"{error}")
    engine = starter.submit(service.workshop.warm_up)

    async def handle(given: dict[str, Any]) -> Any:
        result = await job.run(given, service)
        if at_desk:
            sys.stdout.write(shown(result))
        return result

    try:
        if not at_desk:
            for check in health.checks(settings, engine):
                serverless.register_fitness_check(check)
            concurrency = settings.concurrency or health.concurrency(engine)
            loop.install(concurrency=concurrency, stop_grace_s=settings.stop_grace_s)
        serverless.start({"handler": handle})
    finally:
        service.workshop.close()


def with_test_input(argv: list[str], handler: Path, environ: Mapping[str, str]) -> list[str]:
    """The arguments as the SDK takes them, with the JSON of the job behind `--test_input`.

    The SDK refuses a bare `--test_input` and looks for the file in the current folder alone; here
    both a bare flag and none at all mean the file beside the handler or one level up.
    Raises TestInputError.
    """
    serves = (
        "--rp_serve_api" in argv
        or "RUNPOD_WEBHOOK_GET_JOB" in environ
        or environ.get("RUNPOD_REALTIME_PORT", "0") != "0"
    )
    given = [arg for arg in argv if arg == FLAG or arg.startswith(f"{FLAG}=")]
    if not given:
        return argv if serves else [*argv, FLAG, _checked(_file(handler), TEST_INPUT)]
    at = argv.index(given[0])
    before, rest = argv[:at], argv[at + 1 :]
    if "=" in given[0]:
        text = given[0].partition("=")[2]
    elif rest and not rest[0].startswith("--"):
        text, rest = rest[0], rest[1:]
    else:
        return [*before, FLAG, _checked(_file(handler), TEST_INPUT), *rest]
    return [*before, FLAG, _checked(text, FLAG), *rest]


def _file(handler: Path) -> str:
    for folder in (handler.parent, handler.parent.parent):
        if (folder / TEST_INPUT).is_file():
            try:
                return (folder / TEST_INPUT).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise TestInputError(f"{TEST_INPUT}: not text in UTF-8") from None
    raise TestInputError(f"{TEST_INPUT}: not found beside {handler.name} or one level up")


def _checked(text: str, source: str) -> str:
    try:
        job = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TestInputError(f"{source}: not JSON: {error}") from None
    if not isinstance(job, dict) or not isinstance(job.get("input"), dict):
        raise TestInputError(f'{source}: expected {{"input": {{…}}}}')
    return text


def shown(result: Any) -> str:
    """What a person gets to see of any result; an error is told by the SDK."""
    if isinstance(result, str):
        return f"\n{result}\n"
    if "error" in result:
        return ""
    if "transcription" in result:
        return for_people(result)
    return f"\n{json.dumps(result, indent=2, ensure_ascii=False)}\n"


def for_people(result: Mapping[str, Any]) -> str:
    """An answer as a person reads it at a terminal."""
    lines = ["", result["transcription"].strip() or "(no speech)", ""]
    lines += [
        f"  {_clock(segment['start'])} - {_clock(segment['end'])} {segment['text']}"
        for segment in result["segments"]
    ]
    if result["translation"] is not None:
        lines += ["", f"In English: {result['translation'].strip()}"]
    language = ""
    if result["detected_language"] is not None:
        probability = f"{result['language_probability']:.0%}"
        language = f"language {result['detected_language']} ({probability}), "
    lines += [
        "",
        f"{result['duration']:.1f} s of audio, {language}model {result['model']} on "
        f"{result['device']}, {result['timings']['total']:.1f} s",
    ]
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    return f"{minutes:02}:{hundredths / 100:05.2f}"
