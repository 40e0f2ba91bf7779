"""Checkpoints to convert: small ones of random weights, and one of real weights.

These tests need what builder/requirements.txt lists; `make test-convert` brings it. Without it they
are skipped, and fail where CONVERT_TESTS is `required`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.convert.checkpoints import Checkpoints


@pytest.fixture(scope="session")
def checkpoints(weights: Path) -> Checkpoints:
    """Makes checkpoints."""
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        reason = f"{', '.join(missing)} not installed; `make test-convert` brings it"
        if os.environ.get("CONVERT_TESTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    from tests.convert.checkpoints import Checkpoints

    return Checkpoints(weights)


@pytest.fixture(scope="session")
def real(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper base as a checkpoint; no test changes it."""
    return checkpoints.real(tmp_path_factory.mktemp("real") / "checkpoint")
