"""A transcript against what was said: words, times, and the shape of its segments.

Invariant: a word error is counted after Whisper's own normaliser, and a time is judged only where
the word itself was recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import jiwer
import numpy as np

from bench.speech import Utterance

Normaliser = Callable[[str], str]
NEAR_S = 0.2
"""How far an utterance's start or end may be off."""
AT_S = 0.05
"""How far a segment's end may be from a voice's end to be the same."""
READABLE_S = 7.0
READABLE_CHARS = 84
SENTENCE_ENDS = tuple(".?!…。？！")


@dataclass(frozen=True, slots=True)
class Cue:
    """A segment of either system; a word is its text, start and end in seconds."""

    text: str
    start_s: float
    end_s: float
    words: Sequence[tuple[str, float, float]]


def normaliser(language: str) -> Normaliser:
    """Whisper's normaliser for a language: case, punctuation and, in English, spelling."""
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    made: Normaliser = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    return made


def word_errors(cues: Sequence[Cue], said: Sequence[Utterance], normalise: Normaliser) -> float:
    """Word error rate of the whole text."""
    reference = normalise(" ".join(utterance.text for utterance in said))
    return float(jiwer.wer(reference, normalise(" ".join(cue.text for cue in cues))))


def times(cues: Sequence[Cue], said: Sequence[Utterance], normalise: Normaliser) -> dict[str, Any]:
    """How far the starts and ends of utterances are off, where their outer words were found."""
    reference, numbers = _words([utterance.text for utterance in said], normalise)
    heard = [word for cue in cues for word in cue.words]
    hypothesis, owners = _words([text for text, _, _ in heard], normalise)
    if not hypothesis:
        return {}
    partner = _matched(reference, hypothesis)
    first = {number: at for at, number in reversed(list(enumerate(numbers)))}
    last = {number: at for at, number in enumerate(numbers)}
    starts = [
        abs(heard[owners[partner[at]]][1] - said[number].start_s)
        for number, at in first.items()
        if at in partner
    ]
    ends = [
        abs(heard[owners[partner[at]]][2] - said[number].end_s)
        for number, at in last.items()
        if at in partner
    ]
    return {**_spread("start", starts), **_spread("end", ends)}


def shape(cues: Sequence[Cue], voice_ends_s: Sequence[float]) -> dict[str, Any]:
    """Do the segments read as subtitles?"""
    if not cues:
        return {"segments": 0}
    ends = np.array([*voice_ends_s, np.inf])
    lengths = [cue.end_s - cue.start_s for cue in cues]
    readable = [
        length <= READABLE_S and len(cue.text.strip()) <= READABLE_CHARS
        for cue, length in zip(cues, lengths, strict=True)
    ]
    gaps = [after[1] - word[2] for cue in cues for word, after in pairwise(cue.words)]
    closed = [
        cue.text.strip().endswith(SENTENCE_ENDS) or np.abs(ends - cue.end_s).min() <= AT_S
        for cue in cues
    ]
    return {
        "segments": len(cues),
        "readable": _share(readable),
        "longest_s": round(max(lengths), 2),
        "most_chars": max(len(cue.text.strip()) for cue in cues),
        "largest_gap_s": round(max(gaps, default=0.0), 2),
        "closed": _share(closed),
        "in_order": all(one.end_s <= other.start_s + 1e-6 for one, other in pairwise(cues)),
    }


def _words(texts: Sequence[str], normalise: Normaliser) -> tuple[list[str], list[int]]:
    """The normalised words of all texts, and for each word the number of its text."""
    words = [
        (word, number) for number, text in enumerate(texts) for word in normalise(text).split()
    ]
    return [word for word, _ in words], [number for _, number in words]


def _matched(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[int, int]:
    """For each reference word that was recognised, its number in the hypothesis."""
    compared = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return {
        chunk.ref_start_idx + step: chunk.hyp_start_idx + step
        for chunk in compared.alignments[0]
        if chunk.type == "equal"
        for step in range(chunk.ref_end_idx - chunk.ref_start_idx)
    }


def _spread(edge: str, errors_s: Sequence[float]) -> dict[str, Any]:
    if not errors_s:
        return {}
    return {
        f"{edge}s": len(errors_s),
        f"{edge}s_near": _share([error <= NEAR_S for error in errors_s]),
        f"{edge}s_median_s": round(median(errors_s), 3),
    }


def _share(hits: Sequence[bool]) -> float:
    return round(float(np.mean(hits)), 4)
