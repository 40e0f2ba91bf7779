"""The catalogue: what it refuses, and what a name resolves to."""

from __future__ import annotations

import tomllib

import pytest

from sotto.errors import UnknownModel
from sotto.models import catalogue

DIGEST = "ab" * 32
REVISION = "0123456789" * 4


def row(**changes: str) -> str:
    """One model as toml; `changes` replace lines, and an empty one takes the line away."""
    lines = {
        "name": 'name = "small"',
        "repository": 'repository = "owner/small"',
        "revision": f'revision = "{REVISION}"',
        "licence": 'licence = "MIT"',
        "languages": 'languages = "english"',
    } | changes
    return "[[models]]\n" + "\n".join(line for line in lines.values() if line)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "models"),
        ("models = []", "length"),
        ("models = 3", "array"),
        (row(name=""), "name"),
        (row(name='name = "../x"'), "regex"),
        (row(name='name = ""'), "regex"),
        (row(name="name = 7"), "str"),
        (row(repository='repository = "no-owner"'), "regex"),
        (row(repository='repository = "https://hub/owner/small"'), "regex"),
        (row(revision='revision = "main"'), "regex"),
        (row(licence='licence = ""'), "length"),
        (row(languages='languages = "dutch"'), "enum"),
        (row(languages=""), "small lacks its languages"),
        (row(typo='licenses = "MIT"'), "licenses"),
        (row(files=f'files = [{{ name = "model.bin", sha265 = "{DIGEST}" }}]'), "sha265"),
        (row(files='files = [{ name = "model.bin", sha256 = "abc" }]'), "regex"),
        (row(files='files = [{ name = "model.bin", size_bytes = 0 }]'), ">= 1"),
        (row(files='files = [{ name = "/etc/passwd" }]'), "regex"),
        (row(files='files = [{ name = "model.bin" }, { name = "model.bin" }]'), "twice"),
        (row(files='files = [{ name = "config.json" }]'), "small lacks model.bin, tokenizer.json"),
        (
            row(
                files='files = [{ name = "model.bin" }, { name = "config.json" }, '
                '{ name = "tokenizer.json" }]'
            ),
            "small lacks a vocabulary",
        ),
        (row() + "\n" + row(), "more than one model is called small"),
        (row() + "\n" + row(name='name = "s"', aliases='aliases = ["small"]'), "called small"),
        (
            row()
            + f'\n[[models.mirrors]]\nwheels = [{{requirement = "a>=1", sha256 = "{DIGEST}"}}]'
            + "\nmembers = {}",
            "regex",
        ),
        (
            row()
            + f'\n[[models.mirrors]]\nwheels = [{{requirement = "a==1", sha256 = "{DIGEST}"}}]'
            + '\nmembers = { "model.bin" = ["a/model.bin"] }',
            "mirrors model.bin, whose digest it lacks",
        ),
    ],
)
def test_a_catalogue_that_breaks_a_rule_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^catalogue: ") as caught:
        catalogue.parse(text)
    assert told in str(caught.value)


def test_text_that_is_not_toml_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        catalogue.parse("[[models")


@pytest.mark.parametrize(
    "name", ["", " ", "../base", "/etc", "base\0", "ba\nse", "BASE", "b" * 10**6]
)
def test_a_name_that_is_no_model_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModel, match="is not in the catalogue; it has: tiny") as caught:
        catalogue.resolve(name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "near"), [("larg-v3", "large-v3"), ("BASE", "base"), ("tiny_en", "tiny.en")]
)
def test_an_unknown_name_gets_the_nearest_known_one(name: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=f"did you mean '{near}'\\?"):
        catalogue.resolve(name)


def test_a_name_near_nothing_gets_no_suggestion() -> None:
    with pytest.raises(UnknownModel) as caught:
        catalogue.resolve("zzzzzzzz")
    assert "did you mean" not in str(caught.value)


def test_every_promised_model_is_there() -> None:
    assert {
        *("tiny", "base", "small", "medium", "large-v2", "large-v3", "turbo", "distil-large-v3"),
        *("tiny.en", "base.en", "small.en", "medium.en"),
    } == set(catalogue.load())


@pytest.mark.parametrize(
    ("alias", "name"), [("large", "large-v3"), ("large-v3-turbo", "turbo"), ("base", "base")]
)
def test_an_alias_means_its_model(alias: str, name: str) -> None:
    assert catalogue.resolve(alias).name == name
    assert catalogue.canonical(alias) == name


def test_a_model_that_lists_only_its_weights_gets_the_usual_files() -> None:
    files = {file.name: file for file in catalogue.resolve("small").files}
    assert files["model.bin"].sha256
    assert files["config.json"].sha256 is None
    assert not files["tokenizer.json"].optional
    assert files["vocabulary.txt"].optional
    assert files["vocabulary.json"].optional


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_mirrored_model_can_be_had_without_the_hub(name: str) -> None:
    model = catalogue.resolve(name)
    assert all(file.sha256 for file in model.files)
    (mirror,) = model.mirrors
    assert {file.name for file in model.files} == set(mirror.members)


@pytest.mark.parametrize(
    "name", ["turbo", "large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"]
)
def test_a_model_is_known_by_all_that_it_is_called(name: str) -> None:
    model = catalogue.known(name)
    assert model is not None
    assert (model.name, model.translates) == ("turbo", False)


@pytest.mark.parametrize("name", ["", "turbo ", "faster-whisper-large-v3-turbo", "mine"])
def test_a_model_of_somebodys_own_is_not_known(name: str) -> None:
    assert catalogue.known(name) is None


def test_models_for_english_alone_say_so() -> None:
    english = {name for name, model in catalogue.load().items() if model.languages == "english"}
    assert english == {"tiny.en", "base.en", "small.en", "medium.en", "distil-large-v3"}
