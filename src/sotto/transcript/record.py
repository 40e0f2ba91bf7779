"""A segment as JSON says it, in the answer and in the `json` format alike.

Invariant: every value is one that strict JSON and UTF-8 can carry; a time that is not a number is a
fault of ours and raises ValueError, a statistic that is not one becomes null.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from sotto.transcript.segments import Segment
from sotto.transcript.words import Word

_SURROGATES = re.compile(r"[\ud800-\udfff]")


class WordRecord(msgspec.Struct, frozen=True):
    """A word in `segments[].words` and in `word_timestamps`."""

    word: Annotated[str, Meta(description="The word, with the space before it.")]
    start: Annotated[float, Meta(description="Second at which it begins.")]
    end: Annotated[float, Meta(description="Second at which it ends.")]
    probability: Annotated[float | None, Meta(description="The model's belief in it, 0 to 1.")]


class SegmentRecord(msgspec.Struct, frozen=True):
    """An item of `segments`; each is what a person would read as one subtitle."""

    id: Annotated[int, Meta(description="Number in file order, from 1.")]
    seek: Annotated[int, Meta(description="Start of its window, in 1/100 s.")]
    start: Annotated[float, Meta(description="Second at which it begins.")]
    end: Annotated[float, Meta(description="Second at which it ends.")]
    text: Annotated[str, Meta(description="What is said.")]
    tokens: Annotated[tuple[int, ...], Meta(description="The text's token ids.")]
    temperature: Annotated[float | None, Meta(description="Temperature of its window.")]
    avg_logprob: Annotated[float | None, Meta(description="Its window's average log-probability.")]
    compression_ratio: Annotated[float | None, Meta(description="Its window's compression ratio.")]
    no_speech_prob: Annotated[float | None, Meta(description="Its window's no-speech probability.")]
    language: Annotated[str, Meta(description="Language code of its window.")]
    channel: Annotated[
        int | msgspec.UnsetType,
        Meta(description="Number of its channel, from 0, with `channels: split`; else absent."),
    ]
    words: Annotated[
        tuple[WordRecord, ...] | msgspec.UnsetType,
        Meta(description="Its words, with `word_timestamps`; else absent."),
    ]


def segment_record(segment: Segment, *, with_words: bool = True) -> SegmentRecord:
    """`segment` with times in seconds. Raises ValueError if a time is not finite."""
    words: tuple[WordRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    if with_words and segment.words is not None:
        words = tuple(word_record(word) for word in segment.words)
    return SegmentRecord(
        id=int(segment.id),
        seek=int(segment.seek),
        start=whole_ms(segment.start_s) / 1000,
        end=whole_ms(segment.end_s) / 1000,
        text=encodable(segment.text),
        tokens=tuple(int(token) for token in segment.tokens),
        temperature=statistic(segment.temperature),
        avg_logprob=statistic(segment.avg_logprob),
        compression_ratio=statistic(segment.compression_ratio),
        no_speech_prob=statistic(segment.no_speech_prob),
        language=segment.language,
        channel=msgspec.UNSET if segment.channel is None else segment.channel,
        words=words,
    )


def word_record(word: Word) -> WordRecord:
    """`word` with times in seconds. Raises ValueError if a time is not finite."""
    return WordRecord(
        word=encodable(word.text),
        start=whole_ms(word.start_s) / 1000,
        end=whole_ms(word.end_s) / 1000,
        probability=statistic(word.probability),
    )


def encodable(text: str) -> str:
    """`text` with a replacement character for each code point that UTF-8 cannot carry."""
    return _SURROGATES.sub("\ufffd", text)


def statistic(number: float) -> float | None:
    """A plain float of four digits, None if it is not finite."""
    return round(float(number), 4) if math.isfinite(number) else None


def whole_ms(time_s: float) -> int:
    """`time_s` in whole milliseconds; a moment before the start of the file is its start."""
    if not math.isfinite(time_s):
        raise ValueError(f"time: {time_s!r} s is not finite")
    return max(0, round(time_s * 1000))
