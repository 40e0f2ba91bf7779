"""Sotto: a Whisper transcription worker for RunPod serverless."""

import os

# Sotto keeps every core busy with one thread of its own. Math libraries that split each call over
# all cores only get in each other's way; they read these when they are first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"
