"""What every test stands on: an environment that says nothing, a log as Python leaves it, weights.

Invariant: no setting of the machine that runs the tests reaches one of them.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import speech_data

ROOT = Path(__file__).resolve().parents[1]
OURS = ("SOTTO_", "RUNPOD_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True, scope="session")
def empty_environment() -> Iterator[None]:
    """Child processes of fixtures that outlive a test inherit it too."""
    with pytest.MonkeyPatch.context() as patch:
        _empty(patch)
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A run in the background of a shell ignores Ctrl-C, and so would the programs under test."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test, or the SDK in it, leaves in the environment does not reach the next."""
    _empty(monkeypatch)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command under test may set up the log; the next test finds it as it was."""
    logger = logging.getLogger("sotto")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder with `base` and `tiny.en`; without them a test is skipped, and fails in CI."""
    folder = ROOT / "weights"
    missing = [name for name in ("base", "tiny.en") if not (folder / name / "model.json").is_file()]
    if missing:
        reason = f"weights/ lacks {', '.join(missing)}; `make test` brings them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def speech_base64() -> str:
    """Two seconds of a real voice."""
    return base64.b64encode(speech_data.clip("en-young-man").path.read_bytes()).decode()


def _empty(patch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(OURS) or name.lower() in PROXIES:
            patch.delenv(name)
