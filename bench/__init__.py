"""Sotto measured against faster-whisper: same weights, same speech, same machine, same run."""

import os

AS_STARTED = dict(os.environ)
"""The environment before anything imports Sotto, which sets numbers of threads and kernels in it.

What is measured beside Sotto starts without them."""
