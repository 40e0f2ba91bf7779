"""The platform's SDK, and the one place that works round its faults (runpod 1.12.0).

Its loop, which loses jobs, is replaced in `worker/loop.py`, and how it reads them in
`worker/take.py`.

Invariant: the SDK is imported through `load` only, so that no fault is met unprepared, and it
never logs what is below INFO, whatever level it is told, nor the query of an address.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LEAKY = frozenset({"TRACE", "DEBUG"})
"""The levels at which the SDK logs transcripts, and the queue's addresses with their keys."""
QUERY = re.compile(r"\?[\w.~%-]+=[^\s'\")>]*")


def load() -> Any:
    """Import `runpod`, or give it back if it is imported already."""
    if "runpod" not in sys.modules:
        _prepare()
        handlers = list(logging.getLogger().handlers)
        with _without_slow_imports():
            import runpod  # noqa: F401 - given back by its name, also when it was here before

        # Its upload module sets up the root logger on import; that is the application's business.
        logging.getLogger().handlers = handlers
        _hush(sys.modules["runpod"])
    return sys.modules["runpod"]


def _prepare() -> None:
    # The SDK's own default is DEBUG. Its ping process may import it anew and know only this.
    if os.environ.get("RUNPOD_LOG_LEVEL", "DEBUG").upper() in LEAKY:
        os.environ["RUNPOD_LOG_LEVEL"] = "INFO"


@contextmanager
def _without_slow_imports() -> Iterator[None]:
    """Stand in for two modules that the SDK imports and a worker has no use for.

    py-cpuinfo takes over a second to find the processor's name, which only goes into a header;
    paramiko is for the SDK's own command line.
    """
    stand_ins = {name: types.ModuleType(name) for name in ("cpuinfo", "paramiko")}
    vars(stand_ins["cpuinfo"])["get_cpu_info"] = lambda: {"brand_raw": "not asked for"}
    missing = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _hush(runpod: Any) -> None:
    # The level can be lowered later, by `--rp_log_level` for one.
    logger = runpod.serverless.modules.rp_logger.RunPodLogger
    logger.debug = logger.trace = lambda *_, **__: None
    plain = logger.log

    # Of a ping that fails it tells the address, and the key in it.
    def log(self: Any, message: object, *args: Any, **how: Any) -> None:
        plain(self, QUERY.sub("?...", str(message)), *args, **how)

    logger.log = log
