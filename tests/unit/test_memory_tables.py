"""The tables of memory say what a worker goes by."""

from __future__ import annotations

import pytest
from tools.memory import GPU_HEAD, MODELS, cpu_rows, gpu_rows, smallest_gpu

from sotto.models import catalogue

GIB = 1024**3


def test_every_model_is_there_but_the_english_twins() -> None:
    twins = {name for name in catalogue.load() if name.endswith(".en")}
    assert {f"`{name}`" for name in catalogue.load()} - {f"`{name}`" for name in twins} == {
        row[0] for row in gpu_rows()
    }
    assert [row[0] for row in cpu_rows()] == [f"`{name}`" for name in MODELS]


def test_every_row_fills_its_columns() -> None:
    assert {len(row) for row in gpu_rows()} == {len(GPU_HEAD)}


@pytest.mark.parametrize(
    ("need", "gpu"),
    [
        (0, "16 GB"),
        (15 * GIB, "16 GB"),
        (15 * GIB + 1, "24 GB"),
        (140 * GIB, "141 GB"),
        (140 * GIB + 1, "none"),
    ],
)
def test_a_gpu_has_room_for_cuda_itself_too(need: int, gpu: str) -> None:
    assert smallest_gpu(need) == gpu
