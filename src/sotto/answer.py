"""A finished transcript in, the job's answer out: worker-faster_whisper's keys and our own.

Invariant: an answer is plain JSON - no NaN, no infinity, no numpy scalar, no lone surrogate - since
the platform's SDK drops any other answer without a word and the job hangs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sotto.request import Request
from sotto.transcript.formats import render
from sotto.transcript.record import (
    SegmentRecord,
    WordRecord,
    encodable,
    segment_record,
    statistic,
)
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript


class Answer(msgspec.Struct, frozen=True):
    """A job's `output`."""

    segments: Annotated[tuple[SegmentRecord, ...], Meta(description="The subtitles.")]
    detected_language: Annotated[
        str | None,
        Meta(description="Language code, given or detected; null if nobody speaks to detect it."),
    ]
    language_probability: Annotated[
        float | None,
        Meta(description="Belief in the language; 1 if it was given, 0 if none was detected."),
    ]
    transcription: Annotated[str, Meta(description="The text, in the format asked for.")]
    translation: Annotated[
        str | None, Meta(description="The English text, with `translate`; else null.")
    ]
    device: Annotated[str, Meta(description="`cuda` or `cpu`.")]
    model: Annotated[str, Meta(description="Name of the model.")]
    duration: Annotated[float, Meta(description="Seconds of audio.")]
    duration_after_vad: Annotated[
        float, Meta(description="Seconds of audio that were decoded, silence left out.")
    ]
    uncovered_s: Annotated[
        float | None,
        Meta(
            description="Seconds of speech for which no words were found, even when asked again; "
            "null with `without_timestamps`, where it is not known."
        ),
    ]
    word_timestamps: Annotated[
        tuple[WordRecord, ...] | msgspec.UnsetType,
        Meta(description="All words in one list, with `word_timestamps`; else absent."),
    ]
    timings: Annotated[
        dict[str, float],
        Meta(
            description="Seconds by stage: `fetch`, `decode`, `vad` and `features` (thread time), "
            "`engine` (from the fetched file to the last word, front end included), `total`."
        ),
    ]
    warnings: Annotated[
        tuple[str, ...], Meta(description="What you asked for that could not act, and the like.")
    ]


def answer(request: Request, transcript: Transcript, *, model: str, device: str) -> Answer:
    """The answer to a job whose transcript is finished."""
    with_words = request.options.word_timestamps
    segments = tuple(segment_record(s, with_words=with_words) for s in transcript.segments)
    words = tuple(word for segment in segments for word in segment.words or ())
    options, lines = request.options, request.lines
    said: Sequence[Segment] = transcript.segments
    if options.transcription == "json" and not with_words:
        said = [replace(segment, words=None) for segment in said]
    translated = None
    if options.translate:
        translated = render(options.translation, transcript.translation, lines)
    language = transcript.language
    return Answer(
        segments=segments,
        detected_language=language.code if language else None,
        language_probability=statistic(language.probability) if language else 0.0,
        transcription=render(options.transcription, said, lines),
        translation=translated,
        device=device,
        model=encodable(model),
        duration=round(transcript.duration_s, 3),
        duration_after_vad=round(transcript.decoded_s, 3),
        uncovered_s=None if transcript.uncovered_s is None else round(transcript.uncovered_s, 3),
        word_timestamps=words if with_words else msgspec.UNSET,
        timings={stage: round(s, 3) for stage, s in transcript.seconds().items()},
        warnings=tuple(encodable(warning) for warning in transcript.warnings),
    )


def as_json(value: Answer) -> dict[str, Any]:
    """The answer as what `json.dumps` takes; shown by having taken it. Raises ValueError if not."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    loaded: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
    return loaded
