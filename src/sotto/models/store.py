"""A model's name in, the local folder with its weights out.

The places are asked in a fixed order: baked, RunPod's cached model, a network volume, the machine's
own hub cache, and, where that is allowed, the hub. Invariant: a caller's name is only ever compared
with the names of what is here; it becomes part of a path after it has matched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sotto.errors import EngineError
from sotto.models import catalogue, record
from sotto.models.catalogue import Model
from sotto.models.fetch import FetchError, Hub, fetch

RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")
CACHED = "models--"
"""What the folder of a repository in a hub cache begins with."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model that is here, and all that it is called, best first; it is listed by the first."""

    folder: Path
    names: tuple[str, ...]


class Place(Protocol):
    """Somewhere on this machine where models lie."""

    def models(self) -> Iterator[Found]:
        """The models that lie there now."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of model folders.

    A model is called what its folder is called, what the catalogue calls that, and what its record
    says: its own name and its repository.
    """

    root: Path

    def models(self) -> Iterator[Found]:
        """See Place."""
        for folder in _folders(self.root):
            if not folder.name.startswith(".") and is_model(folder):
                known = record.read(folder)
                recorded = (known.name, known.repository) if known is not None else ()
                names = [*_catalogued(folder.name), *recorded, *_catalogued(*recorded[:1])]
                yield Found(folder, tuple(dict.fromkeys(filter(None, names))))


@dataclass(frozen=True, slots=True)
class HubCache:
    """A cache of the hub, as its own tools lay it out: repositories with their snapshots.

    A model is called what the catalogue calls its repository, and by the repository's own name.
    """

    root: Path

    def models(self) -> Iterator[Found]:
        """See Place."""
        by_repository = {model.repository: model for model in catalogue.load().values()}
        for cached in _folders(self.root):
            if not cached.name.startswith(CACHED):
                continue
            repository = cached.name.removeprefix(CACHED).replace("--", "/", 1)
            model = by_repository.get(repository)
            folder = next(filter(is_model, _snapshots(cached, model)), None)
            if folder is not None:
                called = _catalogued(model.name) if model is not None else ()
                yield Found(folder, (*called, repository))


class Store:
    """Where models may lie on this machine; the first place is where a download goes."""

    def __init__(
        self, weights_dir: Path, others: Sequence[Place], download: bool, hub: Hub
    ) -> None:
        self._weights_dir = weights_dir
        self._places: tuple[Place, ...] = (Shelf(weights_dir), *others)
        self._download = download
        self._hub = hub
        self._stopped = threading.Event()

    def available(self) -> tuple[str, ...]:
        """The names of the models that are here, in alphabetical order."""
        return tuple(sorted({found.names[0] for p in self._places for found in p.models()}))

    def find(self, name: str) -> Path:
        """The folder of the model that is called `name`; blocks while a download runs.

        Raises UnknownModel with the names of what is here, and EngineError if a download fails.
        """
        for place in self._places:
            called = [found for found in place.models() if name in found.names]
            if called:
                return min(called, key=lambda found: found.names.index(name)).folder
        model = catalogue.load().get(catalogue.canonical(name))
        if model is not None and self._download:
            return self._fetch(model)
        raise catalogue.unknown(name, "is not on this worker; here are", self.available())

    def stop(self) -> None:
        """End the downloads that run, each as one that failed; none begins from now on."""
        self._stopped.set()

    def _fetch(self, model: Model) -> Path:
        into = self._weights_dir / model.name
        try:
            return fetch(model, into, hub=self._hub, progress=False, stop=self._stopped)
        except FetchError as error:
            raise EngineError(f"model: {model.name!r} could not be downloaded: {error}") from error


def places(volume_dir: Path, environ: Mapping[str, str]) -> tuple[Place, ...]:
    """Where models may lie beside the baked ones, in the order in which they are asked."""
    home = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    own = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or home) / "hub"
    return (HubCache(RUNPOD_CACHE), Shelf(volume_dir), HubCache(Path(own).expanduser()))


def is_model(folder: Path) -> bool:
    """Does `folder` hold what CTranslate2 and the tokenizer need to load a Whisper model?

    One that may not be entered holds nothing.
    """
    try:
        return not catalogue.lacking(lambda name: (folder / name).is_file())
    except OSError:
        return False


def _folders(root: Path) -> Iterable[Path]:
    """What lies in `root`, by name; nothing where there is none, or none that may be read."""
    try:
        return sorted(root.iterdir())
    except OSError:
        return ()


def _catalogued(*names: str) -> tuple[str, ...]:
    """These names, and what else the catalogue calls such models."""
    models = catalogue.load()
    known = [models.get(catalogue.canonical(name)) for name in names]
    others = [called for model in known if model for called in (model.name, *model.aliases)]
    return (*names, *others)


def _snapshots(cached: Path, model: Model | None) -> Iterator[Path]:
    """The snapshots of a repository in a hub cache: the pinned revision, then the newest first."""
    snapshots = _folders(cached / "snapshots")
    if model is not None:
        yield from (folder for folder in snapshots if folder.name == model.revision)
    yield from sorted(snapshots, key=_changed, reverse=True)


def _changed(folder: Path) -> float:
    """When `folder` was last changed; at the beginning of time if that may not be known."""
    try:
        return folder.lstat().st_mtime
    except OSError:
        return 0.0
