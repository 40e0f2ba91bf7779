"""The files of a model in, what they say of it together out.

A folder may hold the weights of one model and the tokenizer of another, and would still load.
Nothing is run here: only what the files say is compared. Invariant: what is given was said by all
of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tokenizers import Tokenizer

from sotto.errors import first_line
from sotto.models import weights
from sotto.models.catalogue import CONFIG, PREPROCESSOR, TOKENIZER, VOCABULARIES, WEIGHTS
from sotto.models.shapes import Shape

MELS = (80, 128)
LANGUAGES = (99, 100)
MULTILINGUAL = 51865
"""Tokens of the smallest model that knows more than English; CTranslate2 tells them apart by it."""
START, TRANSLATE = "<|startoftranscript|>", "<|translate|>"
SPECIAL = (
    START,
    "<|endoftext|>",
    "<|notimestamps|>",
    "<|startofprev|>",
    "<|transcribe|>",
    TRANSLATE,
)
NO_SPEECH = frozenset({"<|nospeech|>", "<|nocaptions|>"})
"""Two names of one token; a tokenizer may have the one where the vocabulary has the other."""
LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")

Said = TypeVar("Said")


class Disagreement(Exception):
    """Files that do not belong together, or one that is damaged; one line that names the file."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A model as its files describe it; `languages` is 1 for one that knows only English."""

    shape: Shape
    languages: int

    @property
    def multilingual(self) -> bool:
        """Does it know more than English?"""
        return self.languages > 1


class _Config(msgspec.Struct, frozen=True):
    """What CTranslate2 reads of config.json; lists of tokens, and pairs of layer and head."""

    alignment_heads: tuple[tuple[int, int], ...] | None = None
    lang_ids: tuple[int, ...] | None = None
    suppress_ids: tuple[int, ...] | None = None
    suppress_ids_begin: tuple[int, ...] | None = None


class _Preprocessor(msgspec.Struct, frozen=True):
    """How sound becomes log-mel, in samples and seconds; the defaults are Whisper's."""

    feature_size: int = 80
    sampling_rate: int = 16000
    hop_length: int = 160
    n_fft: int = 400
    chunk_length: int = 30


def agreed(folder: Path) -> Agreed:
    """Compare the files of a model in CTranslate2's format. Raises Disagreement."""
    shape = _shape(folder)
    _check_preprocessor(folder, shape)
    tokens = _vocabulary(folder, shape)
    languages = _check_tokenizer(folder, tokens)
    _check_config(folder, shape, languages)
    return Agreed(shape, len(languages) if shape.vocabulary >= MULTILINGUAL else 1)


def _shape(folder: Path) -> Shape:
    try:
        shape = weights.read(folder / WEIGHTS).shape
    except (OSError, ValueError) as error:
        raise Disagreement(f"{WEIGHTS}: {_reason(error)}") from error
    if shape.mels not in MELS:
        raise Disagreement(f"{WEIGHTS}: takes {shape.mels} mel bands; 80 or 128 are served")
    return shape


def _check_preprocessor(folder: Path, shape: Shape) -> None:
    """Sotto makes log-mel as Whisper does, so a model that was trained otherwise would be deaf."""
    if not (folder / PREPROCESSOR).exists():
        return
    said = _decoded(folder / PREPROCESSOR, _Preprocessor)
    wanted = _Preprocessor(feature_size=shape.mels)
    for field in _Preprocessor.__struct_fields__:
        if getattr(said, field) != getattr(wanted, field):
            raise Disagreement(
                f"{PREPROCESSOR}: {field}: {getattr(said, field)} does not fit {WEIGHTS}; "
                f"it must be {getattr(wanted, field)}"
            )


def _vocabulary(folder: Path, shape: Shape) -> tuple[str, ...]:
    """The tokens of the model, by id."""
    path = next((folder / name for name in VOCABULARIES if (folder / name).exists()), None)
    if path is None:
        raise Disagreement(f"{' or '.join(VOCABULARIES)}: is missing")
    if path.suffix == ".json":
        tokens = _decoded(path, tuple[str, ...])
    else:
        # Not splitlines(): tokens may hold what else ends a line in Unicode.
        tokens = tuple(_text(path).removesuffix("\n").split("\n"))
    if len(tokens) != shape.vocabulary:
        raise Disagreement(
            f"{path.name}: has {len(tokens)} tokens, but {WEIGHTS} has {shape.vocabulary}"
        )
    return tokens


def _check_tokenizer(folder: Path, tokens: tuple[str, ...]) -> range:
    """The ids of the languages, which stand between the start and the tasks."""
    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_str(_text(path))
    except Disagreement:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise Disagreement(f"{TOKENIZER}: is damaged: {_reason(error)}") from error
    ids = tokenizer.get_vocab()
    lacking = [name for name in SPECIAL if name not in ids]
    if lacking:
        raise Disagreement(f"{TOKENIZER}: is not Whisper's: it lacks {', '.join(lacking)}")
    for number, told, expected in _differences(tokenizer, tokens):
        raise Disagreement(
            f"{TOKENIZER}: is another model's: token {number} is {told!r}, "
            f"but {expected!r} in the vocabulary"
        )
    languages = range(ids[START] + 1, ids[TRANSLATE])
    if len(languages) not in LANGUAGES or not all(LANGUAGE.fullmatch(tokens[n]) for n in languages):
        raise Disagreement(f"{TOKENIZER}: has {len(languages)} languages; Whisper has 99 or 100")
    return languages


def _differences(
    tokenizer: Any, tokens: tuple[str, ...]
) -> Iterator[tuple[int, str | None, str | None]]:
    """The ids at which tokenizer and vocabulary differ; times of speech may lack in a tokenizer."""
    for number, expected in enumerate(tokens):
        told = tokenizer.id_to_token(number)
        if told is None and TIMESTAMP.fullmatch(expected):
            continue
        if told != expected and not {told, expected} <= NO_SPEECH:
            yield number, told, expected
    last = max(tokenizer.get_vocab().values())
    if last >= len(tokens):
        yield last, tokenizer.id_to_token(last), None


def _check_config(folder: Path, shape: Shape, languages: range) -> None:
    config = _decoded(folder / CONFIG, _Config)
    if not config.alignment_heads:
        raise Disagreement(f"{CONFIG}: has no alignment_heads; words have no times without them")
    for layer, head in config.alignment_heads:
        if not (0 <= layer < shape.decoder_layers and 0 <= head < shape.heads):
            raise Disagreement(
                f"{CONFIG}: alignment_heads: [{layer}, {head}] is not in the decoder; "
                f"it has {shape.decoder_layers} layers of {shape.heads} heads"
            )
    if not config.lang_ids:
        raise Disagreement(f"{CONFIG}: has no lang_ids; languages are not heard without them")
    for token in config.lang_ids:
        if token not in languages:
            raise Disagreement(f"{CONFIG}: lang_ids: {token} is not a language's token")
    for token in (*(config.suppress_ids or ()), *(config.suppress_ids_begin or ())):
        if not -1 <= token < shape.vocabulary:
            raise Disagreement(f"{CONFIG}: suppresses {token}, which is not a token of the model")


def _decoded(path: Path, kind: type[Said]) -> Said:
    try:
        return msgspec.json.decode(_text(path), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Disagreement(f"{path.name}: {_reason(error)}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Disagreement(f"{path.name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line of what a library says, in the words of the system for a file."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return first_line(error)
