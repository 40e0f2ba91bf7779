"""The recorded speech of the tests: real voices, known words, known times.

Owns the reading of `speech/speech.json`. Invariant: what a clip says is what is heard in its file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "speech"
LANGUAGES = ("en", "es", "fr", "it", "ru")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One prompt in a clip; its sound begins and ends at these seconds of the clip."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio file, who speaks in it, and what; `english` is its translation, if it has one."""

    path: Path
    language: str
    seconds: float
    text: str
    english: str | None
    speaker: str
    licence: str
    source: str
    utterances: tuple[Utterance, ...]


def clips(language: str | None = None) -> tuple[Clip, ...]:
    """All clips, or those in one language."""
    return tuple(clip for clip in _load() if language in {None, clip.language})


def clip(name: str) -> Clip:
    """The clip whose file is called `name`, without its ending: `es-busy`."""
    return next(clip for clip in _load() if clip.path.stem == name)


@cache
def _load() -> tuple[Clip, ...]:
    listing = json.loads((FOLDER / "speech.json").read_text(encoding="utf-8"))
    return tuple(
        Clip(
            path=FOLDER / entry.pop("file"),
            utterances=tuple(Utterance(**utterance) for utterance in entry.pop("utterances")),
            **entry,
        )
        for entry in listing["clips"]
    )
