"""What a person names on the command line in, what to transcribe and where to write it out.

Invariant: no two targets write the same file, and a file is written whole or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

AUDIO = frozenset({
    ".aac", ".aif", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a",
    ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".oga",
    ".ogg", ".ogv", ".opus", ".spx", ".wav", ".webm", ".wma", ".wmv",
})  # fmt: skip
"""Names that a folder is searched for; a file that is named itself is always tried."""
EXTENSIONS = {
    "txt": "formatted_text",
    "srt": "srt",
    "vtt": "vtt",
    "tsv": "tsv",
    "json": "json",
}
"""The files that can be written, and the format of each."""


class TargetError(Exception):
    """The command line names something that is not there or cannot be."""


@dataclass(frozen=True, slots=True)
class Target:
    """One audio to transcribe. `stem`: the files to write, without their extension."""

    name: str
    source: dict[str, str]
    path: Path | None
    stem: Path


def find_targets(inputs: Sequence[str], output_dir: Path | None) -> list[Target]:
    """Files, the audio files of folders, and URLs, in the order given. Raises TargetError."""
    targets: list[Target] = []
    taken: set[Path] = set()
    for text in inputs:
        if text.lower().startswith(("http://", "https://")):
            found: list[str | Path] = [text]
        else:
            found = list(_files(Path(text)))
        targets.extend(_target(item, output_dir, taken) for item in found)
    return targets


def save(target: Target, extension: str, text: str) -> Path:
    """Write one format of a target's transcript; a half-written file never stays."""
    path = target.stem.with_name(f"{target.stem.name}.{extension}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _files(path: Path) -> list[Path]:
    """The file, or those of the folder, at `path`. Raises TargetError."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path]
        next(path.iterdir(), None)  # a folder that may not be read is told, unlike one within it
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from error
    # Unlike Path.rglob, os.walk passes over what it cannot look into, whatever the reason.
    within = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    files = sorted(file for file in within if file.suffix.lower() in AUDIO and _is_file(file))
    if not files:
        raise TargetError(f"{path}: no audio file in this folder")
    return files


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # nobody has named it: the others are transcribed
        return False


def _target(item: str | Path, output_dir: Path | None, taken: set[Path]) -> Target:
    if isinstance(item, Path):
        name, folder = item.name, item.parent
        source, path = {"audio_path": str(item.resolve())}, item
    else:
        name, folder = _name(item), Path()
        source, path = {"audio": item}, None
    folder = (output_dir or folder).resolve()
    stem = folder / (Path(name).stem or name)
    if stem in taken:
        stem = folder / name
    count = 1
    while stem in taken:
        count += 1
        stem = folder / f"{name}-{count}"
    taken.add(stem)
    return Target(name, source, path, stem)


def _name(url: str) -> str:
    """The last part of an address, or its host, as the name of a file. Raises TargetError."""
    try:
        parts = urlsplit(url)
        names = (PurePosixPath(unquote(parts.path)).name, parts.hostname or "")
    except ValueError:
        names = ("", "")
    name = next((name for name in names if name.strip(".")), None)
    if name is None:
        raise TargetError(f"{url}: not an address")
    return "".join(letter if letter.isprintable() else "_" for letter in name)
