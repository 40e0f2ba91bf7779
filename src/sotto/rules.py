"""Which options go together: what is refused beside each other, what is only said to be idle.

Invariant: an option of worker-faster_whisper is never refused for the company it keeps; it is
named in the answer's warnings. An option that only Sotto has is refused when it cannot act.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from sotto.errors import RequestError
from sotto.net import check_headers, openable
from sotto.options import Options
from sotto.transcript.formats import WITH_LINES


def refuse_conflicts(given: Mapping[str, Any], options: Options) -> None:
    """Raise RequestError for an option of ours that cannot act beside the others."""
    conflict = next(chain(_conflicts(given, options), _delivery_conflicts(options)), None)
    if conflict is not None:
        raise RequestError(*conflict)
    for field in ("audio_headers", "upload_headers"):
        check_headers(getattr(options, field) or {}, field)
    vad = options.vad_parameters
    if vad.neg_threshold is not None and not 0 <= vad.neg_threshold <= vad.threshold:
        raise RequestError(
            "vad_parameters.neg_threshold",
            f"{vad.neg_threshold}: expected a probability from 0 to 'threshold' ({vad.threshold})",
        )
    for field in ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"):
        if math.isnan(getattr(options, field)):
            raise RequestError(field, "nan: expected a number")


def without_effect(
    given: Mapping[str, Any], options: Options, temperatures: tuple[float, ...]
) -> list[str]:
    """A warning for each option of worker-faster_whisper that was given and is idle."""
    samples, searches = max(temperatures) > 0, min(temperatures) == 0
    beams = searches and options.beam_size > 1
    falls_back = len(temperatures) > 1
    rules = (  # an option, whether it acts, and what to say if not
        ("best_of", samples, "only acts when sampling, and every temperature is 0"),
        ("beam_size", searches, "only acts at temperature 0"),
        ("patience", beams, "only acts in beam search at temperature 0"),
        (
            "length_penalty",
            beams or (samples and options.best_of > 1),
            "only acts where one text is chosen among several",
        ),
        (
            "temperature_increment_on_fallback",
            falls_back or not options.temperature_increment_on_fallback,
            "no temperature up to 1 is left above 'temperature'",
        ),
        (
            "compression_ratio_threshold",
            falls_back or not options.without_timestamps,  # missed speech is asked for by words
            "only acts when a fallback temperature is left",
        ),
        ("translation", options.translate, "only acts with 'translate'"),
    )
    return [f"{field}: {why}" for field, acts, why in rules if field in given and not acts]


def _conflicts(given: Mapping[str, Any], options: Options) -> Iterator[tuple[str, str]]:
    has_url = options.audio is not None and options.audio.strip()[:5].lower() != "data:"
    if options.audio_headers is not None and not has_url:
        yield "audio_headers", "goes with a URL in 'audio'; there is none"
    if options.without_timestamps and options.word_timestamps:
        yield "without_timestamps", "words have no times without it; drop 'word_timestamps'"
    if options.multilingual and options.language is not None:
        yield "multilingual", "the language is given; drop 'language' or 'multilingual'"
    if options.multilingual and options.condition_on_previous_text:
        yield "multilingual", "a text in one language prompts another; drop one of the two"
    formats = {options.transcription, *([options.translation] if options.translate else [])}
    for field in ("max_line_width", "max_line_count"):
        if field in given and not formats & set(WITH_LINES):
            yield field, f"goes with the formats {' and '.join(WITH_LINES)}; neither is asked for"
    if options.max_line_count is not None and options.max_line_width is None:
        yield "max_line_count", "goes with 'max_line_width'; it is not given"


def _delivery_conflicts(options: Options) -> Iterator[tuple[str, str]]:
    url = options.upload_url
    if url is not None and not openable(url):
        yield "upload_url", "expected an http(s) URL that takes a PUT"
    if url is not None and options.upload:
        yield "upload", "the answer goes to 'upload_url'; drop one of the two"
    if url is None and options.upload_headers is not None:
        yield "upload_headers", "goes with 'upload_url'; it is not given"
