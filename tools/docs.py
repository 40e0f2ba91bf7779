"""Write the tables in the documents from the code that they describe.

    python tools/docs.py            # write
    python tools/docs.py --check    # exit status 1 and a diff if anything would be written

A document says where a table goes with a pair of comments; the prose around them is written by
hand::

    <!-- generated: errors -->
    <!-- end -->

Invariant: an option, a setting or an error is described once, in the code.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tools import memory

from sotto.answer import Answer
from sotto.endpoint.config import Endpoint
from sotto.errors import SottoError
from sotto.options import Options
from sotto.settings import SECRETS, Settings, variable
from sotto.worker.delivery import Summary

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check all documents; the exit status."""
    made = ((path, filled(path.read_text(encoding="utf-8"))) for path in documents())
    return kept("Write the tables in the documents.", made, arguments)


def kept(purpose: str, made: Iterable[tuple[Path, str]], arguments: Sequence[str] | None) -> int:
    """Write or check files that are `made` from the code, by the command's arguments."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--check", action="store_true", help="only say what would change")
    check = parser.parse_args(arguments).check
    stale = False
    for path, fresh in made:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if fresh == text:
            continue
        stale = True
        if check:
            print(difference(path, text, fresh))
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(fresh, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


def documents() -> list[Path]:
    """The documents that may hold tables."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def filled(text: str) -> str:
    """A document with its tables made anew. Raises KeyError for a table that nobody makes."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[3]}", text)


def difference(path: Path, text: str, fresh: str) -> str:
    """What `filled` would change in the document at `path`."""
    name = str(path.relative_to(ROOT))
    lines = difflib.unified_diff(text.splitlines(), fresh.splitlines(), name, "generated", n=1)
    return "\n".join(line.rstrip("\n") for line in lines)


def errors() -> str:
    """A table of the errors that stand alone, then one for each family."""
    alone = [kind for kind in members(SottoError) if not members(kind)]
    sections = [error_table(alone)]
    for family in filter(members, members(SottoError)):
        raised = [kind for kind in (family, *members(family)) if kind.code]
        sections.append(f"### {summary(family).rstrip('.')}\n\n{error_table(raised)}")
    return "\n".join(sections)


def members(family: type[SottoError]) -> list[type[SottoError]]:
    """The classes right below `family` in the tree, in the order they are written in."""
    return [kind for kind in family.__subclasses__() if kind.__module__ == SottoError.__module__]


def error_table(kinds: Iterable[type[SottoError]]) -> str:
    """A table of error classes that have codes."""
    rows = (
        (f"`{kind.code}`", "yes" if kind.retryable else "no", summary(kind), kind.remedy)
        for kind in kinds
    )
    return table(("Code", "Retryable", "Meaning", "What to do"), rows)


def summary(kind: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


class Field(NamedTuple):
    """One field of a struct: its name, what it takes, and what it means."""

    name: str
    kind: str
    nullable: bool
    allowed: str
    default: Any
    meaning: str
    nested: type[msgspec.Struct] | None


def fields(struct: type[msgspec.Struct]) -> Iterator[Field]:
    """The fields of `struct` in the order they are written in."""
    for info in msgspec.structs.fields(struct):
        hint, metas = unwrapped(info.type)
        kind, inner = unwrapped(given(hint))
        metas = [*metas, *inner]
        yield Field(
            name=info.encode_name,
            kind=type_name(kind),
            nullable=types.NoneType in typing.get_args(hint),
            allowed=allowed(kind, metas),
            default=default_of(info),
            meaning=next((m.description for m in metas if m.description), ""),
            nested=next((part for part in (kind, *typing.get_args(kind)) if is_struct(part)), None),
        )


def default_of(info: msgspec.structs.FieldInfo) -> Any:
    """The default of a field, made if it is one that must be made."""
    made = info.default_factory
    return info.default if made is msgspec.NODEFAULT else made()


def unwrapped(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """A type and the Metas that annotate it."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, []
    kind, *notes = typing.get_args(hint)
    return kind, [note for note in notes if isinstance(note, msgspec.Meta)]


def given(kind: Any) -> Any:
    """The type without `None` and `UNSET`, which only say that a field may be left out."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return kind
    absent = (types.NoneType, msgspec.UnsetType)
    present = tuple(part for part in typing.get_args(kind) if part not in absent)
    return typing.Union[present]  # noqa: UP007 (made at run time, from any number of types)


def is_struct(kind: Any) -> bool:
    """Is `kind` one of ours, with fields to describe?"""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def type_name(kind: Any) -> str:
    """The name of a type in the words of JSON."""
    kind, _ = unwrapped(kind)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(part) for part in parts)
    if origin is Literal:
        return " or ".join(dict.fromkeys(TYPES[type(value)] for value in parts))
    if origin in (list, tuple):
        return f"list of {type_name(parts[0])}s"
    return TYPES.get(kind, "object")


def allowed(kind: Any, metas: Sequence[msgspec.Meta]) -> str:
    """What a field takes beyond its type; the title of a Meta says it in words."""
    if typing.get_origin(kind) is Literal:
        return ", ".join(code(value) for value in typing.get_args(kind))
    bounds = {
        name: getattr(meta, name)
        for meta in metas
        for name in ("gt", "ge", "lt", "le", "title")
        if getattr(meta, name) is not None
    }
    if "title" in bounds:
        return str(bounds["title"])
    if "ge" in bounds and "le" in bounds:
        return f"{bounds['ge']:g} to {bounds['le']:g}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return ", ".join(f"{words[name]} {bound:g}" for name, bound in bounds.items())


def settings() -> str:
    """The table of all `SOTTO_*` variables."""
    rows = (
        (code(variable(f.name)), f.kind, f.allowed, environment_default(f), f.meaning)
        for f in fields(Settings)
    )
    return table(("Variable", "Type", "Allowed", "Default", "Meaning"), rows)


def environment_default(field: Field) -> str:
    """A setting's default as one would write it into the environment; never a secret's."""
    if field.default is None or field.name in SECRETS:
        return "unset"
    if isinstance(field.default, tuple):
        return code(":".join(field.default))
    if isinstance(field.default, float):
        return code(f"{field.default:g}")
    if isinstance(field.default, str):
        return code(field.default.removeprefix(f"{ROOT}/"))
    return code(msgspec.json.encode(field.default).decode())


def options() -> str:
    """The tables of a job's options."""
    return asked_tables(Options, "Field")


def endpoint() -> str:
    """The tables of endpoint.toml."""
    return asked_tables(Endpoint, "Key")


def asked_tables(struct: type[msgspec.Struct], name: str) -> str:
    """The tables of what somebody writes; `name` is what a field is called there."""

    def row(field: Field) -> tuple[str, ...]:
        return field.kind, field.allowed, json_default(field), field.meaning

    return struct_tables(struct, (name, "Type", "Allowed", "Default", "Meaning"), row)


def answer() -> str:
    """The tables of a job's answer."""
    return given_tables(Answer)


def stored() -> str:
    """The table of what is answered where the answer itself is stored."""
    return given_tables(Summary)


def given_tables(struct: type[msgspec.Struct]) -> str:
    """The tables of what somebody gets."""

    def row(field: Field) -> tuple[str, ...]:
        return field.kind + (" or null" if field.nullable else ""), field.meaning

    return struct_tables(struct, ("Field", "Type", "Meaning"), row)


def struct_tables(
    struct: type[msgspec.Struct], head: Sequence[str], row: Callable[[Field], Sequence[str]]
) -> str:
    """The table of a struct, then one for each struct inside it, under the name of its field.

    `row` gives the cells of a field behind its name, the type first.
    """
    titles = {struct: ""}
    sections = []
    found = [struct]
    for current in found:
        rows = []
        for field in fields(current):
            kind, *others = row(field)
            if field.nested:
                if field.nested not in titles:
                    titles[field.nested] = field.name
                    found.append(field.nested)
                kind = re.sub("objects?", rf"[\g<0>](#{titles[field.nested]})", kind)
            rows.append((code(field.name), kind, *others))
        title = f"### `{titles[current]}`\n\n{summary(current)}\n\n" if titles[current] else ""
        sections.append(title + table(head, rows))
    return "\n".join(sections)


def json_default(field: Field) -> str:
    """An option's default as one would write it into a job."""
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default is None:
        return "not given"
    if field.nested:
        return code("{}")
    return code(msgspec.json.encode(field.default).decode())


def gpu_memory() -> str:
    """The table of what each model takes of a GPU."""
    return table(memory.GPU_HEAD, memory.gpu_rows())


def cpu_memory() -> str:
    """The table of what each model takes of a CPU's memory."""
    return table(memory.CPU_HEAD, memory.cpu_rows())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def cell(text: str) -> str:
    """`text` without what would end a cell of a table."""
    return " ".join(text.replace("|", r"\|").split())


def code(value: object) -> str:
    """`value` as Markdown shows code."""
    return f"`{value}`"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "errors": errors,
    "settings": settings,
    "options": options,
    "answer": answer,
    "stored": stored,
    "endpoint": endpoint,
    "gpu_memory": gpu_memory,
    "cpu_memory": cpu_memory,
}


if __name__ == "__main__":
    sys.exit(main())
