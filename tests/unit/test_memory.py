"""What is known of the memory of a device."""

from __future__ import annotations

import numpy as np
import pytest

from sotto.worker import memory


def test_a_machine_without_a_driver_knows_nothing_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "DRIVER", "libcuda-that-is-nowhere.so.1")
    memory._driver.cache_clear()
    assert memory.gpu() is None
    assert memory.used_bytes("cuda") is None
    memory._driver.cache_clear()


def test_a_machine_that_does_not_tell_of_its_processes_knows_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    for text in ("", "12", "12 many"):
        (tmp_path / "statm").write_text(text)
        monkeypatch.setattr(memory, "STATM", tmp_path / "statm")
        assert memory.used_bytes("cpu") is None
    monkeypatch.setattr(memory, "STATM", tmp_path / "lost")
    assert memory.used_bytes("cpu") is None


def test_what_this_process_takes_shows() -> None:
    before = memory.used_bytes("cpu")
    assert before is not None
    held = np.ones(100_000_000, np.uint8)
    after = memory.used_bytes("cpu")
    assert after is not None
    assert after - before > 0.8 * held.nbytes


@pytest.mark.gpu
def test_a_gpu_tells_what_is_used_and_what_is_free() -> None:
    from sotto.engine import whisper

    if not whisper.cuda_devices():
        pytest.skip("no CUDA device")
    found = memory.gpu()
    assert found is not None
    assert found.used > 0
    assert found.free > 0
