"""The platform's SDK, and the one place that works round its faults (runpod 1.12.0).

Invariant: the SDK is imported through `load` only, so that no fault is met unprepared.
"""

from __future__ import annotations

import logging
import os
import sys
import types
from typing import Any


def load() -> Any:
    """Import `runpod`, or give it back if it is imported already."""
    if "runpod" not in sys.modules:
        _prepare()
        handlers = list(logging.getLogger().handlers)
        import runpod  # noqa: F401 - given back by its name, also when it was here before

        # Its upload module sets up the root logger on import; that is the application's business.
        logging.getLogger().handlers = handlers
    return sys.modules["runpod"]


def _prepare() -> None:
    # Importing the SDK asks py-cpuinfo for the processor's name, which takes over a second.
    cpuinfo = types.ModuleType("cpuinfo")
    vars(cpuinfo)["get_cpu_info"] = lambda: {"brand_raw": "not asked for"}
    sys.modules.setdefault("cpuinfo", cpuinfo)
    # The SDK's own default is DEBUG, at which it logs every transcript.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
