"""Prices of GPUs: which of them counts, and what is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sotto.endpoint.api import ApiError
from sotto.endpoint.simulate.prices import KEPT, Gpu, Prices, price, prices
from sotto.endpoint.simulate.refusal import SimulationError

KNOWN = Prices(
    "2026-11-25",
    (
        Gpu("NVIDIA A40", "AMPERE_48", 1.22),
        Gpu("NVIDIA RTX A6000", "AMPERE_48", 1.25),
        Gpu("NVIDIA GeForce RTX 4090", "ADA_24", 1.1),
    ),
)


@pytest.mark.parametrize("name", ["ADA_24", "ada_24 ", "NVIDIA GeForce RTX 4090"])
def test_a_gpu_is_found_by_its_pool_or_its_name(name: str) -> None:
    found = price(name, KNOWN)
    assert found.usd_an_hour == 1.1
    assert found.told == "NVIDIA GeForce RTX 4090, ADA_24, catalogue of 2026-11-25"


def test_of_a_pool_of_several_the_dearest_counts() -> None:
    assert price("AMPERE_48", KNOWN).told.startswith("NVIDIA RTX A6000,")
    assert price("NVIDIA A40", KNOWN).usd_an_hour == 1.22


def test_a_gpu_that_the_endpoint_excludes_does_not_count() -> None:
    excluded = ("NVIDIA RTX A6000",)
    assert price("AMPERE_48", KNOWN, excluded).told.startswith("NVIDIA A40,")
    assert price("NVIDIA RTX A6000", KNOWN, excluded).usd_an_hour == 1.25
    with pytest.raises(SimulationError, match="has no 'ADA_24'"):
        price("ADA_24", KNOWN, ("NVIDIA GeForce RTX 4090",))


@pytest.mark.parametrize("name", ["", "ADA", "RTX 4090", "x" * 200])
def test_a_gpu_that_is_not_there_is_refused_with_the_pools_there_are(name: str) -> None:
    with pytest.raises(SimulationError, match=r"2026-11-25 .* pools there are: ADA_24, AMPERE_48;"):
        price(name, KNOWN)


def test_kept_prices_need_neither_a_key_nor_the_network(tmp_path: Path) -> None:
    path = tmp_path / "sotto" / KEPT
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(KNOWN))
    assert prices({"XDG_CACHE_HOME": str(tmp_path)}, refresh=False) == KNOWN


@pytest.mark.parametrize(
    "kept", [b"", b"null", b"\xff", b'{"day": "2026-11-25"}', b'{"day": 1, "gpus": []}', None]
)
def test_prices_that_cannot_be_read_are_asked_for_and_need_a_key(
    tmp_path: Path, kept: bytes | None
) -> None:
    path = tmp_path / "sotto" / KEPT
    path.parent.mkdir()
    if kept is not None:
        path.write_bytes(kept)
    with pytest.raises(ApiError, match="RUNPOD_API_KEY: not set"):
        prices({"XDG_CACHE_HOME": str(tmp_path)}, refresh=False)
