"""Who may import whom: the dependency direction, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
STAGES = {"request", "audio", "engine", "transcript", "net"}
MAY_IMPORT = {
    "handler": {"worker"},
    "worker": {
        *(STAGES - {"audio"}),
        "engines",
        "loading",
        "languages",
        "options",
        "pipeline",
        "answer",
        "workshop",
        "settings",
        "log",
    },
    "__main__": {"cli"},
    "cli": {"endpoint", "files", "serve", "targets"},
    "files": {
        "log",
        "models.catalogue",
        "options",
        "pipeline",
        "request",
        "settings",
        "targets",
        "transcript",
        "workshop",
    },
    "loading": {"engines", "models", "plan", "settings"},
    "serve": {"gateway", "endpoint", "log", "settings"},
    "targets": set(),
    "model_rules": {"engine", "request", "models"},
    "workshop": {*STAGES, "model_rules", "pipeline", "engines", "loading", "plan", "settings"},
    "engines": {"engine", "models", "plan", "residents"},
    "residents": {"engine"},
    "plan": {"engine", "models"},
    "pipeline": {*STAGES, "asking", "merging", "ordering"},
    "ordering": {"asking", "audio", "language", "transcript.parts"},
    "asking": {"audio", "engine", "language", "request", "transcript"},
    "language": set(),
    "merging": {"transcript.segments"},
    "answer": {"request", "transcript"},
    "request": {
        "audio.embedded",
        "audio.source",
        "languages",
        "net",
        "options",
        "rules",
        "transcript.formats",
        "transcript.lines",
    },
    "rules": {"net", "options", "transcript.formats"},
    "options": {"audio.pcm", "languages", "transcript.formats"},
    "audio": set(),
    "engine": {"languages", "models.catalogue", "models.memory", "models.shapes", "models.weights"},
    "transcript": {"language", "languages", "meter"},
    "models": set(),
    "net": set(),
    "settings": set(),
    "log": set(),
    "meter": set(),
    "languages": set(),
    "errors": set(),
    "gateway": {"endpoint.config", "endpoint.scaling"},
    "endpoint": set(),
}
"""For each room its neighbours: rooms, or one module of them.

A room's own modules and the errors are always allowed.
"""

TYPES = {"audio.pcm", "audio.vad", "audio.windows", "engine.base", "transcript.segments"}
"""The modules whose types audio, engine and transcript may know of each other."""

ONLY_IN = {
    "aiohttp": {"gateway", "worker"},
    "av": {"audio.decode"},
    "botocore": {"worker.storage"},
    "ctranslate2": {"engine.whisper"},
    "faster_whisper": {
        "audio.silero",
        "audio.features",
        "engine.tokens",
        "engine.whisper",
        "engine.words",
    },
    "matplotlib": {"endpoint.simulate.plots"},
    "onnxruntime": {"audio.silero"},
    "redis": {"endpoint.watchdog.redis_queue"},
    "requests": {"endpoint.exchange", "models.sources", "net"},
    "runpod": {"net.address", "net.sdk"},
}
"""For each library the modules or rooms that may import it: they translate its exceptions."""

NOWHERE = {"torch", "transformers", "pydantic", "boto3"}
"""Libraries that would make the first job wait."""


def modules() -> dict[str, Path]:
    """Every module below src by its name within the package: `audio.decode`, `errors`."""
    named = {
        ".".join(path.relative_to(SRC / "sotto").with_suffix("").parts): path
        for path in (SRC / "sotto").rglob("*.py")
    }
    entries = {path.stem: path for path in SRC.glob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in (named | entries).items()}


MODULES = modules()


def imported(source: str, module: str) -> Iterator[str]:
    """The full names that `source` imports anywhere, `sotto.audio.vad` or `av.container`.

    `from a import b` gives `a.b` where that may be a module, that is for all of ours.
    """
    package = ["sotto", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of_ours(source: str, module: str) -> set[str]:
    """The modules of the package that `source` imports, as `MODULES` names them."""
    found = set()
    for name in imported(source, module):
        if name != "sotto" and not name.startswith("sotto."):
            continue
        ours = name.removeprefix("sotto").removeprefix(".")
        while ours and ours not in MODULES:
            ours = ours.rpartition(".")[0]
        found |= {ours} - {""}
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def within(module: str, places: set[str]) -> bool:
    """Is `module` one of `places`, or in a room that is one of them?"""
    return module in places or room(module) in places


def strangers(source: str, module: str) -> set[str]:
    """What `source`, the text of `module`, imports of ours and may not."""
    allowed = MAY_IMPORT[room(module)] | {room(module), "errors"}
    if room(module) in {"audio", "engine", "transcript"}:
        allowed = allowed | TYPES
    return {other for other in imports_of_ours(source, module) if not within(other, allowed)}


def misplaced(source: str, module: str) -> set[str]:
    """The libraries that `source`, the text of `module`, imports and may not."""
    libraries = {name.partition(".")[0] for name in imported(source, module)}
    return {
        library
        for library in libraries
        if library in NOWHERE or (library in ONLY_IN and not within(module, ONLY_IN[library]))
    }


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert room(module) in MAY_IMPORT, f"{module}: say in MAY_IMPORT what it may import"
    assert strangers(MODULES[module].read_text(encoding="utf-8"), module) == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_libraries_it_may(module: str) -> None:
    assert misplaced(MODULES[module].read_text(encoding="utf-8"), module) == set()


def test_the_errors_import_nothing_of_ours() -> None:
    assert imports_of_ours(MODULES["errors"].read_text(encoding="utf-8"), "errors") == set()


def test_an_engine_is_chosen_in_one_place() -> None:
    """Everyone else knows the protocol, not the engines behind it."""
    engines = {"engine.whisper", "engine.fake"}
    knowing = {
        module
        for module, path in MODULES.items()
        if imports_of_ours(path.read_text(encoding="utf-8"), module) & engines
    }
    assert knowing == {"engines"}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("audio.decode", "from sotto.engine.batcher import Batcher", {"engine.batcher"}),
        ("audio.decode", "def f():\n    import sotto.settings", {"settings"}),
        ("engine.base", "from ..transcript import formats", {"transcript.formats"}),
        ("request", "from sotto.audio import vad", {"audio.vad"}),
        ("errors", "from sotto import settings, errors", {"settings"}),
        ("transcript.formats", "from sotto.transcript.segments import Segment", set()),
        ("engine.base", "from sotto.audio.windows import Window", set()),
        ("audio.decode", "from sotto import __version__", set()),
    ],
)
def test_the_walk_sees_a_stranger(module: str, source: str, found: set[str]) -> None:
    assert strangers(source, module) == found


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("audio.vad", "from av.container import InputContainer", {"av"}),
        ("audio.decode", "import av.audio.frame as frame, numpy", set()),
        ("cli", "if True:\n    from runpod import serverless", {"runpod"}),
        ("worker.serve", "import runpod.serverless", {"runpod"}),
        ("engine.whisper", "import torch", {"torch"}),
    ],
)
def test_the_walk_sees_a_misplaced_library(module: str, source: str, found: set[str]) -> None:
    assert misplaced(source, module) == found
