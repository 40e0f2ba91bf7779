"""The worker as it is, but for a fake engine whose words are so long that answers get large."""

from __future__ import annotations

from pathlib import Path

from sotto.engine import fake
from sotto.worker.serve import main

LETTERS = 180_000
"""Of each word: a minute of audio then makes an answer of some 54 MB."""

if __name__ == "__main__":
    fake.VOCABULARY = tuple(word * (LETTERS // len(word)) for word in fake.VOCABULARY)
    main(str(Path(__file__).resolve().parents[1] / "handler.py"))
