"""A model's folder in, the proof that it works out.

Loads the model on the CPU, lets it hear a built-in clip and asks when each word is spoken: all that
a worker asks of it. Invariant: a Proof is only given for a model that has done so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.agreement import Agreed, Disagreement, agreed

from sotto.errors import first_line

CLIP = Path(__file__).with_name("proof.ogg")
"""Seven seconds of a LibriVox volunteer who reads a sentence in English."""
MOST_TOKENS = 64
"""Twice what is said in the clip: a model that does not end is cut off."""


class ProofError(Exception):
    """The folder is not a working model; one line that says which file or what is wrong."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was heard in the clip, and when, in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Proof:
    """What a model has been shown to be.

    `languages` counts them. `compute_type` is the one it was loaded in: what the CPU at hand does
    best.
    """

    kind: Literal["multilingual", "english"]
    mels: int
    languages: int
    has_alignment_heads: bool
    compute_type: str
    words: tuple[Word, ...]


def prove(folder: Path, *, expect_words: bool = True) -> Proof:
    """Show that the model in `folder` works. Raises ProofError.

    A model that was never trained only has to run: `expect_words=False`.
    """
    try:
        said = agreed(folder)
    except Disagreement as error:
        raise ProofError(f"{folder.name}: {error}") from error
    try:
        compute_type, words = _run(folder, said)
    except (RuntimeError, ValueError, IndexError, OSError, MemoryError) as error:
        raise ProofError(f"{folder.name}: does not run: {first_line(error)}") from error
    if expect_words and not any(word.text.strip() for word in words):
        raise ProofError(f"{folder.name}: heard no words in a clip of clear speech")
    if words and not words[0].start_s < words[-1].end_s:
        raise ProofError(f"{folder.name}: gives all words one time; alignment_heads are wrong")
    return Proof(
        kind="multilingual" if said.multilingual else "english",
        mels=said.shape.mels,
        languages=said.languages,
        has_alignment_heads=True,  # or the files would not have agreed
        compute_type=compute_type,
        words=words,
    )


def _run(folder: Path, said: Agreed) -> tuple[str, tuple[Word, ...]]:
    """The compute type, and the words in the clip; raises whatever CTranslate2 raises."""
    # Here, since it takes a second that a command with nothing to prove does not have to wait.
    from faster_whisper import WhisperModel
    from faster_whisper.audio import decode_audio, pad_or_trim
    from faster_whisper.feature_extractor import FeatureExtractor
    from faster_whisper.tokenizer import Tokenizer

    model = WhisperModel(str(folder), device="cpu", compute_type="auto", local_files_only=True)
    ct2: Any = model.model
    features = FeatureExtractor(feature_size=said.shape.mels)(decode_audio(str(CLIP)))[:, :-1]
    encoded = model.encode(pad_or_trim(features))
    language = ct2.detect_language(encoded)[0][0][0][2:-2] if said.multilingual else "en"
    tokenizer = Tokenizer(model.hf_tokenizer, said.multilingual, "transcribe", language)
    (result,) = ct2.generate(
        encoded,
        [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
        max_length=2 * MOST_TOKENS,
        suppress_blank=True,
        suppress_tokens=[-1],
    )
    tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
    if not tokens:
        return ct2.compute_type, ()
    (timings,) = model.find_alignment(tokenizer, [tokens], encoded, features.shape[1])
    words = (
        Word(timing["word"], float(timing["start"]), float(timing["end"])) for timing in timings
    )
    return ct2.compute_type, tuple(words)
