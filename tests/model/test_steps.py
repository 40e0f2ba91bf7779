"""The steps of a bake, on real weights: what is made, what is kept, and what never stands there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from builder.making import DEFAULT, BakeError
from builder.model_bin import ModelBinError
from builder.origin import Wanted, find
from builder.prove import ProofError
from builder.quantise import quantise, stored_type
from builder.steps import bake
from faster_whisper import WhisperModel
from tests.hub_server import HubServer

from sotto.models.fetch import FetchError, Hub
from sotto.models.record import faults, read
from sotto.models.space import DISK_RESERVE_BYTES

pytestmark = pytest.mark.model

COMMIT = "0123456789" * 4
NAMES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
NOWHERE = Hub("http://127.0.0.1:9")


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Path:
    return weights / "tiny.en"


@pytest.fixture(scope="module")
def real_files(tiny: Path) -> dict[str, bytes]:
    return {name: (tiny / name).read_bytes() for name in NAMES}


@pytest.fixture
def hub(real_files: dict[str, bytes]) -> Iterator[HubServer]:
    about: dict[str, object] = {"cardData": {"license": "apache-2.0"}}
    with HubServer(files=dict(real_files), commit=COMMIT, about=about) as server:
        yield server


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    """A folder of one's own: no record in it."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in NAMES:
        shutil.copyfile(tiny / name, folder / name)
    return folder


def from_hub(hub: HubServer, into: Path, compute_type: str = DEFAULT, revision: str = "") -> bool:
    asked = Hub(hub.endpoint)
    return bake(find(Wanted("owner/pico", into.name, revision), asked), into, compute_type, asked)


def from_folder(folder: Path, into: Path, compute_type: str = DEFAULT) -> bool:
    return bake(find(Wanted(str(folder), into.name), NOWHERE), into, compute_type, NOWHERE)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def beside(into: Path) -> list[str]:
    return sorted(path.name for path in into.parent.iterdir() if path.suffix != ".lock")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- what never stands in place ----------------------------------------------------------------


def test_a_model_that_does_not_work_leaves_nothing(hub: HubServer, tmp_path: Path) -> None:
    hub.files["tokenizer.json"] = b"{}"
    with pytest.raises(ProofError, match="tokenizer"):
        from_hub(hub, tmp_path / "w" / "pico")
    assert beside(tmp_path / "w" / "pico") == []


def test_a_model_that_does_not_work_leaves_the_one_before_it(
    hub: HubServer, tmp_path: Path, own: Path
) -> None:
    into = tmp_path / "w" / "pico"
    from_hub(hub, into)
    before = record(into)
    hub.commit = "f" * 40
    hub.files["config.json"] = b"{}"
    with pytest.raises(ProofError):
        from_hub(hub, into)
    assert record(into) == before
    assert faults(into) == []
    assert beside(into) == ["pico"]


def test_a_folder_that_does_not_work_is_left_as_it_is(own: Path, tmp_path: Path) -> None:
    (own / "tokenizer.json").write_text("{}")
    with pytest.raises(ProofError):
        from_folder(own, tmp_path / "w" / "mine")
    assert sorted(path.name for path in own.iterdir()) == sorted(NAMES)
    assert beside(tmp_path / "w" / "mine") == []


@pytest.mark.parametrize("cut", [0, 10, 100_000])
def test_weights_cut_short_are_refused(own: Path, tmp_path: Path, cut: int) -> None:
    content = (own / "model.bin").read_bytes()
    (own / "model.bin").write_bytes(content[:cut])
    with pytest.raises(ModelBinError, match=r"^model\.bin: "):
        from_folder(own, tmp_path / "w" / "mine")
    assert beside(tmp_path / "w" / "mine") == []


def test_a_download_outlives_a_bake_that_cannot_finish(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "w" / "pico"
    full = shutil.disk_usage(tmp_path)._replace(free=DISK_RESERVE_BYTES + 85_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(BakeError) as caught:
            from_hub(hub, into, "float32")
    assert str(caught.value).startswith("pico: quantising needs ")
    assert "are free at" in str(caught.value)
    assert beside(into) == [".pico.partial"]
    hub.seen.clear()
    assert from_hub(hub, into, "int8")
    assert [request.file for request in hub.seen] == ["api"]
    assert beside(into) == ["pico"]


def test_a_repository_that_cannot_fit_is_refused_before_its_first_byte(
    hub: HubServer, tmp_path: Path
) -> None:
    files = [{"rfilename": name, "size": 10**17} for name in NAMES]
    hub.about["siblings"] = files
    with pytest.raises(FetchError, match=r"^pico: the download needs 400,000,[\d,]+ bytes of disk"):
        from_hub(hub, tmp_path / "w" / "pico")
    assert beside(tmp_path / "w" / "pico") == []


def test_another_model_of_the_same_name_is_not_replaced(
    hub: HubServer, own: Path, tmp_path: Path
) -> None:
    into = tmp_path / "w" / "pico"
    from_folder(own, into)
    with pytest.raises(FetchError, match="holds a folder of your own; move it away, or give"):
        from_hub(hub, into)
    assert record(into)["repository"] == ""


def test_a_folder_that_nobody_baked_is_not_replaced(own: Path, tmp_path: Path) -> None:
    into = tmp_path / "w" / "mine"
    into.mkdir(parents=True)
    (into / "model.bin").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"was not put there by a fetch \(no model\.json\)"):
        from_folder(own, into)
    assert (into / "model.bin").read_bytes() == b"mine"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_a_checkpoint_that_cannot_be_converted_here_is_not_fetched(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.files = {"config.json": b"{}", "model.safetensors": b"x"}
    with pytest.raises(BakeError, match=r"needs builder/requirements\.txt; not installed: torch"):
        from_hub(hub, tmp_path / "w" / "pico")
    assert [request.file for request in hub.seen] == ["api"]


# --- what is made ------------------------------------------------------------------------------


def test_a_repository_becomes_a_model_with_everything_on_record(
    hub: HubServer, real_files: dict[str, bytes], tmp_path: Path
) -> None:
    into = tmp_path / "w" / "pico"
    assert from_hub(hub, into)
    said = record(into)
    assert (said["name"], said["repository"], said["revision"]) == ("pico", "owner/pico", COMMIT)
    assert said["licence"] == "apache-2.0"
    assert said["files"] == {
        name: {"sha256": sha256(content), "size_bytes": len(content), "source": hub.endpoint}
        for name, content in real_files.items()
    }
    assert (said["compute_type"], said["original_type"]) == ("float16", "float16")
    assert "made_from" not in said
    assert (said["mels"], said["languages"], said["alignment_heads"]) == (80, 1, True)
    assert said["disk_bytes"] == sum(map(len, real_files.values()))
    assert said["memory_bytes"]["float16"] > 75_000_000
    assert said["memory_bytes"]["int8"] < said["memory_bytes"]["float32"]
    assert beside(into) == ["pico"]


@pytest.mark.parametrize("wanted", ["float16", "int8"])
def test_weights_that_are_integers_already_stay_as_they_are(
    own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: str
) -> None:
    caplog.set_level("INFO")
    into = tmp_path / "w" / "mine"
    quantise(own / "model.bin", own / "model.bin", "int8_float16", progress=False)
    assert from_folder(own, into, wanted)
    told = f"mine: is int8_float16 and stays so; no {wanted} can be made of it"
    assert told in caplog.messages
    assert (into / "model.bin").read_bytes() == (own / "model.bin").read_bytes()
    said = record(into)
    assert (said["compute_type"], said["original_type"]) == ("int8_float16", "int8_float16")
    assert "made_from" not in said
    assert not from_folder(own, into, wanted)
    assert not from_folder(own, into)


def test_what_is_there_is_not_made_again(hub: HubServer, tmp_path: Path) -> None:
    into = tmp_path / "w" / "pico"
    assert from_hub(hub, into, "int8")
    hub.seen.clear()
    assert not from_hub(hub, into, "int8")
    assert not from_hub(hub, into, "int8_float32")
    assert [request.file for request in hub.seen] == ["api", "api"]


def test_another_format_replaces_what_is_there_and_default_brings_back_the_original(
    hub: HubServer, real_files: dict[str, bytes], tmp_path: Path
) -> None:
    into = tmp_path / "w" / "pico"
    from_hub(hub, into)
    assert not from_hub(hub, into, "float16")
    assert from_hub(hub, into, "int8")
    said = record(into)
    assert (said["compute_type"], said["original_type"]) == ("int8", "float16")
    assert said["made_from"] == sha256(real_files["model.bin"])
    assert said["files"]["model.bin"]["source"] == "quantised"
    assert said["files"]["config.json"]["source"] == hub.endpoint
    assert said["disk_bytes"] < 45_000_000
    assert stored_type(into / "model.bin") == "int8"
    assert faults(into) == []
    assert from_hub(hub, into)
    assert (into / "model.bin").read_bytes() == real_files["model.bin"]
    assert beside(into) == ["pico"]


def test_another_revision_replaces_what_is_there(hub: HubServer, tmp_path: Path) -> None:
    into = tmp_path / "w" / "pico"
    from_hub(hub, into, revision=COMMIT)
    hub.commit = "f" * 40
    assert from_hub(hub, into)
    assert record(into)["revision"] == "f" * 40


def test_damage_is_made_good(hub: HubServer, tmp_path: Path) -> None:
    into = tmp_path / "w" / "pico"
    from_hub(hub, into)
    (into / "tokenizer.json").write_text("{}")
    assert from_hub(hub, into)
    assert faults(into) == []


def test_what_an_older_version_has_fetched_counts_as_there(tmp_path: Path, tiny: Path) -> None:
    into = tmp_path / "tiny.en"
    shutil.copytree(tiny, into)
    older = read(into)
    assert older is not None
    kept = ("name", "repository", "revision", "licence", "files")
    said = record(into)
    (into / "model.json").write_text(json.dumps({name: said[name] for name in kept}))
    origin = find(Wanted("tiny.en"), NOWHERE)
    assert not bake(origin, into, DEFAULT, NOWHERE)


def test_a_folder_of_ones_own_is_copied_and_left_as_it_is(own: Path, tmp_path: Path) -> None:
    into = tmp_path / "w" / "mine"
    assert from_folder(own, into)
    said = record(into)
    assert (said["repository"], said["revision"], said["licence"]) == ("", "", "unknown")
    assert not from_folder(own, into)
    (own / "model.bin").write_bytes(b"changed later")
    assert faults(into) == []
    assert sorted(path.name for path in own.iterdir()) == sorted(NAMES)


def test_a_folder_that_has_changed_is_baked_again(own: Path, tmp_path: Path) -> None:
    into = tmp_path / "w" / "mine"
    from_folder(own, into)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config, indent=8))
    assert from_folder(own, into)
    assert (into / "config.json").read_bytes() == (own / "config.json").read_bytes()


def test_a_baked_folder_can_be_baked_from_and_keeps_its_history(
    hub: HubServer, real_files: dict[str, bytes], tmp_path: Path
) -> None:
    from_hub(hub, tmp_path / "pico", "int8")
    into = tmp_path / "w" / "copy"
    assert from_folder(tmp_path / "pico", into)
    said = record(into)
    assert (said["name"], said["repository"], said["revision"]) == ("copy", "owner/pico", COMMIT)
    assert said["made_from"] == sha256(real_files["model.bin"])
    assert said["compute_type"] == "int8"
    assert not from_folder(tmp_path / "pico", into)


def test_a_students_settings_get_heads_of_its_own(
    own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = json.loads((own / "config.json").read_bytes())
    teachers = json.dumps(settings | {"alignment_heads": [[10, 12], [13, 17]]})
    (own / "config.json").write_text(teachers)
    into = tmp_path / "w" / "mine"
    assert from_folder(own, into)
    assert json.loads((into / "config.json").read_bytes()) == settings
    assert (own / "config.json").read_text() == teachers
    assert "mine: alignment heads: head 12 of layer 10 is not in the decoder" in caplog.text
    said = record(into)
    assert said["files"]["config.json"]["source"] == "with alignment heads that the model has"
    assert said["files"]["tokenizer.json"]["source"] == "a folder of your own"
    assert "made_from" not in said
    assert faults(into) == []
    assert not from_folder(own, into)


def test_a_file_system_without_hard_links_will_do(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    into = tmp_path / "w" / "pico"
    assert from_hub(hub, into)
    assert faults(into) == []
    assert beside(into) == ["pico"]


def test_the_leavings_of_a_run_that_was_killed_are_not_used(own: Path, tmp_path: Path) -> None:
    into = tmp_path / "w" / "mine"
    left = tmp_path / "w" / ".mine.made"
    left.mkdir(parents=True)
    (left / "vocabulary.json").write_text("[]")
    assert from_folder(own, into)
    assert sorted(path.name for path in into.iterdir()) == sorted([*NAMES, "model.json"])


def test_two_at_once_share_one_bake(hub: HubServer, tmp_path: Path) -> None:
    into = tmp_path / "w" / "pico"
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: from_hub(hub, into), range(2)))
    assert sorted(made) == [False, True]
    assert len(hub.requests_for("model.bin")) == 1


def test_what_is_baked_loads_as_it_is(own: Path, tmp_path: Path) -> None:
    into = tmp_path / "w" / "mine"
    from_folder(own, into, "int8")
    model = WhisperModel(str(into), device="cpu", compute_type="default")
    assert model.model.compute_type.startswith("int8")
    assert not model.model.is_multilingual
