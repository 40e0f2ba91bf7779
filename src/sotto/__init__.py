"""Sotto: a Whisper transcription worker for RunPod serverless."""

__version__ = "0.1.0"
