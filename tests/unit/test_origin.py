"""What MODEL, --name and --revision mean together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from builder.layout import Kind
from builder.origin import Folder, Origin, OriginError, Wanted, find
from tests.hub_server import HubServer

from sotto.errors import UnknownModel
from sotto.models.catalogue import Model, resolve
from sotto.models.fetch import FetchError, Hub

COMMIT = "0123456789" * 4
FILES = {
    "model.bin": b"weights",
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\n",
}
NOWHERE = Hub("http://127.0.0.1:9")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(files=dict(FILES), commit=COMMIT) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


def put_record(folder: Path, **changes: object) -> None:
    files = {
        name: {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            "source": "somewhere",
        }
        for name, content in FILES.items()
    }
    record = {"name": "pico", "repository": "owner/pico", "revision": COMMIT, "licence": "MIT"}
    (folder / "model.json").write_text(json.dumps({**record, "files": files, **changes}))


def own(folder: Path, name: str = "x") -> Origin:
    return find(Wanted(str(folder), name), NOWHERE)


def told(wanted: Wanted) -> str:
    with pytest.raises(OriginError) as caught:
        find(wanted, NOWHERE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what means nothing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["a/b/c", "owner/", "/".join("ab") + "/", "owner/na me", "https://x/y", "-x/y", "~/x"]
)
def test_a_path_that_is_no_repository_is_told_what_there_is(model: str) -> None:
    said = told(Wanted(model))
    assert said.startswith(f"model: {model!r} is neither a name of the catalogue, nor owner/name")
    assert said.endswith("nor a folder, which begins with '.' or '/'")


def test_an_unknown_name_gets_the_catalogues() -> None:
    with pytest.raises(UnknownModel, match=r"'bsae' is not in the catalogue; .*mean 'base'\?$"):
        find(Wanted("bsae"), NOWHERE)


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "a b", "-a", "a\n", "ü", "\0"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    assert told(Wanted("base", name)).startswith(f"name: {name!r} cannot be a folder's name; ")


def test_a_folder_needs_a_name(folder: Path) -> None:
    assert told(Wanted(str(folder))) == (
        f"name: is needed with a folder: bake {folder} --name NAME"
    )


def test_a_file_needs_a_name_and_has_no_revision(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    path.touch()
    assert told(Wanted(str(path))) == f"name: is needed with a file: bake {path} --name NAME"
    assert told(Wanted(str(path), "x", "main")) == "revision: 'main' means nothing for a file"


@pytest.mark.parametrize("name", ["large.bin", "large.pt.part", ".pt", "model.safetensors"])
def test_another_file_than_openais_is_no_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert told(Wanted(str(path), "x")) == f"model: {str(path)!r} cannot be read: Not a directory"


def test_a_folder_with_two_checkpoints_is_told_which(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).touch()
    said = told(Wanted(str(tmp_path), "x"))
    assert said == f"model: '{tmp_path}' has more than one checkpoint: a.pt, b.pt"


def test_a_folder_has_no_revision(folder: Path) -> None:
    assert told(Wanted(str(folder), "x", "main")) == "revision: 'main' means nothing for a folder"


@pytest.mark.parametrize("path", ["./no-such-folder", "/no/such/folder", "/etc/passwd"])
def test_a_folder_that_cannot_be_read_is_told(path: str) -> None:
    assert told(Wanted(path, "x")).startswith(f"model: {path!r} cannot be read: ")


def test_a_file_in_a_folder_that_may_not_be_entered_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, path = Path.stat, tmp_path / "private" / "a.pt"

    def refuse(of: Path, **options: bool) -> os.stat_result:
        if of == path:
            raise PermissionError(13, "Permission denied")
        return stat(of, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert told(Wanted(str(path), "x")) == f"model: {str(path)!r} cannot be read: Permission denied"


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    assert told(Wanted(str(tmp_path), "x")).startswith(f"model: '{tmp_path}' has no weights; ")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "vocabulary.txt"])
def test_a_folder_that_lacks_a_part_is_told(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    said = told(Wanted(str(folder), "x"))
    assert said.startswith(f"model: '{folder}' lacks ")
    assert missing in said


def test_a_folder_that_is_not_as_its_record_says_is_refused(folder: Path) -> None:
    put_record(folder)
    (folder / "tokenizer.json").write_bytes(b"[]")
    said = told(Wanted(str(folder), "x"))
    assert said.startswith(f"model: '{folder}': tokenizer.json: sha256 is ")


def test_a_folder_given_as_a_repository_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights" / "pico").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with HubServer() as empty, pytest.raises(OriginError) as caught:
        find(Wanted("weights/pico"), Hub(empty.endpoint))
    assert str(caught.value).endswith("; the folder of that name is ./weights/pico")


def test_a_repository_that_is_not_there_is_the_hubs_error(hub: HubServer) -> None:
    with pytest.raises(FetchError, match=r"^owner/pico: has no revision 'nope'$"):
        find(Wanted("owner/pico", revision="nope"), Hub(hub.endpoint))


# --- what means something ----------------------------------------------------------------------


def test_a_name_of_the_catalogue_is_pinned_and_asks_nobody() -> None:
    origin = find(Wanted("large-v3-turbo"), NOWHERE)
    model = resolve("turbo")
    assert origin.place == model
    assert (origin.name, origin.revision, origin.kind) == ("turbo", model.revision, Kind.READY)
    assert (origin.repository, origin.licence) == (model.repository, "MIT")


def test_a_name_of_the_catalogue_may_get_another_name() -> None:
    origin = find(Wanted("base", "base-int8"), NOWHERE)
    assert origin.name == "base-int8"
    assert isinstance(origin.place, Model)
    assert origin.place.mirrors == resolve("base").mirrors


def test_the_pinned_revision_of_a_model_keeps_its_digests() -> None:
    pinned = resolve("base").revision
    assert find(Wanted("base", revision=pinned), NOWHERE) == find(Wanted("base"), NOWHERE)


def test_another_revision_of_a_model_has_only_the_hubs_digests(hub: HubServer) -> None:
    origin = find(Wanted("base", revision="main"), Hub(hub.endpoint))
    assert (origin.name, origin.revision, origin.licence) == ("base", COMMIT, "MIT")
    assert isinstance(origin.place, Model)
    assert origin.place.mirrors == ()
    digests = {file.name: file.sha256 for file in origin.place.files}
    assert digests["model.bin"] == hashlib.sha256(b"weights").hexdigest()
    assert digests["config.json"] is None
    assert {request.path.split("/revision/")[0] for request in hub.seen} == {
        "/api/models/Systran/faster-whisper-base"
    }


def test_a_repository_is_called_by_its_last_part(hub: HubServer) -> None:
    origin = find(Wanted("owner/whisper-pico.en"), Hub(hub.endpoint))
    assert (origin.name, origin.repository) == ("whisper-pico.en", "owner/whisper-pico.en")
    assert find(Wanted("owner/pico", "mine"), Hub(hub.endpoint)).name == "mine"


def test_a_folder_is_fixed_by_what_is_in_it(folder: Path) -> None:
    origin = own(folder)
    assert (origin.repository, origin.revision, origin.licence) == ("", "", "unknown")
    assert isinstance(origin.place, Folder)
    assert set(origin.place.files) == set(FILES)
    (folder / "README.md").write_text("not part of the model")
    assert own(folder) == origin
    (folder / "config.json").write_bytes(b"[]")
    changed = own(folder)
    assert isinstance(changed.place, Folder)
    assert changed.place.sha256 != origin.place.sha256


def test_a_folder_that_was_baked_remembers_where_it_came_from(folder: Path) -> None:
    put_record(folder, made_from="ab" * 32)
    origin = own(folder)
    assert (origin.name, origin.repository) == ("x", "owner/pico")
    assert (origin.revision, origin.licence) == (COMMIT, "MIT")
    assert origin.made_from == "ab" * 32
    assert isinstance(origin.place, Folder)
    assert {file.source for file in origin.place.files.values()} == {"somewhere"}


def test_a_folder_may_hold_a_checkpoint(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "vocab.json"):
        (tmp_path / name).write_bytes(b"x")
    assert own(tmp_path).kind is Kind.CHECKPOINT


def test_a_file_of_openais_stands_for_itself_alone(folder: Path) -> None:
    path = folder / "large-v2.pt"
    path.write_bytes(b"tensors")
    put_record(folder)
    origin = own(path)
    assert (origin.kind, origin.repository, origin.licence) == (Kind.OPENAI, "", "unknown")
    assert isinstance(origin.place, Folder)
    assert (origin.place.path, set(origin.place.files)) == (folder, {"large-v2.pt"})
    (folder / "tokenizer.json").write_bytes(b"another's")
    assert own(path) == origin


def test_a_folder_may_hold_openais_checkpoint_with_a_tokenizer(tmp_path: Path) -> None:
    for name in ("large.pt", "tokenizer.json", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    origin = own(tmp_path)
    assert origin.kind is Kind.OPENAI
    assert isinstance(origin.place, Folder)
    assert set(origin.place.files) == {"large.pt", "tokenizer.json"}


def test_a_hub_caches_snapshot_of_links_is_a_folder(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in FILES:
        (snapshot / name).symlink_to(folder / name)
    linked = own(snapshot)
    assert isinstance(linked.place, Folder)
    direct = own(folder)
    assert isinstance(direct.place, Folder)
    assert linked.place.sha256 == direct.place.sha256
