"""What RunPod's Hub reads is what the code says, and has the fields that the Hub knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta
from tools import docs, hub
from tools.icon import ICON

from sotto.models import catalogue
from sotto.request import parse
from sotto.settings import SECRETS, Settings, variable

ROOT = Path(__file__).resolve().parents[2]
Text = Annotated[str, Meta(min_length=1)]
CudaVersion = Literal["11.8", "12.0", "12.1", "12.4", "12.6", "12.8", "12.9", "13.0"]
POOLS = {
    "AMPERE_16",
    "AMPERE_24",
    "AMPERE_48",
    "AMPERE_80",
    "ADA_24",
    "ADA_48_PRO",
    "ADA_80_PRO",
    "HOPPER_141",
}


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A table of the Hub's files; a field that the Hub does not know is an error."""


class Option(Strict):
    label: Text
    value: Text


class Input(Strict):
    name: Text
    type: Literal["string", "number", "boolean", "huggingface"]
    description: Text
    default: str | float | bool | None = None
    required: bool = False
    advanced: bool = False
    options: Annotated[list[Option], Meta(min_length=2)] | None = None
    min: float | None = None
    max: float | None = None
    trueValue: Text | None = None  # noqa: N815 - the Hub's spelling
    falseValue: Text | None = None  # noqa: N815


class Asked(Strict):
    key: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]*$")]
    input: Input


class Fixed(Strict):
    key: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]*$")]
    value: str


class Preset(Strict):
    name: Text
    defaults: dict[str, str]


class Config(Strict):
    runsOn: Literal["GPU", "CPU"]  # noqa: N815
    containerDiskInGb: Annotated[int, Meta(gt=0)]  # noqa: N815
    gpuCount: Annotated[int, Meta(gt=0)]  # noqa: N815
    gpuIds: Text  # noqa: N815
    allowedCudaVersions: Annotated[list[CudaVersion], Meta(min_length=1)]  # noqa: N815
    env: list[Asked]
    presets: list[Preset]


class Hub(Strict):
    title: Text
    description: Text
    type: Literal["serverless"]
    category: Literal["audio", "embedding", "language", "video", "image"]
    iconUrl: Annotated[str, Meta(pattern="^https://")]  # noqa: N815
    config: Config


class Test(Strict):
    __test__ = False
    name: Text
    input: dict[str, Any]
    timeout: Annotated[int, Meta(gt=0)]


class TestConfig(Strict):
    __test__ = False
    gpuTypeId: Text  # noqa: N815
    gpuCount: int  # noqa: N815
    env: list[Fixed]
    allowedCudaVersions: list[CudaVersion]  # noqa: N815


class Tests(Strict):
    __test__ = False
    tests: Annotated[list[Test], Meta(min_length=1)]
    config: TestConfig


SHOWN = msgspec.json.decode((ROOT / ".runpod" / "hub.json").read_bytes(), type=Hub)
TESTED = msgspec.json.decode((ROOT / ".runpod" / "tests.json").read_bytes(), type=Tests)
FORM = {asked.key: asked.input for asked in SHOWN.config.env}


def test_the_files_are_those_that_the_code_makes(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "tools" / "hub.py"), "--check"]
    checked = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr


def test_a_stale_file_is_told_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    monkeypatch.setattr(hub, "FOLDER", tmp_path / ".runpod")
    (tmp_path / "test_input.json").write_text((ROOT / "test_input.json").read_text())
    assert hub.main([]) == 0
    assert hub.main(["--check"]) == 0
    path = tmp_path / ".runpod" / "hub.json"
    stale = path.read_text().replace('"Sotto"', '"Forte"')
    path.write_text(stale)
    capsys.readouterr()
    assert hub.main(["--check"]) == 1
    assert '-  "title": "Forte",' in capsys.readouterr().out
    assert path.read_text() == stale


def test_every_setting_is_offered_or_left_out_for_a_reason() -> None:
    offered = {field for field in Settings.__struct_fields__ if variable(field) in FORM}
    assert offered | set(hub.LEFT_OUT) == set(Settings.__struct_fields__)
    assert offered.isdisjoint(hub.LEFT_OUT)
    assert len(FORM) == len(SHOWN.config.env)
    assert all(hub.LEFT_OUT.values())


def test_no_secret_is_asked_for_in_plain_text() -> None:
    assert set(hub.LEFT_OUT) >= SECRETS


@pytest.mark.parametrize("key", FORM)
def test_a_setting_takes_what_the_form_begins_with(key: str) -> None:
    asked = FORM[key]
    if asked.default is None:
        return
    text = str(asked.default).lower() if isinstance(asked.default, bool) else str(asked.default)
    assert getattr(Settings.from_env({key: text}), key.removeprefix("SOTTO_").lower()) is not None
    if asked.type == "number":
        assert not isinstance(asked.default, str)
        assert asked.min is None or asked.min <= asked.default
        assert asked.max is None or asked.default <= asked.max


@pytest.mark.parametrize("key", [key for key, asked in FORM.items() if asked.options])
def test_a_setting_takes_every_option_of_the_form(key: str) -> None:
    options = [option.value for option in FORM[key].options or ()]
    assert FORM[key].default in options
    for value in options:
        assert getattr(Settings.from_env({key: value}), key.removeprefix("SOTTO_").lower()) == value


@pytest.mark.parametrize("key", [key for key, asked in FORM.items() if asked.type == "boolean"])
def test_a_setting_takes_what_the_form_sends_for_yes_and_no(key: str) -> None:
    field = key.removeprefix("SOTTO_").lower()
    for value, meant in ((FORM[key].trueValue, True), (FORM[key].falseValue, False)):
        assert value is not None
        assert getattr(Settings.from_env({key: value}), field) is meant


@pytest.mark.parametrize("preset", SHOWN.config.presets, ids=lambda preset: preset.name)
def test_a_preset_serves_a_model_of_the_catalogue_that_the_image_can_get(preset: Preset) -> None:
    assert set(preset.defaults) <= set(FORM)
    settings = Settings.from_env(preset.defaults)
    assert catalogue.resolve(settings.model).name == settings.model
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    baked = f"\nARG MODEL={settings.model}\n" in dockerfile
    assert settings.model_download is not baked
    # The image's own folder belongs to root, so that a download goes elsewhere.
    assert (settings.weights_dir == Settings().weights_dir) is baked


def test_the_icon_is_a_file_of_this_repository() -> None:
    place = SHOWN.iconUrl.partition("/sotto-worker/sotto/main/")[2]
    assert ROOT / place == ICON
    assert ICON.is_file()


def test_the_hub_finds_what_it_builds_from() -> None:
    for name in ("handler.py", "Dockerfile", "README.md"):
        assert (ROOT / name).is_file()
    assert "\nWORKDIR /app\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(SHOWN.config.gpuIds.split(",")) <= POOLS


def test_its_test_is_a_job_of_real_speech() -> None:
    (test,) = TESTED.tests
    job = json.loads((ROOT / "test_input.json").read_text(encoding="utf-8"))
    assert test.input == job["input"]
    assert parse(test.input).audio is not None
    assert Settings.from_env({fixed.key: fixed.value for fixed in TESTED.config.env})


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"category": "sound"},
        {"title": ""},
        {"config": None},
    ],
)
def test_a_file_that_the_hub_would_not_take_is_noticed(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(hub.hub() | change, Hub)
