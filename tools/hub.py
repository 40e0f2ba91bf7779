"""Write what RunPod's Hub reads, .runpod/hub.json and .runpod/tests.json, from the code.

    python tools/hub.py            # write
    python tools/hub.py --check    # exit status 1 and a diff if anything would be written

Invariant: a setting is offered as `Settings` describes it or is in LEFT_OUT with the reason, and a
preset sets only what is offered.
"""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tools.docs import given, kept, unwrapped
from tools.memory import smallest_gpu

from sotto.engine.devices import CUDA
from sotto.models import catalogue
from sotto.models.memory import need_bytes
from sotto.models.shapes import SHAPES
from sotto.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".runpod"

POOLS = ("ADA_24", "AMPERE_24", "AMPERE_16", "ADA_48_PRO", "AMPERE_48")
"""The cheapest that fit what is offered, the fastest of them first."""
TEST_GPU = "NVIDIA GeForce RTX 4090"
CUDA_VERSIONS = ("12.8", "12.9", "13.0")
"""A driver of a CUDA older than the image's libraries may refuse to compile for a newer GPU."""
DISK_GB = 10
"""The image, and the largest model beside it."""
TEST_TIMEOUT_MS = 120_000
ICON = "https://raw.githubusercontent.com/sotto-worker/sotto/main/.runpod/icon.png"
"""Where the Hub finds what tools/icon.py draws."""

EASY = frozenset({"model", "model_download", "compute_type", "concurrency"})
"""Shown at once; the others are under "advanced"."""
IN_THE_IMAGE = {"weights_dir": "/app/weights"}
"""Defaults that are another in the image than on a desk."""
LEFT_OUT: Mapping[str, str] = {
    "hub_token": "a secret; the form would keep it as plain text",
    "s3_access_id": "goes with the secret below",
    "s3_access_secret": "a secret; the form would keep it as plain text",
    "engine": "the other engine makes words up, for trying what is around it",
    "device": "the Hub gives a GPU, and `auto` takes it",
    "temp_dir": "the system's own is the only one that can be written in a container",
}
PRESETS = ("base", "turbo", "large-v3", "distil-large-v3")
BAKED = "base"
DOWNLOADS = "/tmp/weights"  # noqa: S108 - inside a container of the worker's own
FORMAT = "float16"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check both files; the exit status."""
    made = (
        (FOLDER / name, json.dumps(content(), indent=2, ensure_ascii=False) + "\n")
        for name, content in (("hub.json", hub), ("tests.json", tests))
    )
    return kept("Write what RunPod's Hub reads.", made, arguments)


def hub() -> dict[str, Any]:
    """How the worker is shown, and what it can be set to, before it is deployed."""
    return {
        "title": "Sotto",
        "description": "Whisper transcription: one GPU shared by every job in flight, word times "
        "that are true, and worker-faster_whisper's requests unchanged.",
        "type": "serverless",
        "category": "audio",
        "iconUrl": ICON,
        "config": {
            "runsOn": "GPU",
            "containerDiskInGb": DISK_GB,
            "gpuCount": 1,
            "gpuIds": ",".join(POOLS),
            "allowedCudaVersions": list(CUDA_VERSIONS),
            "presets": [preset(name) for name in PRESETS],
            "env": [entry(info) for info in offered()],
        },
    }


def tests() -> dict[str, Any]:
    """A job that the Hub sends to each release."""
    job = json.loads((ROOT / "test_input.json").read_text(encoding="utf-8"))
    return {
        "tests": [{"name": "real_speech", "input": job["input"], "timeout": TEST_TIMEOUT_MS}],
        "config": {
            "gpuTypeId": TEST_GPU,
            "gpuCount": 1,
            "env": [{"key": variable("model"), "value": BAKED}],
            "allowedCudaVersions": list(CUDA_VERSIONS),
        },
    }


def offered() -> list[msgspec.structs.FieldInfo]:
    """The settings that a person may set in the Hub's form."""
    return [info for info in msgspec.structs.fields(Settings) if info.name not in LEFT_OUT]


def entry(info: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """One setting as the Hub's form takes it."""
    hint, outer = unwrapped(info.type)
    kind, inner = unwrapped(given(hint))
    metas = [*outer, *inner]
    asked: dict[str, Any] = {
        "name": label(info.name),
        "type": form_type(kind),
        "description": next(meta.description for meta in metas if meta.description),
        "required": False,
        "advanced": info.name not in EASY,
    }
    default = IN_THE_IMAGE.get(info.name, info.default)
    if default is not None:
        asked["default"] = ":".join(default) if isinstance(default, tuple) else default
    if kind is bool:
        asked |= {"trueValue": "true", "falseValue": "false"}
    if typing.get_origin(kind) is Literal:
        asked["options"] = [{"label": one, "value": one} for one in typing.get_args(kind)]
    for bound, name in (("ge", "min"), ("le", "max")):
        limits = [getattr(meta, bound) for meta in metas if getattr(meta, bound) is not None]
        if limits:
            asked[name] = limits[0]
    return {"key": variable(info.name), "input": asked}


def form_type(kind: Any) -> str:
    """What the form calls the type of a setting."""
    if kind is bool:
        return "boolean"
    return "number" if kind in (int, float) else "string"


def label(name: str) -> str:
    """A field's name in words, its unit last."""
    for ending, unit in (("_s", "seconds"), ("_bytes", "bytes")):
        if name.endswith(ending):
            return f"{label(name.removesuffix(ending))} ({unit})"
    return name.replace("_", " ").capitalize()


def preset(name: str) -> dict[str, Any]:
    """A model of the catalogue on a GPU; one that is not baked in is downloaded by its digest."""
    model = catalogue.resolve(name)
    need = need_bytes(SHAPES[model.name], FORMAT, encode=CUDA.encode, decode=CUDA.decode)
    defaults = {variable("model"): model.name, variable("compute_type"): FORMAT}
    if model.name != BAKED:
        defaults |= {variable("model_download"): "true", variable("weights_dir"): DOWNLOADS}
    languages = "English" if model.languages == "english" else "many languages"
    title = f"{model.name}: {languages}, {FORMAT}, for a GPU of {smallest_gpu(need)}"
    return {"name": title, "defaults": defaults}


if __name__ == "__main__":
    sys.exit(main())
