"""Sotto: a Whisper transcription worker for RunPod serverless."""

import os

# Sotto keeps every core busy with one thread of its own. Math libraries that split each call over
# all cores only get in each other's way; they read these when they are first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# CTranslate2 then takes oneDNN on every CPU. MKL, its own choice on Intel's, is as fast and needs
# 20 MB more, or 250 MB where memory comes in huge pages (base in int8, two cores).
os.environ.setdefault("CT2_USE_MKL", "0")

__version__ = "0.1.0"
