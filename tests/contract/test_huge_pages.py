"""Wherever we start Sotto, its memory comes in the pages that it was measured with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sotto.engine.arena import HUGE_PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/modal_app.py"])
def test_an_image_asks_for_huge_pages(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r'GLIBC_TUNABLES(?:=|": ")([\w.=]+)', text) == [HUGE_PAGES]
