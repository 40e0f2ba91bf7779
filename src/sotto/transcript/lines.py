"""A segment in, cues with lines of a width out.

Invariant: no line is wider than asked for but for a single word that is, and the words keep their
order, their text and their times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sotto.languages import WITHOUT_SPACES
from sotto.transcript.scripts import may_part, units
from sotto.transcript.scripts import width as columns
from sotto.transcript.segments import Segment


@dataclass(frozen=True, slots=True)
class Lines:
    """How a cue is laid out: columns in a line, and lines in a cue (None: as many as needed)."""

    width: int
    count: int | None


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    start_s: float
    end_s: float


def laid_out(segment: Segment, lines: Lines) -> Iterator[tuple[float, float, list[str]]]:
    """The cues of a segment: start, end, lines. A cue begins with its first word's time."""
    rows = list(_rows(_pieces(segment), lines.width))
    size = lines.count or max(1, len(rows))
    for at in range(0, len(rows), size):
        cue = rows[at : at + size]
        texts = ["".join(piece.text for piece in row).strip() for row in cue]
        first, last = at == 0, at + size >= len(rows)
        start_s = segment.start_s if first else cue[0][0].start_s
        end_s = segment.end_s if last else cue[-1][-1].end_s
        yield start_s, end_s, texts


def _rows(pieces: Sequence[_Piece], width: int) -> Iterator[list[_Piece]]:
    row: list[_Piece] = []
    for unit in _units(pieces, width):
        if row and _columns([*row, *unit]) > width:
            yield row
            row = []
        row += unit
    if row:
        yield row


def _units(pieces: Sequence[_Piece], width: int) -> Iterator[list[_Piece]]:
    """Pieces that a reader sees as one word together, unless they are wider than a line."""
    together: list[_Piece] = []
    for piece in pieces:
        if together and may_part(together[-1].text, piece.text):
            yield from _fitting(together, width)
            together = []
        together.append(piece)
    yield from _fitting(together, width)


def _fitting(together: list[_Piece], width: int) -> Iterator[list[_Piece]]:
    if _columns(together) <= width:
        yield together
    else:
        yield from ([piece] for piece in together)


def _columns(pieces: Sequence[_Piece]) -> int:
    return columns("".join(piece.text for piece in pieces).strip())


def _pieces(segment: Segment) -> list[_Piece]:
    """The segment's words; without words, those of its text, each with its share of the time."""
    if segment.words:
        return [_Piece(word.text, word.start_s, word.end_s) for word in segment.words]
    # The language is that of the speech: a text in another script may be its translation.
    unspaced = segment.language in WITHOUT_SPACES
    parts = units(segment.text) if unspaced else re.findall(r"\s*\S+", segment.text)
    letters = sum(map(len, parts))
    pieces, said = [], 0
    for part in parts:
        start_s = _share(segment, said / letters)
        said += len(part)
        pieces.append(_Piece(part, start_s, _share(segment, said / letters)))
    return pieces


def _share(segment: Segment, share: float) -> float:
    return segment.start_s + (segment.end_s - segment.start_s) * share
