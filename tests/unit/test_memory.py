"""What is known of the memory of a device."""

from __future__ import annotations

from mmap import PAGESIZE, mmap
from pathlib import Path

import pytest

from sotto.engine import memory

GIB = 1024**3


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose files about memory lie in the folder; it tells nothing as yet."""
    monkeypatch.setattr(memory, "STATM", tmp_path / "statm")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "limit2", tmp_path / "limit1"))
    return tmp_path


def test_a_machine_without_a_driver_knows_nothing_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "DRIVER", "libcuda-that-is-nowhere.so.1")
    memory._driver.cache_clear()
    memory._context.cache_clear()
    assert memory.gpu() is None
    assert memory.capability() is None
    assert memory.used_bytes("cuda") is None
    assert memory.free_bytes("cuda") is None
    memory._driver.cache_clear()
    memory._context.cache_clear()


def test_a_machine_that_does_not_tell_of_its_processes_knows_nothing_of_ours(
    machine: Path,
) -> None:
    assert memory.used_bytes("cpu") is None
    for text in ("", "12", "12 many"):
        (machine / "statm").write_text(text)
        assert memory.used_bytes("cpu") is None


def test_a_machine_that_does_not_tell_what_is_free_is_not_guessed_at(machine: Path) -> None:
    assert memory.free_bytes("cpu") is None
    for text in ("", "MemFree: 12 kB\n", "MemAvailable:\n", "MemAvailable: much kB\n"):
        (machine / "meminfo").write_text(text)
        assert memory.free_bytes("cpu") is None


def test_without_a_container_all_that_is_available_is_free(machine: Path) -> None:
    (machine / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:   3 kB\n")
    (machine / "limit2").write_text("max\n")
    assert memory.free_bytes("cpu") == 3 * 1024


@pytest.mark.parametrize("file", ["limit1", "limit2"])
def test_a_container_may_hold_less_than_the_machine_has(machine: Path, file: str) -> None:
    (machine / "meminfo").write_text(f"MemAvailable: {64 * GIB // 1024} kB\n")
    (machine / "statm").write_text("1000 256 1 1 0 1 0\n")
    (machine / file).write_text(f"{2 * GIB}\n")
    held = memory.used_bytes("cpu")
    assert held is not None
    assert memory.free_bytes("cpu") == 2 * GIB - held


def test_this_machine_tells_what_is_free() -> None:
    free = memory.free_bytes("cpu")
    assert free is not None
    assert free > 0


def test_what_this_process_takes_shows() -> None:
    before = memory.used_bytes("cpu")
    assert before is not None
    with mmap(-1, 100_000_000) as held:  # mapped: the pool may have as much at hand
        for page in range(0, len(held), PAGESIZE):
            held[page] = 1
        after = memory.used_bytes("cpu")
        assert after is not None
        assert after - before > 0.8 * len(held)


@pytest.mark.gpu
def test_a_gpu_tells_what_is_used_what_is_free_and_what_it_is_capable_of() -> None:
    from sotto.engine import whisper

    if not whisper.cuda_devices():
        pytest.skip("no CUDA device")
    found = memory.gpu()
    assert found is not None
    assert found.used > 0
    assert found.free == memory.free_bytes("cuda") > 0
    capability = memory.capability()
    assert capability is not None
    assert float(capability) > 5
