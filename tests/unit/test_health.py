"""Whether a worker is fit to take jobs, and how many."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from sotto.engine.base import Engine
from sotto.engine.fake import FakeEngine
from sotto.errors import UnknownModel
from sotto.settings import Settings
from sotto.worker import health
from sotto.worker.health import Unfit

GB = 10**9


def loaded(engine: Engine) -> Future[Engine]:
    future: Future[Engine] = Future()
    future.set_result(engine)
    return future


def failed(error: BaseException) -> Future[Engine]:
    future: Future[Engine] = Future()
    future.set_exception(error)
    return future


def check(name: str, loading: Future[Engine], **settings: Any) -> None:
    """Run the one check of this name."""
    (found,) = (one for one in health.checks(Settings(**settings), loading) if one.__name__ == name)
    found()


# The disk


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"no audio can be written to .*lost: No such file"):
        check("disk", loaded(FakeEngine()), temp_dir=str(tmp_path / "lost"))


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unfit, match="no audio can be written to"):
        check("disk", loaded(FakeEngine()), temp_dir=str(tmp_path / "file"))


def test_a_disk_without_room_for_one_audio_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=r"bytes free, .* lower SOTTO_MAX_AUDIO_BYTES"):
        check("disk", loaded(FakeEngine()), temp_dir=str(tmp_path), max_audio_bytes=10**18)


def test_a_disk_with_room_passes_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    check("disk", loaded(FakeEngine()), temp_dir=str(tmp_path), max_audio_bytes=1)
    assert list(tmp_path.iterdir()) == []


# The model and its device


def test_a_model_that_cannot_be_loaded_is_told_with_its_own_error() -> None:
    with pytest.raises(UnknownModel, match="large-v9"):
        check("model", failed(UnknownModel("model: 'large-v9' is not here")))


def test_a_model_that_is_warm_passes() -> None:
    assert check("model", loaded(FakeEngine())) is None


def test_a_gpu_that_stands_idle_beside_a_cpu_at_work_is_told(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    with pytest.raises(Unfit, match="SOTTO_DEVICE=cpu does without it"):
        health.check_device("cpu", devices=tmp_path)


@pytest.mark.parametrize(
    ("used", "files"),
    [("cuda", ["nvidia0", "nvidiactl"]), ("cpu", []), ("cpu", ["nvidiactl", "nvidia-uvm"])],
)
def test_a_device_that_is_the_best_there_is_passes(
    tmp_path: Path, used: str, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert health.check_device(used, devices=tmp_path) is None


@pytest.mark.parametrize("settings", [{"device": "cpu"}, {"engine": "fake"}])
def test_a_cpu_that_the_operator_chose_passes_wherever_it_is(settings: dict[str, str]) -> None:
    assert check("device", failed(AssertionError("not asked for")), **settings) is None


def test_the_disk_is_looked_at_before_the_model_is_waited_for() -> None:
    names = [one.__name__ for one in health.checks(Settings(), loaded(FakeEngine()))]
    assert names == ["disk", "model", "device"]


# How many jobs at once


def cuda(threads: int = 1) -> FakeEngine:
    return FakeEngine(device="cuda", batch_limit=16, threads=threads)


@pytest.mark.parametrize(
    ("engine", "free_bytes", "jobs"),
    [
        (FakeEngine(threads=1), None, 8),
        (FakeEngine(threads=2), None, 8),
        (FakeEngine(threads=16), None, 64),
        (cuda(), None, 32),
        (cuda(), 70 * GB, 32),
        (cuda(), 11 * GB, 32),
        (cuda(), 8 * GB, 24),
        (cuda(), 1 * GB, 8),
        (cuda(), 0, 8),
        (cuda(threads=2), 70 * GB, 48),
    ],
)
def test_jobs_are_as_many_as_fill_the_next_call_while_one_runs(
    engine: Engine, free_bytes: int | None, jobs: int
) -> None:
    assert health.jobs_at_once(engine, free_bytes) == jobs


def test_a_worker_whose_model_fails_has_a_number_of_jobs_nevertheless() -> None:
    assert health.concurrency(failed(UnknownModel("not here"))) == 8
    assert health.concurrency(loaded(FakeEngine(threads=4))) == 16
