"""An engine without weights: the same window always gives the same words.

Invariant: what it answers depends on the window's features and the ask alone, so that tests can
compare a job alone with the same job among others. It ships, so that users can test with it too.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sotto.engine.base import Ask, Decoded, Draft, TimedWord
from sotto.languages import LANGUAGES

VOCABULARY = (
    "time", "people", "water", "light", "morning", "letter", "garden", "window", "river", "house",
    "story", "paper", "winter", "music", "market", "bridge",
)  # fmt: skip
WORD_S = 0.4
"""Seconds of audio for each word it makes up."""
SENTENCE = 8
"""Words after which it ends a sentence."""


@dataclass(slots=True)
class FakeEngine:
    """Says one word for every 0.4 s of a window.

    `cost_s`: seconds one call takes, from its number of rows. `fault`: called with the rows before
    anything else; raise in it to make the call fail. `distrust`: which windows need another try.
    """

    model: str = "fake"
    device: str = "cpu"
    mels: int = 80
    multilingual: bool = True
    vocabulary: int = 51_865
    batch_limit: int = 8
    threads: int = 1
    cost_s: Callable[[int], float] = lambda _: 0.0
    fault: Callable[[Sequence[Ask]], None] = lambda _: None
    distrust: Callable[[Ask], bool] = lambda _: False
    calls: list[int] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def knows(self, language: str) -> bool:
        """Every language that Whisper knows; the words are the same in all."""
        return language in LANGUAGES

    def tokenize(self, text: str) -> tuple[int, ...]:
        """One token a word: its checksum."""
        return tuple(zlib.crc32(word.encode()) % self.vocabulary for word in text.split())

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        """See Engine.decode."""
        self.calls.append(len(asks))
        self.fault(asks)
        time.sleep(self.cost_s(len(asks)))
        return [self._decode(ask) for ask in asks]

    def warm_up(self) -> None:
        """See Engine.warm_up; there is nothing to load."""

    def close(self) -> None:
        """See Engine.close."""
        self.closed.set()

    def _decode(self, ask: Ask) -> Decoded | Ask:
        words = _words(ask)
        text = "".join(word.text for word in words)
        tokens = tuple(token for word in words for token in word.tokens)
        draft = Draft(tokens, text, ask.temperature, -0.2, 0.01, 1.2)
        if self.distrust(ask) and not ask.is_last_try:
            return replace(ask, drafts=(*ask.drafts, draft))
        return Decoded(
            draft=draft,
            words=words if ask.align else None,
            translation=text.upper() if ask.translate else None,
            language=ask.language or "en",
            language_probability=1.0,
            silent=False,
        )


def _words(ask: Ask) -> tuple[TimedWord, ...]:
    seed = zlib.crc32(ask.features.tobytes())
    duration_s = ask.features.shape[1] / 100
    words = []
    for i in range(int(duration_s / WORD_S)):
        number = (seed + i * 7) % len(VOCABULARY)
        stop = "." if i % SENTENCE == SENTENCE - 1 else ""
        words.append(
            TimedWord(
                text=f" {VOCABULARY[number]}{stop}",
                tokens=(number,),
                start_s=i * WORD_S,
                end_s=(i + 1) * WORD_S,
                probability=0.9,
            )
        )
    return tuple(words)
