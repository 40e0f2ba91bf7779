"""Settings in, everything that jobs share out.

Invariant: built once in a process and closed once; nothing here depends on how jobs arrive.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sotto.audio.source import SourceLimits
from sotto.engines import EngineOptions, Engines, cores
from sotto.models.fetch import Hub
from sotto.models.store import Store, hub_caches
from sotto.net import Net, NetLimits
from sotto.pipeline import Tools
from sotto.request import Request
from sotto.settings import Settings
from sotto.transcript.transcript import Transcript


class Workshop:
    """The engines, the network and the threads of one process."""

    def __init__(self, settings: Settings) -> None:
        store = Store(
            weights_dir=Path(settings.weights_dir),
            caches=hub_caches(os.environ),
            download=settings.model_download,
            hub=Hub(settings.hub_endpoint, settings.hub_token),
        )
        options = EngineOptions(
            engine=settings.engine,
            model=settings.model,
            model_fallback=settings.model_fallback,
            device=settings.device,
            compute_type=settings.compute_type,
            model_workers=settings.model_workers,
            encode_batch=settings.encode_batch,
            decode_batch=settings.decode_batch,
            max_waiting=settings.max_waiting,
        )
        self._engines = Engines(store, options)
        self._net = Net(
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
        # Two for each core: of the two threads of a front end, one often waits for the other.
        self._threads = ThreadPoolExecutor(2 * cores(), thread_name_prefix="sotto-front")

    async def open(self, request: Request) -> tuple[Tools, Transcript]:
        """A job's tools and its empty transcript; loads the model if need be.

        Raises UnknownModel, EngineError, OutOfMemory.
        """
        batcher, warnings = await self._engines.get(request.options.model)
        engine = batcher.engine
        transcript = Transcript((*request.warnings, *warnings))
        if not engine.multilingual:
            transcript.warnings += _english_only(request, engine.model)
        tools = Tools(
            net=self._net,
            limits=self._limits,
            max_audio_s=self._max_audio_s,
            batcher=batcher,
            threads=self._threads,
            windows_ahead=(engine.threads + 1) * engine.batch_limit,
        )
        return tools, transcript

    def close(self) -> None:
        """Stop the engines and the threads."""
        self._engines.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _english_only(request: Request, model: str) -> list[str]:
    """What a model that knows only English cannot do for this request."""
    warnings = []
    if request.options.language not in (None, "en"):
        warnings.append(f"language: model '{model}' knows only English")
    if request.options.translate:
        warnings.append(f"translate: model '{model}' cannot; the translation is the transcription")
    return warnings
