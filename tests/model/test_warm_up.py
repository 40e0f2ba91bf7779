"""The real engine's warm-up: cheap, and all the way through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sotto.engine import whisper
from sotto.engine.devices import CPU
from sotto.engine.whisper import Whisper
from sotto.errors import EngineError

pytestmark = pytest.mark.model


class Watched:
    """CTranslate2's model, and what was asked of it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.shapes: list[list[int]] = []
        self.calls: list[str] = []

    def encode(self, features: Any, **options: Any) -> Any:
        self.shapes.append(list(features.shape))
        return self._model.encode(features, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            return getattr(self._model, name)(*args, **options)

        return call


@pytest.fixture
def engine(weights: Path) -> Iterator[Whisper]:
    made = whisper.load("base", weights / "base", "cpu", "int8", CPU)
    yield made
    made.close()


def test_the_warm_up_encodes_one_second_and_asks_for_all_that_a_job_asks(
    engine: Whisper,
) -> None:
    watched = Watched(engine._ct2)
    engine._ct2 = engine._whisper.model = watched
    engine.warm_up()
    assert watched.shapes == [[1, 80, 100]]
    assert watched.calls == ["detect_language", "generate", "align"]


def test_a_warm_up_that_fails_is_told(engine: Whisper) -> None:
    engine.mels = 7
    with pytest.raises(EngineError, match="the warm-up failed: "):
        engine.warm_up()
