"""Finding a model on this machine: the order of places, and names that are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub_server import Fault, HubServer
from tests.model_files import put_record

from sotto.errors import EngineError, UnknownModel
from sotto.models import catalogue
from sotto.models.fetch import Hub
from sotto.models.store import RUNPOD_CACHE, HubCache, Shelf, Store, is_model, places

NOWHERE = Hub("http://127.0.0.1:9")
PARTS = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")


def put(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files or PARTS:
        (folder / name).write_bytes(b"x")
    return folder


def snapshot(cache: Path, name: str, revision: str | None = None) -> Path:
    model = catalogue.resolve(name)
    folder = f"models--{model.repository.replace('/', '--')}"
    return put(cache / folder / "snapshots" / (revision or model.revision))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def store(weights: Path, *caches: Path) -> Store:
    return Store(weights, [HubCache(cache) for cache in caches], download=False, hub=NOWHERE)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "../base", "base/", "./base", "base/../base", "x/../../base"),
        *("\0", "base\0", "base\n", " base", ".hidden", "weights", "~", "*", "b" * 10**6),
        *("Systran/faster-whisper-base", "models--Systran--faster-whisper-base"),
    ],
)
def test_a_name_that_is_no_model_here_is_unknown(tmp_path: Path, name: str) -> None:
    put(tmp_path / "base")
    put(tmp_path / "weights" / "base")
    put(tmp_path / "weights" / ".hidden")
    with pytest.raises(UnknownModel, match=r"is not on this worker; here are: base") as caught:
        store(tmp_path / "weights").find(name)
    assert len(str(caught.value)) < 500


def test_an_absolute_path_is_unknown_even_where_a_model_lies(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere")
    with pytest.raises(UnknownModel):
        store(tmp_path / "weights").find(str(elsewhere))


def test_the_error_lists_what_is_here(weights: Path) -> None:
    put(weights / "tiny.en")
    put(weights / "base")
    with pytest.raises(UnknownModel) as caught:
        store(weights).find("huge")
    assert str(caught.value) == "model: 'huge' is not on this worker; here are: base, tiny.en"


def test_the_error_suggests_only_what_is_here(weights: Path) -> None:
    put(weights / "tiny.en")
    with pytest.raises(UnknownModel, match=r"did you mean 'tiny\.en'\?$"):
        store(weights).find("tiny")
    with pytest.raises(UnknownModel, match=r"here are: tiny\.en$"):
        store(weights).find("large-v2")


def test_a_worker_without_any_model_says_none(tmp_path: Path) -> None:
    empty = store(tmp_path / "absent", tmp_path / "no-cache")
    assert empty.available() == ()
    with pytest.raises(UnknownModel, match=r"here are: none$"):
        empty.find("base")


@pytest.mark.parametrize("missing", PARTS)
def test_a_folder_that_lacks_a_part_is_no_model(weights: Path, missing: str) -> None:
    put(weights / "base", *(part for part in PARTS if part != missing))
    assert not is_model(weights / "base")
    assert store(weights).available() == ()


def test_files_among_the_weights_are_no_models(weights: Path) -> None:
    (weights / "base").write_text("not a folder")
    put(weights / ".base.partial")
    assert store(weights).available() == ()


def test_a_folder_that_may_not_be_entered_hides_no_other(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = put(weights / "a-private")
    snapshots = tmp_path / "models--maker--whisper-fr" / "snapshots"
    cached = put(snapshots / ("a" * 40))
    shut = put(snapshots / ("b" * 40))
    mine = put(weights / "mine")
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path == shut or private in path.parents or shut in path.parents:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert not is_model(private)
    assert store(weights, tmp_path).find("mine") == mine
    assert store(weights, tmp_path).find("maker/whisper-fr") == cached
    assert store(weights, tmp_path).available() == ("maker/whisper-fr", "mine")


def test_either_kind_of_vocabulary_will_do(weights: Path) -> None:
    put(weights / "turbo", *PARTS[:3], "vocabulary.json")
    assert store(weights).find("turbo") == weights / "turbo"


def test_a_model_of_ones_own_is_served_by_its_folder_name(weights: Path) -> None:
    mine = put(weights / "my fine-tune")
    assert store(weights).find("my fine-tune") == mine
    assert store(weights).available() == ("my fine-tune",)


@pytest.mark.parametrize("folder", ["large", "large-v3"])
def test_an_alias_finds_a_folder_of_either_name(weights: Path, folder: str) -> None:
    put(weights / folder)
    assert store(weights).find("large") == weights / folder


def test_places_are_asked_in_order(tmp_path: Path, weights: Path) -> None:
    runpod, own = tmp_path / "runpod", tmp_path / "own"
    here = store(weights, runpod, own)
    places = [
        (own, snapshot(own, "small")),
        (runpod, snapshot(runpod, "small")),
        (weights, put(weights / "small")),
    ]
    found = []
    for _, folder in reversed(places):
        found.append(here.find("small"))
        (folder / "model.bin").unlink()
    assert found == [folder for _, folder in reversed(places)]
    assert here.available() == ()


def test_another_snapshot_serves_where_the_pinned_one_is_missing(
    tmp_path: Path, weights: Path
) -> None:
    other = snapshot(tmp_path, "large-v3", "f" * 40)
    assert store(weights, tmp_path).find("large") == other
    pinned = snapshot(tmp_path, "large-v3")
    assert store(weights, tmp_path).find("large") == pinned
    assert store(weights, tmp_path).available() == ("large-v3",)


def test_an_unfinished_snapshot_is_not_used(tmp_path: Path, weights: Path) -> None:
    unfinished = snapshot(tmp_path, "small")
    (unfinished / "model.bin").unlink()
    (unfinished / "model.bin").symlink_to("../../blobs/not-there-yet")
    with pytest.raises(UnknownModel):
        store(weights, tmp_path).find("small")


def test_what_is_baked_and_what_is_cached_is_listed_once(tmp_path: Path, weights: Path) -> None:
    snapshot(tmp_path, "base")
    snapshot(tmp_path, "small")
    put(weights / "base")
    assert store(weights, tmp_path).available() == ("base", "small")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(files=dict.fromkeys(PARTS, b"{}")) as server:
        yield server


def test_nothing_is_downloaded_unless_that_is_allowed(hub: HubServer, weights: Path) -> None:
    with pytest.raises(UnknownModel):
        Store(weights, (), download=False, hub=Hub(hub.endpoint)).find("base.en")
    assert hub.seen == []


def test_a_model_is_downloaded_where_that_is_allowed(hub: HubServer, weights: Path) -> None:
    online = Store(weights, (), download=True, hub=Hub(hub.endpoint))
    assert online.find("base.en") == weights / "base.en"
    assert online.available() == ("base.en",)
    hub.seen.clear()
    assert online.find("base.en") == weights / "base.en"
    assert hub.seen == []


def test_a_name_outside_the_catalogue_is_never_asked_of_the_hub(
    hub: HubServer, weights: Path
) -> None:
    online = Store(weights, (), download=True, hub=Hub(hub.endpoint))
    for name in ("huge", "../base", "owner/model"):
        with pytest.raises(UnknownModel):
            online.find(name)
    assert hub.seen == []


def test_a_download_that_fails_is_an_engine_error(hub: HubServer, weights: Path) -> None:
    hub.faults["model.bin"] = [Fault(status=401)]
    online = Store(weights, (), download=True, hub=Hub(hub.endpoint))
    with pytest.raises(EngineError, match=r"'base\.en' could not be downloaded: .*wants a token"):
        online.find("base.en")
    assert online.available() == ()


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        ({"HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"}, "/a/hub"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HOME": "~/d"}, str(Path.home() / "d" / "hub")),
        ({}, str(Path.home() / ".cache" / "huggingface" / "hub")),
        ({"HF_HUB_CACHE": "", "HF_HOME": ""}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_the_machines_own_cache_lies_where_the_hubs_tools_put_it(
    environ: dict[str, str], own: str
) -> None:
    asked = places(Path("/volume/models"), environ)
    assert asked == (HubCache(RUNPOD_CACHE), Shelf(Path("/volume/models")), HubCache(Path(own)))


# What a record calls a model


@pytest.mark.parametrize("name", ["whisper-fr", "ours", "maker/whisper-fr"])
def test_a_baked_model_is_served_by_its_folder_its_own_name_and_its_repository(
    weights: Path, name: str
) -> None:
    mine = put_record(put(weights / "whisper-fr"), name="ours", repository="maker/whisper-fr")
    assert store(weights).find(name) == mine
    assert store(weights).available() == ("whisper-fr",)


def test_a_record_that_names_a_model_of_the_catalogue_answers_to_its_aliases(
    weights: Path,
) -> None:
    mine = put_record(put(weights / "mine"), name="large-v3")
    assert store(weights).find("large") == mine
    assert store(weights).find("large-v3") == mine


def test_a_folder_goes_before_a_record_of_the_same_name(weights: Path) -> None:
    put_record(put(weights / "a-base"), name="base", repository="maker/base")
    named = put(weights / "base")
    assert store(weights).find("base") == named
    assert store(weights).find("maker/base") == weights / "a-base"


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"[]", b"\0", b'{"name": 1}', b'{"name": "x", "repository": null}'),
        b'{"name": "x", "repository": "", "revision": "", "licence": "M\xfcller", "files": {}}',
        b'{"x": ' + b"[" * 100_000,
    ],
    ids=lambda text: repr(text[:60]),
)
def test_a_record_that_cannot_be_read_takes_nothing_from_a_model(
    weights: Path, text: bytes
) -> None:
    (put(weights / "base") / "model.json").write_bytes(text)
    assert store(weights).find("base") == weights / "base"
    assert store(weights).available() == ("base",)


def test_a_record_without_a_repository_gives_no_empty_name(weights: Path) -> None:
    put_record(put(weights / "base"), name="", repository="")
    with pytest.raises(UnknownModel):
        store(weights).find("")


# A volume, and caches of any repository


def test_a_network_volume_holds_folders_like_those_that_are_baked(
    tmp_path: Path, weights: Path
) -> None:
    volume = tmp_path / "volume"
    mine = put_record(put(volume / "mine"), repository="maker/mine")
    here = Store(weights, [Shelf(volume)], download=False, hub=NOWHERE)
    assert here.find("mine") == here.find("maker/mine") == mine
    assert here.available() == ("mine",)


def test_all_places_are_asked_in_order(tmp_path: Path) -> None:
    runpod, volume, own = tmp_path / "runpod", tmp_path / "volume", tmp_path / "own"
    baked = tmp_path / "weights"
    here = Store(
        baked, [HubCache(runpod), Shelf(volume), HubCache(own)], download=False, hub=NOWHERE
    )
    expected = [
        put(baked / "small"),
        snapshot(runpod, "small"),
        put(volume / "small"),
        snapshot(own, "small"),
    ]
    found = []
    for folder in expected:
        found.append(here.find("small"))
        (folder / "model.bin").unlink()
    assert found == expected
    assert here.available() == ()


def test_a_cached_repository_outside_the_catalogue_is_served_by_its_name(
    tmp_path: Path, weights: Path
) -> None:
    cached = put(tmp_path / "models--maker--whisper-fr" / "snapshots" / ("a" * 40))
    here = store(weights, tmp_path)
    assert here.find("maker/whisper-fr") == cached
    assert here.available() == ("maker/whisper-fr",)
    for name in ("whisper-fr", "models--maker--whisper-fr", "maker--whisper-fr"):
        with pytest.raises(UnknownModel, match="here are: maker/whisper-fr"):
            here.find(name)


def test_a_cached_model_of_the_catalogue_is_served_by_its_repository_too(
    tmp_path: Path, weights: Path
) -> None:
    cached = snapshot(tmp_path, "large-v3")
    here = store(weights, tmp_path)
    assert here.find("Systran/faster-whisper-large-v3") == here.find("large") == cached


def test_the_newest_snapshot_serves_where_none_is_pinned(tmp_path: Path, weights: Path) -> None:
    snapshots = tmp_path / "models--maker--whisper-fr" / "snapshots"
    for age, revision in enumerate("cab"):
        folder = put(snapshots / (revision * 40))
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    (snapshots / "lost").symlink_to("nowhere")
    assert store(weights, tmp_path).find("maker/whisper-fr") == snapshots / ("c" * 40)


def test_what_is_in_a_cache_and_no_model_is_not_listed(tmp_path: Path, weights: Path) -> None:
    put(tmp_path / "datasets--maker--speech" / "snapshots" / "a")
    put(tmp_path / "models--maker--checkpoint" / "snapshots" / "a", "config.json")
    (tmp_path / "models--maker--file").write_text("x")
    (tmp_path / "version.txt").write_text("1")
    assert store(weights, tmp_path).available() == ()
