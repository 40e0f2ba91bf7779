"""A model's name in, everything that is fixed about the model out.

Reads catalogue.toml beside it. Invariant: a catalogue that loads is consistent: every model has its
weights, configuration, tokenizer and vocabulary, no name means two models, and a mirror offers only
files whose digest is known.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sotto.errors import UnknownModel

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a model, or a file of it, may be called: nothing that leads out of a folder."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
PlainName = Annotated[str, Meta(pattern=rf"^{NAME}$")]

WEIGHTS = "model.bin"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
REQUIRED = (WEIGHTS, CONFIG, TOKENIZER)
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
LONGEST_NAME_SHOWN = 60


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model; an optional one may be missing from the repository."""

    name: PlainName
    sha256: Sha256 | None = None
    size_bytes: Annotated[int, Meta(gt=0)] | None = None
    optional: bool = False


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One archive of a Python package registry, by exact version and digest."""

    requirement: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]*==[\w.]+$")]
    sha256: Sha256


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wheels that carry a model; `members` maps a file to the archive members it is made of."""

    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1)]
    members: dict[PlainName, Annotated[tuple[str, ...], Meta(min_length=1)]]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model at one revision of its repository.

    `languages` is None before anyone has looked into a model that is not in the catalogue.
    `translates`: it was trained to answer in English for what is said in other languages.
    """

    name: PlainName
    repository: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$")]
    licence: Annotated[str, Meta(min_length=1)]
    languages: Literal["multilingual", "english"] | None = None
    translates: bool = True
    aliases: tuple[PlainName, ...] = ()
    files: tuple[ModelFile, ...] = ()
    mirrors: tuple[Mirror, ...] = ()


USUAL_FILES = (
    *(ModelFile(name) for name in REQUIRED),
    *(ModelFile(name, optional=True) for name in VOCABULARIES),
    ModelFile(PREPROCESSOR, optional=True),
)


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: Annotated[tuple[Model, ...], Meta(min_length=1)]


# msgspec 0.22 looks at a type when it is first converted, and two threads that do so at the same
# time crash the process; the jobs that wake a worker ask for their models at the same time. A
# decoder has looked when it is made, at all that the type holds, for `convert` as well.
msgspec.json.Decoder(_Catalogue)


@cache
def load() -> Mapping[str, Model]:
    """All models by name, in the catalogue's order."""
    return parse(resources.files(__package__).joinpath("catalogue.toml").read_text("utf-8"))


def parse(text: str) -> Mapping[str, Model]:
    """Read a catalogue. Raises ValueError, which says where `text` breaks which rule."""
    try:
        listed = msgspec.convert(tomllib.loads(text), _Catalogue).models
    except msgspec.ValidationError as error:
        raise ValueError(f"catalogue: {error}") from error
    models = [_with_usual_files(model) for model in listed]
    for model in models:
        _check(model)
    names = [name for model in models for name in (model.name, *model.aliases)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"catalogue: more than one model is called {', '.join(twice)}")
    return {model.name: model for model in models}


def lacking(has: Callable[[str], bool]) -> list[str]:
    """What a model that has the files which `has` knows still needs; empty if it is whole."""
    absent = [name for name in REQUIRED if not has(name)]
    if not any(has(name) for name in VOCABULARIES):
        absent.append(" or ".join(VOCABULARIES))
    return absent


def canonical(name: str) -> str:
    """The name that `name` is an alias of, or `name` itself."""
    return next((model.name for model in load().values() if name in model.aliases), name)


def known(name: str) -> Model | None:
    """The model that has this name, alias or repository; None for one that is not listed."""
    listed = load()
    of_repository = (model for model in listed.values() if model.repository == name)
    return listed.get(canonical(name)) or next(of_repository, None)


def resolve(name: str) -> Model:
    """The model that is called `name`. Raises UnknownModel with the names there are."""
    models = load()
    try:
        return models[canonical(name)]
    except KeyError:
        aliases = [alias for model in models.values() for alias in model.aliases]
        raise unknown(name, "is not in the catalogue; it has", [*models, *aliases]) from None


def unknown(name: str, reason: str, known: Iterable[str]) -> UnknownModel:
    """The error for a name that is none of `known`, with the nearest of them."""
    known = list(known)
    shown = name if len(name) <= LONGEST_NAME_SHOWN else f"{name[:LONGEST_NAME_SHOWN]}…"
    close = difflib.get_close_matches(shown.lower(), known, n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    return UnknownModel(f"model: {shown!r} {reason}: {', '.join(known) or 'none'}{suggestion}")


def _with_usual_files(model: Model) -> Model:
    listed = {file.name for file in model.files}
    if listed - {WEIGHTS}:
        return model
    usual = tuple(file for file in USUAL_FILES if file.name not in listed)
    return msgspec.structs.replace(model, files=model.files + usual)


def _check(model: Model) -> None:
    if model.languages is None:
        raise ValueError(f"catalogue: {model.name} lacks its languages")
    by_name = {file.name: file for file in model.files}
    if len(by_name) < len(model.files):
        raise ValueError(f"catalogue: {model.name} lists a file twice")
    lacking = [name for name in REQUIRED if name not in by_name or by_name[name].optional]
    if lacking or not any(name in by_name for name in VOCABULARIES):
        raise ValueError(f"catalogue: {model.name} lacks {', '.join(lacking) or 'a vocabulary'}")
    for name in (name for mirror in model.mirrors for name in mirror.members):
        if name not in by_name or by_name[name].sha256 is None:
            raise ValueError(f"catalogue: {model.name} mirrors {name}, whose digest it lacks")
