"""A checkpoint, from the hub or a folder, becomes a baked model that hears words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builder.making import DEFAULT
from builder.origin import Wanted, find
from builder.quantise import stored_type
from builder.steps import bake
from tests.hub_server import HubServer

from sotto.models.fetch import Hub
from sotto.models.record import faults, sha256_of

if TYPE_CHECKING:
    from tests.convert.checkpoints import Checkpoints

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(300),
    # torch and transformers warn of what they themselves do.
    pytest.mark.filterwarnings("default"),
]

COMMIT = "0123456789" * 4


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def test_a_checkpoint_from_the_hub_is_converted_quantised_and_proven(
    real: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in real.iterdir() if path.is_file()}
    into = tmp_path / "w" / "tuned"
    with HubServer(files=files, commit=COMMIT) as server:
        hub = Hub(server.endpoint)
        origin = find(Wanted("owner/tuned"), hub)
        assert bake(origin, into, "int8", hub)
        server.seen.clear()
        assert not bake(origin, into, "int8", hub)
        assert server.seen == []
    said = record(into)
    assert (said["repository"], said["revision"]) == ("owner/tuned", COMMIT)
    assert (said["compute_type"], said["original_type"]) == ("int8", "float16")
    assert said["made_from"] == sha256_of(real / "model.safetensors")
    assert said["files"]["model.bin"]["source"] == "converted and quantised"
    assert (said["mels"], said["languages"], said["alignment_heads"]) == (80, 99, True)
    assert stored_type(into / "model.bin") == "int8"
    assert faults(into) == []
    assert [path.name for path in into.parent.iterdir() if path.suffix != ".lock"] == ["tuned"]


def test_a_checkpoint_in_a_folder_keeps_its_format(real: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in real.iterdir())
    nowhere = Hub("http://127.0.0.1:9")
    origin = find(Wanted(str(real), "tuned"), nowhere)
    into = tmp_path / "tuned"
    assert bake(origin, into, DEFAULT, nowhere)
    assert not bake(origin, into, DEFAULT, nowhere)
    assert not bake(origin, into, "float16", nowhere)
    assert record(into)["compute_type"] == "float16"
    assert sorted(path.name for path in real.iterdir()) == before


def test_a_distilled_model_with_its_teachers_heads_is_baked(
    checkpoints: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teachers = {"alignment_heads": [[7, 0], [10, 17], [25, 6]]}
    folder = checkpoints.random(
        tmp_path / "distilled", encoder_layers=3, decoder_layers=2, generation=teachers
    )
    nowhere = Hub("http://127.0.0.1:9")
    into = tmp_path / "student"
    assert bake(find(Wanted(str(folder), "student"), nowhere), into, "int8", nowhere)
    settings = json.loads((into / "config.json").read_bytes())
    assert settings["alignment_heads"] == [[1, head] for head in range(6)]
    assert record(into)["alignment_heads"]
    (told,) = (one for one in caplog.records if one.levelname == "WARNING")
    assert told.getMessage().startswith(
        "distilled: alignment heads: head 0 of layer 7 is not in the decoder, which has 2 layers of"
    )
