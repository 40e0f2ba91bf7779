"""Sotto measured against faster-whisper: same weights, same speech, same machine, same run."""
