"""Settings in, the engines out: where models lie and how they are run.

Invariant: imports no more than a load needs, since a worker begins with one.
"""

from __future__ import annotations

import os
from pathlib import Path

from sotto.engines import Engines
from sotto.models.fetch import Hub
from sotto.models.store import Store, places
from sotto.plan import EngineOptions
from sotto.settings import Settings


def engines_of(settings: Settings) -> Engines:
    """The engines of one process; none is loaded yet."""
    store = Store(
        weights_dir=Path(settings.weights_dir),
        others=places(Path(settings.volume_dir), os.environ),
        download=settings.model_download,
        hub=Hub(settings.hub_endpoint, settings.hub_token),
    )
    options = EngineOptions(
        engine=settings.engine,
        model=settings.model,
        model_fallback=settings.model_fallback,
        model_memory_bytes=settings.model_memory_bytes,
        device=settings.device,
        compute_type=settings.compute_type,
        model_workers=settings.model_workers,
        encode_batch=settings.encode_batch,
        decode_batch=settings.decode_batch,
        max_waiting=settings.max_waiting,
    )
    return Engines(store, options)
