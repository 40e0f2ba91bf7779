"""Real models, each loaded once, and what they make of the real clips."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.speech_data import Clip, clip

from sotto.audio.decoders import Decoders
from sotto.audio.source import SourceLimits
from sotto.engine import whisper
from sotto.engine.batcher import Batcher
from sotto.engine.devices import CPU
from sotto.engine.whisper import Whisper
from sotto.net import Net, NetLimits
from sotto.pipeline import Tools, transcribe
from sotto.request import parse
from sotto.transcript.transcript import Transcript

Transcribe = Callable[..., list[Transcript]]


@pytest.fixture(scope="session")
def base(weights: Path) -> Iterator[Whisper]:
    """Whisper base, two workers of one thread; jobs share its calls, as they do on a GPU."""
    batching = replace(CPU, threads=2, decode=4)
    engine = whisper.load("base", weights / "base", "cpu", "int8", batching)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def tiny(weights: Path) -> Iterator[Whisper]:
    """Whisper tiny.en, which knows only English."""
    engine = whisper.load("tiny.en", weights / "tiny.en", "cpu", "int8", CPU)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transcribed(base: Whisper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transcribe]:
    """Transcribes clips, or the bytes of files, with base; several run at once."""
    with running(base, tmp_path_factory.mktemp("audio")) as transcribe_all:
        yield transcribe_all


@pytest.fixture(scope="session")
def transcribed_by_tiny(
    tiny: Whisper, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Transcribe]:
    """Transcribes clips, or the bytes of files, with tiny.en."""
    with running(tiny, tmp_path_factory.mktemp("audio")) as transcribe_all:
        yield transcribe_all


class running:  # noqa: N801 - reads as the verb that it is
    """The pipeline around one engine, for as long as the block lasts."""

    def __init__(self, engine: Whisper, temp: Path) -> None:
        self._temp = temp
        self._batcher = Batcher(engine)
        self._decoders = Decoders()
        self._threads = ThreadPoolExecutor(2)

    def __enter__(self) -> Transcribe:
        tools = Tools(
            net=Net(NetLimits(1, 1, 1, 1)),
            limits=SourceLimits(10**9, (), self._temp),
            max_audio_s=3600,
            decoders=self._decoders,
            batcher=self._batcher,
            threads=self._threads,
            windows_ahead=lambda: 16,
        )

        def transcribe_all(*sounds: Clip | bytes, **options: object) -> list[Transcript]:
            return asyncio.run(_all(sounds, tools, options))

        return transcribe_all

    def __exit__(self, *_: object) -> None:
        self._batcher.close()
        self._threads.shutdown()
        self._decoders.close()


async def _all(
    sounds: tuple[Clip | bytes, ...], tools: Tools, options: dict[str, object]
) -> list[Transcript]:
    return await asyncio.gather(*(_one(sound, tools, options) for sound in sounds))


async def _one(sound: Clip | bytes, tools: Tools, options: dict[str, object]) -> Transcript:
    audio = sound if isinstance(sound, bytes) else sound.path.read_bytes()
    request = parse({"audio_base64": base64.b64encode(audio).decode(), **options})
    transcript = Transcript()
    async with aclosing(transcribe(request, tools, transcript)) as segments:
        given = [segment async for segment in segments]
    assert given == transcript.segments
    return transcript


SHORT = ("en-dashwood", "fr-connection", "it-mailbox-full", "ru-first-in-line")
LONG = ("en-long", "es-long", "ru-long")


@pytest.fixture(scope="session")
def answers(transcribed: Transcribe) -> dict[str, Transcript]:
    """What base makes of short and long clips in five languages, asked for all at once."""
    names = (*SHORT, *LONG)
    return dict(zip(names, transcribed(*map(clip, names)), strict=True))
