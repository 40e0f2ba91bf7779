"""What a job asks for, and the one function that accepts or refuses it.

Invariant: `parse` does no I/O, and what it returns needs no further check of its shape.
"""

from __future__ import annotations

import difflib
import json
import math
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from sotto.audio.embedded import decode_base64
from sotto.audio.source import Audio, EmbeddedAudio, PathAudio, UrlAudio
from sotto.errors import RequestError
from sotto.languages import LANGUAGES, suggest
from sotto.net import openable
from sotto.options import (
    COLDEST,
    LEAST_STEP,
    MOST_CLIPS,
    MOST_SUPPRESSED,
    Options,
    VadParameters,
)
from sotto.rules import refuse_conflicts, without_effect
from sotto.transcript.formats import FORMATS
from sotto.transcript.lines import Lines

# Here, where one thread imports: of two that convert to a type for the first time one may crash.
msgspec.json.Decoder(Options)

SECRET = frozenset({"audio", "audio_base64", "audio_headers", "upload_url", "upload_headers"})
"""Options whose values no message repeats: an address may be signed, a header a password."""
LONGEST_NAME = 60
"""No option has a longer name."""


class Clip(NamedTuple):
    """A stretch of the audio to transcribe, in seconds; the end may be infinite."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted job. No `clips`: all of the audio."""

    audio: Audio
    options: Options
    suppress_tokens: tuple[int, ...]
    temperatures: tuple[float, ...]
    clips: tuple[Clip, ...]
    warnings: tuple[str, ...]

    @property
    def lines(self) -> Lines | None:
        """How the cues of subtitles are laid out; None leaves each on one line."""
        width = self.options.max_line_width
        return None if width is None else Lines(width, self.options.max_line_count)


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
        clips=_clips(options.clip_timestamps),
        warnings=tuple(without_effect(given, options, temperatures)),
    )


def _options(given: Mapping[str, Any]) -> Options:
    refuse_unknown(given, Options.__struct_fields__)
    for field, value in given.items():
        if isinstance(value, str) and not _is_text(value):
            raise _not_text({field: value})
    changed = dict(given)
    vad = changed.get("vad_parameters")
    if isinstance(vad, Mapping):
        changed["vad_parameters"] = {k: v for k, v in vad.items() if v is not None}
        refuse_unknown(vad, VadParameters.__struct_fields__, "vad_parameters.")
    for field in ("transcription", "translation"):
        if field in changed:
            changed[field] = _format(field, changed[field])
    if "language" in changed:
        changed["language"] = _language(changed["language"])
    if isinstance(changed.get("upload_url"), str):
        changed["upload_url"] = changed["upload_url"].strip()
    try:
        options = msgspec.convert(changed, Options)
    except msgspec.ValidationError as error:
        raise _refusal(error, given) from None
    except UnicodeEncodeError:
        raise _not_text(given) from None
    refuse_conflicts(given, options)
    return options


def refuse_unknown(given: Mapping[str, Any], fields: Sequence[str], prefix: str = "") -> None:
    """Raise RequestError for a name in `given` that is none of `fields`, with what was meant."""
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(str(name)[:LONGEST_NAME].lower(), fields, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"options are {', '.join(fields)}"
            called = name if isinstance(name, str) and name.isidentifier() else shown(name)
            raise RequestError(f"{prefix}{called[:LONGEST_NAME]}", f"no such option; {hint}")


def _is_text(value: str) -> bool:
    """Can it be written down? JSON may hold half of a pair that stands for one character."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _not_text(given: Mapping[str, Any]) -> RequestError:
    """Half a character somewhere in the value of a field: on its own, or in a list or an object."""
    for field, value in given.items():
        if not _is_text(json.dumps(value, ensure_ascii=False, default=repr)):
            told = _told(field, value)
            return RequestError(field, f"{told}: expected whole characters, not half of one")
    return RequestError("input", "expected whole characters, not half of one")


def _refusal(error: msgspec.ValidationError, given: Mapping[str, Any]) -> RequestError:
    """Turn ``Expected `int` >= 1 - at `$.beam_size` `` into our own words, with the value."""
    reason, _, path = str(error).rpartition(" - at `$.")
    field = path.rstrip("`")
    value: Any = given
    for part in field.split("[")[0].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    reason = reason.replace("`", "").replace("Expected", "expected").split(", got")[0]
    if reason.startswith("Invalid enum value"):
        reason = f"expected {' or '.join(map(repr, _choices(field)))}"
    return RequestError(field, f"{_told(field.split('[')[0], value)}: {reason}")


def _choices(field: str) -> tuple[str, ...]:
    hint = typing.get_type_hints(Options)[field]
    return typing.get_args(hint)


def _format(field: str, value: object) -> str:
    """The format's own name; worker-faster_whisper's samples write `plain text`."""
    name = value.strip().lower().replace(" ", "_") if isinstance(value, str) else ""
    if name not in FORMATS:
        raise RequestError(field, f"{shown(value)} is not a format; use {', '.join(FORMATS)}")
    return name


def _language(value: object) -> str | None:
    code = value.strip().lower() if isinstance(value, str) else ""
    if isinstance(value, str) and (not code or code in LANGUAGES):
        return code or None
    close = suggest(value) if isinstance(value, str) else None
    hint = f"did you mean '{close}'?" if close else f"codes are {', '.join(LANGUAGES)}"
    raise RequestError("language", f"{shown(value)} is not a Whisper language code; {hint}")


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
    if not _names_a_host(address):
        raise RequestError(
            "audio", "expected an http(s) URL with a host, and a port up to 65535 if any"
        )
    return UrlAudio(address, tuple((options.audio_headers or {}).items()))


def _names_a_host(address: str) -> bool:
    """Does it say, in the form of one, which host it leads to? Its path is for the host to judge.

    An address that does not would fail later, as a source that may be there another time.
    """
    with suppress(ValueError):
        parts = urlsplit(address)
        return " " not in (parts.hostname or "") and openable(f"{parts.scheme}://{parts.netloc}")
    return False


def _token_ids(value: str | int | list[int]) -> tuple[int, ...]:
    parts: list[Any] = value if isinstance(value, list) else str(value).split(",")
    if len(parts) > MOST_SUPPRESSED:
        raise RequestError(
            "suppress_tokens", f"{len(parts)} token ids: expected at most {MOST_SUPPRESSED}"
        )
    ids: tuple[int, ...] | None = None
    with suppress(ValueError):
        ids = tuple(int(part) for part in parts if str(part).strip())
    if ids is None or any(not -1 <= token < 2**31 for token in ids):
        raise RequestError(
            "suppress_tokens", f"{shown(value)}: expected token ids such as '-1' or '50364,357'"
        )
    return tuple(sorted(set(ids)))


def _temperatures(options: Options) -> tuple[float, ...]:
    """The temperatures tried in turn, from the first up to 1.

    Below COLDEST there is none: what a model divides its scores by must not make them infinite, in
    float16 either.
    """
    step = options.temperature_increment_on_fallback
    if 0 < step < LEAST_STEP:
        raise RequestError(
            "temperature_increment_on_fallback",
            f"{shown(step)}: expected 0, or {LEAST_STEP} to 1",
        )
    first = options.temperature if options.temperature >= COLDEST else 0.0
    count = int((1.0 - first) / step + 1e-6) if step else 0
    return tuple(round(first + i * step, 6) for i in range(count + 1))


def _clips(value: str | list[float]) -> tuple[Clip, ...]:
    """Pairs of seconds in order; the last end may be missing. The whole audio is no clip at all."""
    parts: list[Any] = value if isinstance(value, list) else value.split(",")
    if len(parts) > 2 * MOST_CLIPS:
        raise RequestError(
            "clip_timestamps", f"{len(parts)} seconds: expected at most {2 * MOST_CLIPS}"
        )
    edges: list[float] = []
    with suppress(ValueError):
        edges = [float(part) for part in parts]
    ordered = all(a < b for a, b in pairwise(edges))
    if not edges or edges[0] < 0 or not ordered or not all(map(math.isfinite, edges)):
        raise RequestError(
            "clip_timestamps",
            f"{shown(value)}: expected rising seconds: start, end, start, end, ...",
        )
    if len(edges) % 2:
        edges.append(math.inf)
    clips = tuple(Clip(*pair) for pair in zip(edges[::2], edges[1::2], strict=True))
    return () if clips == (Clip(0.0, math.inf),) else clips


def _told(field: str, value: object) -> str:
    """`value` as a message about its field may show it; of what may be a secret only its kind."""
    return _kind(value) if field in SECRET else shown(value)


def shown(value: object) -> str:
    """`value` as a message shows it, cut short if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: object) -> str:
    names = {"dict": "object", "list": "array", "str": "string", "NoneType": "null"}
    return names.get(type(value).__name__, type(value).__name__)
