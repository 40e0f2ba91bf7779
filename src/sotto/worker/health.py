"""Is this worker fit to take jobs, and how many at once?

Invariant: a worker that cannot serve says why in one line before its first job, and is replaced.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from sotto.engine.base import Engine
from sotto.engine.memory import gpu
from sotto.settings import Settings

WINDOW_BYTES = 640_000_000
"""What one window takes at most: that of large-v3 in float16, whose 32 layers keep keys and values
of 1500 frames (250 MB) and of five beams of 448 tokens (370 MB)."""
JOBS_A_THREAD = 4
"""Jobs for each model worker on a CPU: more only make all of them slower."""
FEWEST_JOBS = 8


class Unfit(Exception):
    """What is wrong with this worker."""


def checks(settings: Settings, engine: Future[Engine]) -> list[Callable[[], None]]:
    """What the SDK is to call before the first job; `engine` is the default one, once it is warm.

    Each of them raises if the worker is not fit; the SDK tells the platform its name and reason.
    """

    def disk() -> None:
        check_disk(settings.temp_root or Path(tempfile.gettempdir()), settings.max_audio_bytes)

    def model() -> None:
        engine.result()

    def device() -> None:
        if settings.engine == "whisper" and settings.device == "auto":
            check_device(engine.result().device)

    return [disk, model, device]


def check_disk(folder: Path, audio_bytes: int) -> None:
    """Raise Unfit if nothing can be written to `folder`, or an audio of that size has no room."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise Unfit(f"no audio can be written to {folder}: {error.strerror}") from error
    if free < audio_bytes:
        raise Unfit(
            f"{folder} has {free} bytes free, and one audio may have {audio_bytes}; give the "
            "worker a larger disk or lower SOTTO_MAX_AUDIO_BYTES"
        )


def check_device(used: str, devices: Path = Path("/dev")) -> None:
    """Raise Unfit if a CPU is `used` beside a GPU, which is paid for and would stand idle."""
    if used == "cpu" and any(devices.glob("nvidia[0-9]*")):
        raise Unfit(
            "this machine has a GPU that CTranslate2 does not see; is its driver new enough for "
            "CUDA 12? SOTTO_DEVICE=cpu does without it"
        )


def concurrency(engine: Future[Engine]) -> int:
    """How many jobs this worker is to take at once; waits for the engine.

    It is asked once: to change the number, the SDK would stop taking jobs.
    """
    if engine.exception() is not None:
        return FEWEST_JOBS  # none will be taken: the check of the model fails
    ready = engine.result()
    memory = gpu() if ready.device == "cuda" else None
    return jobs_at_once(ready, None if memory is None else memory.free)


def jobs_at_once(engine: Engine, free_bytes: int | None) -> int:
    """How many jobs keep `engine` busy; `free_bytes` of its GPU, None if that is not known.

    Jobs may be short, of one window each. While every thread of the engine is in a call, the next
    call should fill up; how many windows a call can have, the memory decides.
    """
    if engine.device == "cpu":
        return max(FEWEST_JOBS, JOBS_A_THREAD * engine.threads)
    width = engine.batch_limit
    if free_bytes is not None:
        width = min(width, free_bytes // WINDOW_BYTES)
    return max(FEWEST_JOBS, (engine.threads + 1) * width)
