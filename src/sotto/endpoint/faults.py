"""TOML text and the structs it should fit in; every fault out, with the line it stands on.

Invariant: all faults are found, not the first alone, and a value of a free table (an environment)
is never part of a fault: it may be a secret.
"""

from __future__ import annotations

import difflib
import math
import tomllib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

SHOWN_LETTERS = 60

Key = tuple[str, ...]
Table = Mapping[str, Any]


class Fault(NamedTuple):
    """What is wrong with the value at `key`."""

    key: Key
    reason: str


def faults(struct: type[msgspec.Struct], table: Table, at: Key = ()) -> Iterator[Fault]:
    """What is wrong with the values of `table`, each by itself.

    Each field of `struct` is `Annotated` with a `Meta` whose title says what is allowed, but for
    those that are structs themselves.
    """
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in table:
            yield Fault((*at, field.name), f"missing; give {_allowed(hints[field.name])}")
    for name, value in table.items():
        key = (*at, name)
        if name not in hints:
            yield Fault(key, f"no such key; {_suggestion(name, hints)}")
        elif not _is_table(hints[name]):
            if not _fits(value, hints[name]):
                yield Fault(key, f"{_shown(value)} is not allowed; use {_allowed(hints[name])}")
        elif not isinstance(value, dict):
            yield Fault(key, f"{_shown(value)} is not allowed; use a table, [{told(key)}]")
        else:
            yield from _table_faults(hints[name], value, key)


def without(table: Table, wrong: set[Key], at: Key = ()) -> dict[str, Any]:
    """A copy of `table` that lacks the keys that are wrong."""
    return {
        name: without(value, wrong, (*at, name)) if isinstance(value, dict) else value
        for name, value in table.items()
        if (*at, name) not in wrong
    }


def lines(text: str) -> dict[Key, int]:
    """The line on which each key of a TOML text is first given.

    TOML's parser keeps no lines. But a key is given by the statement that ends the shortest
    beginning of the text that is TOML and has the key, and that statement begins where the longest
    beginning before it ends.
    """
    found: dict[Key, int] = {}
    rows = text.replace("\r\n", "\n").split("\n")
    start = 1
    for end in range(1, len(rows) + 1):
        try:
            table = tomllib.loads("\n".join(rows[:end]))
        except ValueError:
            continue
        for key in _keys(table):
            found.setdefault(key, start)
        start = end + 1
    return found


def told(key: Key) -> str:
    """A key as TOML writes it."""
    return ".".join(part if part.isidentifier() else _shown(part) for part in key)


def _table_faults(hint: Any, table: Table, at: Key) -> Iterator[Fault]:
    kind = typing.get_args(hint)[0]
    if typing.get_origin(kind) is not dict:
        yield from faults(kind, table, at)
        return
    names, values = typing.get_args(kind)
    for name, value in table.items():
        if not _fits(name, names):
            yield Fault((*at, name), f"the name is not allowed; use {_allowed(names)}")
        if not _fits(value, values):
            yield Fault((*at, name), f"the value is not allowed; use {_allowed(values)}")


def _is_table(hint: Any) -> bool:
    kind = typing.get_args(hint)[0]
    return typing.get_origin(kind) is dict or (
        isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    )


def _fits(value: object, hint: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


def _allowed(hint: Any) -> str:
    return str(typing.get_args(hint)[1].title)


def _suggestion(name: str, names: Table) -> str:
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"keys are {', '.join(names)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 3]}..."


def _keys(table: Table, at: Key = ()) -> Iterator[Key]:
    for name, value in table.items():
        yield (*at, name)
        if isinstance(value, dict):
            yield from _keys(value, (*at, name))
