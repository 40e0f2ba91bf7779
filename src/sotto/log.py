"""Where the log goes and how a line looks.

Invariant: no line carries transcript text, a secret, a header or the query of an address.
"""

from __future__ import annotations

import logging
import sys


def configure(level: str) -> None:
    """Log Sotto's messages of at least `level` to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("sotto")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
