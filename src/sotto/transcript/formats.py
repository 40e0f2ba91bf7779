"""Segments in, one text out, in each format that a job may ask for.

Invariant: whatever the segments hold, the text is valid by its format's published rules and can be
written as UTF-8; a time that is not a number is a fault of ours and raises ValueError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import msgspec

from sotto.transcript.lines import Lines, laid_out
from sotto.transcript.record import encodable, segment_record, whole_ms
from sotto.transcript.scripts import spaced
from sotto.transcript.segments import Segment

_BREAKS = re.compile(r"[\t-\r\x1c-\x1e\x85\u2028\u2029]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: text that is not empty, and when it stands on the screen."""

    start_ms: int
    end_ms: int
    text: str
    channel: int | None


def render(name: str, segments: Sequence[Segment], lines: Lines | None = None) -> str:
    """`segments` in the format `name`, a key of FORMATS; `lines` acts in srt and vtt.

    Raises ValueError if a segment's time is not finite, in the formats that have times.
    """
    return FORMATS[name](segments, lines)


def plain_text(segments: Sequence[Segment], _: Lines | None = None) -> str:
    """Running text on one line."""
    text = ""
    for segment in segments:
        line = _line(segment.text)
        if text and line and (segment.text[0].isspace() or spaced(text[-1], line[0])):
            text += " "
        text += line
    return text


def formatted_text(segments: Sequence[Segment], _: Lines | None = None) -> str:
    """One segment a line."""
    shown = ((_label(segment.channel), _line(segment.text)) for segment in segments)
    return "\n".join(f"{label}{line}" for label, line in shown if line)


def srt(segments: Sequence[Segment], lines: Lines | None = None) -> str:
    """SubRip: numbered cues; it has no escapes, so an arrow in the text becomes another one."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        f"{_label(cue.channel)}{cue.text.replace('-->', '→')}\n"
        for number, cue in enumerate(cues(segments, lines, labelled=True), start=1)
    )


def vtt(segments: Sequence[Segment], lines: Lines | None = None) -> str:
    """WebVTT, its three special characters escaped, a channel given as the voice."""
    blocks = (
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        f"{'' if cue.channel is None else f'<v Channel {cue.channel}>'}"
        f"{cue.text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}\n"
        for cue in cues(segments, lines)
    )
    return "\n".join(("WEBVTT\n", *blocks))


def tsv(segments: Sequence[Segment], _: Lines | None = None) -> str:
    """Start and end in milliseconds, and the text, separated by tabs."""
    rows = (
        f"{cue.start_ms}\t{cue.end_ms}\t{_label(cue.channel)}{cue.text}\n" for cue in cues(segments)
    )
    return "".join(("start\tend\ttext\n", *rows))


def json_text(segments: Sequence[Segment], _: Lines | None = None) -> str:
    """The segments as `segment_record` gives them, in strict JSON."""
    return json.dumps(
        {"segments": [msgspec.to_builtins(segment_record(segment)) for segment in segments]},
        ensure_ascii=False,
        allow_nan=False,
    )


FORMATS: Mapping[str, Callable[[Sequence[Segment], Lines | None], str]] = {
    "plain_text": plain_text,
    "formatted_text": formatted_text,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "json": json_text,
}
WITH_LINES = ("srt", "vtt")
"""Those that have lines, and so a layout."""


def cues(
    segments: Sequence[Segment], lines: Lines | None = None, *, labelled: bool = False
) -> Iterator[Cue]:
    """The segments that have text, in order of time, each cue at least 1 ms long.

    A cue that reaches into the next one of its channel ends where that begins. `labelled`: its
    lines leave room for the label of its channel. Raises ValueError if a time is not finite.
    """
    cut: list[Cue] = []
    for channel in dict.fromkeys(segment.channel for segment in segments):
        room = len(_label(channel)) if labelled else 0
        fitting = lines and replace(lines, width=max(1, lines.width - room))
        cut += _apart([s for s in segments if s.channel == channel], fitting, channel)
    yield from sorted(cut, key=lambda cue: cue.start_ms)


def _apart(segments: Sequence[Segment], lines: Lines | None, channel: int | None) -> Iterator[Cue]:
    """The cues of one channel, none of which overlaps another."""
    timed = sorted(
        (
            (whole_ms(start_s), whole_ms(end_s), text)
            for segment in segments
            for start_s, end_s, text in _laid_out(segment, lines)
            if text
        ),
        key=lambda cue: cue[0],
    )
    starts = list(accumulate((start for start, _, _ in timed), lambda a, b: max(a + 1, b)))
    limits = [*starts, math.inf][1:]
    for start_ms, limit_ms, (_, end_ms, text) in zip(starts, limits, timed, strict=True):
        yield Cue(start_ms, max(start_ms + 1, int(min(end_ms, limit_ms))), text, channel)


def _laid_out(segment: Segment, lines: Lines | None) -> Iterator[tuple[float, float, str]]:
    if lines is None:
        yield segment.start_s, segment.end_s, _line(segment.text)
        return
    for start_s, end_s, rows in laid_out(segment, lines):
        yield start_s, end_s, "\n".join(line for line in map(_line, rows) if line)


def _label(channel: int | None) -> str:
    return "" if channel is None else f"[{channel}] "


def _line(text: str) -> str:
    """`text` on one line, without controls and without space at its ends."""
    return encodable(_BREAKS.sub(" ", _CONTROLS.sub("", text))).strip()


def _clock(time_ms: int, decimal_mark: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{ms:03}"
