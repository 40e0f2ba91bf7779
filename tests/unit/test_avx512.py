"""Whether the CPU has AVX-512."""

from __future__ import annotations

from pathlib import Path

import pytest

import sotto

ALL = "fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (f"processor\t: 0\nflags\t\t: {ALL}\nvmx flags\t: vnmi\n", True),
        (f"flags\t\t: {ALL}\n\nflags\t\t: {ALL}\n", True),
        (f"flags\t\t: {ALL}\n\nflags\t\t: fpu sse2 avx2\n", False),
        (f"flags\t\t: {ALL.replace('avx512vl ', '')}\n", False),
        ("flags\t\t: fpu sse2 avx2\n", False),
        ("flags\t\t:\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("", False),
        ("\ufffd\x00", False),
    ],
    ids=["one", "two", "unequal", "part", "none", "empty", "arm", "nothing", "broken"],
)
def test_every_cpu_must_have_all_of_it(tmp_path: Path, text: str, has: bool) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(text, encoding="utf-8")
    assert sotto.has_avx512(listed) is has


def test_where_no_cpu_is_listed_there_is_none(tmp_path: Path) -> None:
    assert not sotto.has_avx512(tmp_path / "none")
