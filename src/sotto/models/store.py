"""A model's name in, the local folder with its weights out.

The places are asked in a fixed order: baked, RunPod's cached model, the machine's own hub cache,
and, where that is allowed, the hub. Invariant: a caller's name is only ever compared with the names
of what is here; it becomes part of a path after it has matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sotto.errors import EngineError
from sotto.models import catalogue
from sotto.models.catalogue import REQUIRED, VOCABULARIES, Model
from sotto.models.fetch import FetchError, Hub, fetch

RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")


class Store:
    """Where models may lie on this machine."""

    def __init__(self, weights_dir: Path, caches: Sequence[Path], download: bool, hub: Hub) -> None:
        self._weights_dir = weights_dir
        self._caches = tuple(caches)
        self._download = download
        self._hub = hub

    def available(self) -> tuple[str, ...]:
        """The names of the models that are here, in alphabetical order."""
        cached = {name for name, model in catalogue.load().items() if self._in_caches(model)}
        return tuple(sorted(self._baked().keys() | cached))

    def find(self, name: str) -> Path:
        """The folder of the model that is called `name`; blocks while a download runs.

        Raises UnknownModel with the names of what is here, and EngineError if a download fails.
        """
        baked = self._baked()
        for known in (name, catalogue.canonical(name)):
            if known in baked:
                return baked[known]
        model = catalogue.load().get(catalogue.canonical(name))
        if model is not None:
            folder = self._in_caches(model)
            if folder is not None:
                return folder
            if self._download:
                return self._fetch(model)
        raise catalogue.unknown(name, "is not on this worker; here are", self.available())

    def _baked(self) -> dict[str, Path]:
        if not self._weights_dir.is_dir():
            return {}
        return {
            folder.name: folder
            for folder in self._weights_dir.iterdir()
            if not folder.name.startswith(".") and is_model(folder)
        }

    def _in_caches(self, model: Model) -> Path | None:
        for cache in self._caches:
            for snapshot in _snapshots(cache, model):
                if is_model(snapshot):
                    return snapshot
        return None

    def _fetch(self, model: Model) -> Path:
        try:
            return fetch(model, self._weights_dir / model.name, hub=self._hub, progress=False)
        except FetchError as error:
            raise EngineError(f"model: {model.name!r} could not be downloaded: {error}") from error


def hub_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The hub caches of this machine: RunPod's cached model, then the user's own."""
    home = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    own = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or home) / "hub"
    return (RUNPOD_CACHE, Path(own).expanduser())


def is_model(folder: Path) -> bool:
    """Does `folder` hold what CTranslate2 and the tokenizer need to load a Whisper model?"""
    return all((folder / name).is_file() for name in REQUIRED) and any(
        (folder / name).is_file() for name in VOCABULARIES
    )


def _snapshots(cache: Path, model: Model) -> Iterator[Path]:
    """The snapshots of `model` in a hub cache, the pinned revision first."""
    snapshots = cache / f"models--{model.repository.replace('/', '--')}" / "snapshots"
    yield snapshots / model.revision
    if snapshots.is_dir():
        yield from sorted(snapshots.iterdir())
