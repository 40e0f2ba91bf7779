"""The window that an engine decodes before those of any job.

Invariant: it goes all the way that a window with speech goes, alignment included.
"""

from __future__ import annotations

import numpy as np

from sotto.engine.base import Ask, Decoding, Thresholds

FRAMES = 100
"""Frames of log-mel, a second of sound; filled up to 30 s they would take a CPU half a second."""
TOKENS = 1
"""To be produced: enough to align, and each takes as long as any other."""


def noise(mels: int, end_of_text: int) -> Ask:
    """A window of noise from which a token comes, since `end_of_text` may not."""
    return Ask(
        features=np.random.default_rng(0).random((mels, FRAMES), np.float32),
        decoding=Decoding(
            beam_size=5,
            patience=1.0,
            best_of=5,
            length_penalty=1.0,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=TOKENS,
            suppress_tokens=(-1, end_of_text),
        ),
        thresholds=Thresholds(compression_ratio=2.4, logprob=-1.0, no_speech=0.6),
        temperatures=(0.0,),
    )
