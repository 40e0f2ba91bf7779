"""What an engine is asked and what it answers, window by window.

Invariant: these types know nothing of CTranslate2, of jobs or of files; times are seconds inside
the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sotto.models.memory import BEAMS
from sotto.models.shapes import TOKENS

PROMPT = TOKENS // 2 - 1
"""Tokens that may stand before a window's text: half of the decoder's positions, less one."""
LISTED = 100
"""Suppressed tokens for which a window weighs one more.

On a GPU CTranslate2 notes them for every row at every step, in a list that it keeps in order:
51,000 notes, those of 1,600 tokens in 32 rows, took 50 ms a step. What Whisper itself suppresses is
about as many tokens as this.
"""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Options of one `generate` call: windows decoded together must agree in all of them."""

    beam_size: int
    patience: float
    best_of: int
    length_penalty: float
    repetition_penalty: float
    no_repeat_ngram_size: int
    max_new_tokens: int | None
    suppress_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a text is not believed (openai-whisper's rules, judged window by window)."""

    compression_ratio: float
    logprob: float
    no_speech: float


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of one try, before its words have times."""

    tokens: tuple[int, ...]
    text: str
    temperature: float
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word as aligned by the model; `text` carries the space before it."""

    text: str
    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the engine makes of a window.

    `words` is None when no alignment was asked for. `translation` is English text, None when not
    asked for. `silent`: the window was judged to hold no speech, and `draft.text` is empty.
    `encoded` is whatever the engine keeps for the same window in another language; None when that
    was not asked for.
    """

    draft: Draft
    words: tuple[TimedWord, ...] | None
    translation: str | None
    language: str
    language_probability: float
    silent: bool
    encoded: Any = None

    def silenced(self) -> Decoded:
        """The same window without its text: nobody speaks, or nothing that can be believed."""
        return replace(
            self,
            draft=replace(self.draft, tokens=(), text=""),
            words=None if self.words is None else (),
            translation=None if self.translation is None else "",
            silent=True,
        )


class BatchKey(NamedTuple):
    """Windows may share a call of the engine if these are equal.

    CTranslate2 wants `<|startoftranscript|>` at one position in all rows, hence `prompt_length`;
    languages and prompts themselves may differ.
    """

    decoding: Decoding
    temperature: float
    prompt_length: int
    translate: bool
    align: bool


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One window to decode.

    `features`: log-mel, float32, (mels, frames), at most 3000 frames. `prompt`: tokens of the text
    before the window. `language`: None to detect it. `temperatures`: tried from the first one;
    `drafts` are the tries so far and `encoded` whatever the engine keeps for the next one. `keep`:
    give that back with the result too, since the window may be asked for in another language.
    """

    features: NDArray[np.float32]
    decoding: Decoding
    thresholds: Thresholds
    temperatures: tuple[float, ...]
    prompt: tuple[int, ...] = ()
    language: str | None = None
    translate: bool = False
    align: bool = True
    drafts: tuple[Draft, ...] = ()
    encoded: Any = None
    keep: bool = False

    @property
    def temperature(self) -> float:
        """The temperature of the next try."""
        return self.temperatures[len(self.drafts)]

    @property
    def weight(self) -> int:
        """Windows that the next try weighs as much as.

        Five beams share what the decoder keeps of the audio; candidates that are sampled have a
        copy each. With base on a CPU those of four windows take 800 MB, five beams of them 200 MB.
        """
        decoding = self.decoding
        texts = decoding.best_of if self.temperature > 0 else -(-decoding.beam_size // BEAMS)
        return max(texts, -(-len(decoding.suppress_tokens) // LISTED))

    @property
    def is_last_try(self) -> bool:
        """Is no temperature left after the next try?"""
        return len(self.drafts) + 1 == len(self.temperatures)

    @property
    def key(self) -> BatchKey:
        """What must be equal in windows that share a call."""
        return BatchKey(
            self.decoding, self.temperature, len(self.prompt), self.translate, self.align
        )


class Engine(Protocol):
    """A loaded model. Once it is warm, its threads alone may call `decode`.

    All that is no method is constant. `vocabulary`: the number of tokens; their ids are from 0 on.
    """

    model: str
    device: str
    mels: int
    multilingual: bool
    vocabulary: int
    batch_limit: int
    threads: int

    def knows(self, language: str) -> bool:
        """Can it be told that this language, a code such as "en", is spoken?"""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Tokens of a prompt text."""
        ...

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        """Decode windows that share a key, one result for each, in order.

        A result that is an Ask is the same window again with one more draft: its text was not
        believed and a temperature is left. Blocks; raises EngineError or OutOfMemory.
        """
        ...

    def warm_up(self) -> None:
        """Pay for all that is made when it is first used; called once, before `decode`.

        Blocks; raises EngineError or OutOfMemory.
        """
        ...

    def close(self) -> None:
        """Free the device's memory; nothing may be decoded afterwards."""
        ...


def distrusted(draft: Draft, thresholds: Thresholds) -> bool:
    """Should the window be decoded again at a higher temperature?

    openai-whisper's rule: too repetitive or too improbable, unless it is improbable because nobody
    speaks.
    """
    if is_silence(draft, thresholds):
        return False
    return is_repetitive(draft, thresholds) or draft.avg_logprob < thresholds.logprob


def is_repetitive(draft: Draft, thresholds: Thresholds) -> bool:
    """Does the text go round in circles?"""
    return draft.compression_ratio > thresholds.compression_ratio


def is_silence(draft: Draft, thresholds: Thresholds) -> bool:
    """Does the model itself doubt that there is speech, and its text as well?"""
    improbable = draft.avg_logprob < thresholds.logprob
    return improbable and draft.no_speech_prob > thresholds.no_speech


def best(drafts: Sequence[Draft], thresholds: Thresholds) -> Draft:
    """The draft to keep when none is believed: the most probable that is not repetitive.

    Its temperature is that of the last try, as in faster-whisper.
    """
    usable = [draft for draft in drafts if not is_repetitive(draft, thresholds)]
    kept = max(usable or drafts, key=lambda draft: draft.avg_logprob)
    return replace(kept, temperature=drafts[-1].temperature)
