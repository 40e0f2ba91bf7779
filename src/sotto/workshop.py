"""Settings in, everything that jobs share out.

Invariant: built once in a process and closed once; nothing here depends on how jobs arrive.
"""

from __future__ import annotations

import os
import wave
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from sotto import model_rules
from sotto.audio.decoders import Decoders
from sotto.audio.features import log_mel
from sotto.audio.pcm import RATE
from sotto.audio.source import SourceLimits, temporary_file
from sotto.audio.vad import listen
from sotto.audio.windows import Window, cut
from sotto.engine.base import Engine
from sotto.engines import Engines
from sotto.loading import engines_of
from sotto.net import Net, NetLimits
from sotto.pipeline import Tools, vad
from sotto.plan import cores
from sotto.request import Request, parse
from sotto.settings import Settings
from sotto.transcript.transcript import Transcript


class Workshop:
    """The engines, the network and the threads of one process; `net` opens callers' addresses.

    `engines`: those of `engines_of`, if they have been begun to load already.
    """

    def __init__(self, settings: Settings, engines: Engines | None = None) -> None:
        self._engines = engines or engines_of(settings)
        self._decoders = Decoders()
        self.net = Net(
            NetLimits(
                connect_timeout_s=settings.connect_timeout_s,
                read_timeout_s=settings.read_timeout_s,
                fetch_timeout_s=settings.fetch_timeout_s,
                max_bytes=settings.max_audio_bytes,
            )
        )
        self._limits = SourceLimits(
            max_audio_bytes=settings.max_audio_bytes,
            audio_roots=tuple(Path(root) for root in settings.audio_roots),
            temp_root=settings.temp_root,
        )
        self._max_audio_s = settings.max_audio_s
        self._jobs = 0
        # Two for each core: a front end often waits for its decoder.
        self._threads = ThreadPoolExecutor(2 * cores(), thread_name_prefix="sotto-front")

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[tuple[Tools, Transcript]]:
        """A job's tools and its empty transcript, for as long as the block lasts.

        Loads the model if need be, and waits until there is room for it. Raises UnknownModel,
        EngineError, OutOfMemory, and RequestError for what this model does not know.
        """
        async with self._engines.lease(request.options.model) as (batcher, warnings):
            engine = batcher.engine
            model_rules.refuse(request, engine)
            idle = model_rules.without_effect(request, engine)
            transcript = Transcript((*request.warnings, *warnings, *idle))
            tools = Tools(
                net=self.net,
                limits=self._limits,
                max_audio_s=self._max_audio_s,
                decoders=self._decoders,
                batcher=batcher,
                threads=self._threads,
                windows_ahead=lambda: windows_ahead(engine, self._jobs),
            )
            self._jobs += 1
            try:
                yield tools, transcript
            finally:
                self._jobs -= 1

    def warm_up(self) -> Engine:
        """Load the default model and, meanwhile, all else that a first job would load; blocks.

        Raises UnknownModel, EngineError, OutOfMemory, and InternalError if nothing can be written.
        """
        load = self._engines.load()
        windows = self._noise()
        engine = load.result().engine
        for window in windows:
            log_mel(window.pcm, engine.mels)
        return engine

    def models(self) -> tuple[str, ...]:
        """The names of the models that are here, in alphabetical order; blocks for the disk."""
        return self._engines.available()

    @property
    def healthy(self) -> bool:
        """False once an engine has died: the process can only be replaced."""
        return self._engines.healthy

    def close(self) -> None:
        """Stop the engines and the threads."""
        self._engines.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()

    def _noise(self) -> list[Window]:
        """A second of noise, gone through all that stands before the engine."""
        with temporary_file(self._limits.temp_root) as (path, file):
            with wave.open(file, "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(RATE)
                sound.writeframes(os.urandom(2 * RATE))
            blocks = self._decoders.decode(path, max_audio_s=2.0)
            heard = listen(blocks, vad(parse({"audio_path": str(path)})))
            return list(cut(heard, keep_silence=True))


def windows_ahead(engine: Engine, jobs: int) -> int:
    """Windows that each of so many jobs may have cut, so that together they keep `engine` busy.

    One job has, for each thread, a call at work and one that waits, and one more on its way.
    Several share twice that: what one of them has may not be what is wanted next.
    """
    alone = (2 * engine.threads + 1) * engine.batch_limit
    return min(alone, 2 * alone // max(1, jobs))
