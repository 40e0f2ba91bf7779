"""Wherever we start Sotto, glibc is told what it was measured with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sotto.engine.arena import TUNABLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/modal_app.py"])
def test_an_image_sets_the_tunables(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r'GLIBC_TUNABLES(?:=|": ")([\w.=:]+)', text) == [TUNABLES]
