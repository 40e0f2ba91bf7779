"""What a job asks for, and the one function that accepts or refuses it.

Invariant: `parse` does no I/O, and what it returns needs no further check of its shape.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sotto.audio.embedded import decode_base64
from sotto.audio.source import Audio, EmbeddedAudio, PathAudio, UrlAudio
from sotto.errors import RequestError
from sotto.languages import LANGUAGES, suggest
from sotto.net import check_headers
from sotto.options import Options, VadParameters
from sotto.transcript.formats import FORMATS


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted job."""

    audio: Audio
    options: Options
    suppress_tokens: tuple[int, ...]
    temperatures: tuple[float, ...]
    warnings: tuple[str, ...]


def parse(job_input: object) -> Request:
    """Accept a job's `input` or raise RequestError naming the field, the value and what is allowed.

    `null` means "not given" (a rule of ours; worker-faster_whisper refuses null).
    """
    if not isinstance(job_input, Mapping):
        raise RequestError("input", f"expected an object, got {_kind(job_input)}")
    given = {name: value for name, value in job_input.items() if value is not None}
    options = _options(given)
    temperatures = _temperatures(options)
    return Request(
        audio=_audio(options),
        options=options,
        suppress_tokens=_token_ids(options.suppress_tokens),
        temperatures=temperatures,
        warnings=tuple(_without_effect(given, options, temperatures)),
    )


def _options(given: Mapping[str, Any]) -> Options:
    _refuse_unknown(given, Options, "")
    changed = dict(given)
    vad = changed.get("vad_parameters")
    if isinstance(vad, Mapping):
        changed["vad_parameters"] = {k: v for k, v in vad.items() if v is not None}
        _refuse_unknown(vad, VadParameters, "vad_parameters.")
    for field in ("transcription", "translation"):
        if field in changed:
            changed[field] = _format(field, changed[field])
    if "language" in changed:
        changed["language"] = _language(changed["language"])
    try:
        options = msgspec.convert(changed, Options)
    except msgspec.ValidationError as error:
        raise _refusal(error, given) from None
    _check_together(options)
    return options


def _refuse_unknown(given: Mapping[str, Any], struct: type[msgspec.Struct], prefix: str) -> None:
    fields = struct.__struct_fields__
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(str(name).lower(), fields, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"options are {', '.join(fields)}"
            shown = name if isinstance(name, str) and name.isidentifier() else _shown(name)
            raise RequestError(f"{prefix}{shown[:60]}", f"no such option; {hint}")


def _refusal(error: msgspec.ValidationError, given: Mapping[str, Any]) -> RequestError:
    """Turn ``Expected `int` >= 1 - at `$.beam_size` `` into our own words, with the value."""
    reason, _, path = str(error).partition(" - at `$.")
    field = path.rstrip("`")
    value: Any = given
    for part in field.split("[")[0].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    reason = reason.replace("`", "").replace("Expected", "expected").split(", got")[0]
    return RequestError(field, f"{_shown(value)}: {reason}")


def _format(field: str, value: object) -> str:
    """The format's own name; worker-faster_whisper's samples write `plain text`."""
    name = value.strip().lower().replace(" ", "_") if isinstance(value, str) else ""
    if name not in FORMATS:
        raise RequestError(field, f"{_shown(value)} is not a format; use {', '.join(FORMATS)}")
    return name


def _language(value: object) -> str | None:
    code = value.strip().lower() if isinstance(value, str) else ""
    if isinstance(value, str) and (not code or code in LANGUAGES):
        return code or None
    close = suggest(value) if isinstance(value, str) else None
    hint = f"did you mean '{close}'?" if close else f"codes are {', '.join(LANGUAGES)}"
    raise RequestError("language", f"{_shown(value)} is not a Whisper language code; {hint}")


def _check_together(options: Options) -> None:
    """Refuse options of ours that cannot act beside each other."""
    if options.audio_headers is not None:
        if options.audio is None or options.audio[:5].lower() == "data:":
            raise RequestError("audio_headers", "goes with a URL in 'audio'; there is none")
        check_headers(options.audio_headers, "audio_headers")
    if options.without_timestamps and options.word_timestamps:
        raise RequestError(
            "without_timestamps", "words have no times without it; drop 'word_timestamps'"
        )
    vad = options.vad_parameters
    if vad.neg_threshold is not None and not 0 <= vad.neg_threshold <= vad.threshold:
        raise RequestError(
            "vad_parameters.neg_threshold",
            f"{vad.neg_threshold}: expected a probability from 0 to 'threshold' ({vad.threshold})",
        )
    for field in ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"):
        if getattr(options, field) != getattr(options, field):
            raise RequestError(field, "nan: expected a number")


def _audio(options: Options) -> Audio:
    names = ("audio", "audio_base64", "audio_path")
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) != 1:
        found = "none is given" if not given else f"{' and '.join(given)} are given"
        raise RequestError("audio", f"give exactly one of {', '.join(names)}; {found}")
    if options.audio_path is not None:
        return PathAudio(options.audio_path)
    if options.audio_base64 is not None:
        return EmbeddedAudio(decode_base64(options.audio_base64, "audio_base64"))
    address = (options.audio or "").strip()
    if address[:5].lower() == "data:":
        return EmbeddedAudio(decode_base64(address, "audio"))
    if not address.lower().startswith(("http://", "https://")):
        raise RequestError(
            "audio",
            "expected an http(s) URL or a data: URI; base64 goes into 'audio_base64', "
            "a file on a volume into 'audio_path'",
        )
    return UrlAudio(address, tuple((options.audio_headers or {}).items()))


def _token_ids(value: str | int | list[int]) -> tuple[int, ...]:
    parts: list[Any] = value if isinstance(value, list) else str(value).split(",")
    try:
        ids = tuple(int(part) for part in parts if str(part).strip())
    except ValueError:
        ids = (-2,)
    if any(not -1 <= token < 2**31 for token in ids):
        raise RequestError(
            "suppress_tokens", f"{_shown(value)}: expected token ids such as '-1' or '50364,357'"
        )
    return ids


def _temperatures(options: Options) -> tuple[float, ...]:
    """The temperatures tried in turn, from the first up to 1."""
    step = options.temperature_increment_on_fallback
    if not step:
        return (options.temperature,)
    count = int(min((1.0 - options.temperature) / step + 1e-6, 100))
    return tuple(round(options.temperature + i * step, 6) for i in range(count + 1))


def _without_effect(
    given: Mapping[str, Any], options: Options, temperatures: tuple[float, ...]
) -> list[str]:
    """Name what was given and cannot act: worker-faster_whisper takes it, so we do not refuse."""
    idle = {
        "best_of": "only acts when sampling, and every temperature is 0"
        if max(temperatures) == 0
        else "",
        "beam_size": "only acts at temperature 0" if min(temperatures) > 0 else "",
        "patience": "only acts in beam search at temperature 0"
        if min(temperatures) > 0 or options.beam_size == 1
        else "",
        "compression_ratio_threshold": "only acts when a fallback temperature is left"
        if len(temperatures) == 1
        else "",
        "translation": "only acts with 'translate'" if not options.translate else "",
    }
    return [f"{field}: {why}" for field, why in idle.items() if why and field in given]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: object) -> str:
    names = {"dict": "object", "list": "array", "str": "string", "NoneType": "null"}
    return names.get(type(value).__name__, type(value).__name__)
