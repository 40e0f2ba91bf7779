"""A text in, how repetitive it is out: openai-whisper's compression ratio, counted in characters.

Invariant: of ASCII text it is openai-whisper's own number, which is counted in bytes of UTF-8.

Bytes make other scripts look repetitive, since half of Cyrillic's and two thirds of Chinese's say
nothing but the script: of ordinary Russian one window in six is above 2.4, and would be decoded
five times more for nothing. Counted in characters they are where English is, and a text that runs
in circles is still far above.
"""

from __future__ import annotations

import zlib

ASCII = 128


def compression_ratio(text: str) -> float:
    """Characters of `text` for each byte that zlib makes of them, the rarer ones sharing bytes."""
    others: dict[str, int] = {}
    characters = bytes(
        ord(one) if one.isascii() else ASCII + others.setdefault(one, len(others)) % ASCII
        for one in text
    )
    return len(characters) / len(zlib.compress(characters))
