"""Where a command keeps what it wants to find again: the user's folders, by the XDG standard.

Invariant: nothing is read or made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OURS = "sotto"


def cache(environ: Mapping[str, str]) -> Path:
    """The folder for what can be asked for again."""
    return _folder(environ, "XDG_CACHE_HOME", Path(".cache"))


def state(environ: Mapping[str, str]) -> Path:
    """The folder for what a restart must not forget."""
    return _folder(environ, "XDG_STATE_HOME", Path(".local") / "state")


def _folder(environ: Mapping[str, str], variable: str, otherwise: Path) -> Path:
    named = Path(environ.get(variable, ""))
    # The standard has a relative one ignored.
    return (named if named.is_absolute() else Path.home() / otherwise) / OURS
