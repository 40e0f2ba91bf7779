"""A device that jobs share: how long each takes, alone and with others."""

from __future__ import annotations

import pytest

from sotto.endpoint.simulate.given import JOBS_AT_ONCE
from sotto.endpoint.simulate.refusal import SimulationError
from sotto.endpoint.simulate.service import ALONE, Device, Service, batching
from sotto.engine.devices import CUDA
from sotto.engine.fake import FakeEngine
from sotto.worker.health import jobs_at_once


def device(rtfx: float = 10, points: str | None = None, job_s: float = 0) -> Device:
    known = ALONE if points is None else batching(points)
    service = Service(rtfx, job_s, known, cold_start_s=0, concurrency=8)
    return Device(service, service.speeds())


def ends(worker: Device) -> list[tuple[int, float]]:
    """Every job that it has, with the time of its end."""
    found = []
    while worker:
        end_s = worker.next_s()
        found.append((worker.end(end_s), round(end_s, 9)))
    return found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not WINDOWS=SHARE"),
        ("1", "'1' is not WINDOWS=SHARE"),
        ("1=x", "'1=x' is not WINDOWS=SHARE"),
        ("1.5=1", "'1.5=1' is not WINDOWS=SHARE"),
        ("1=0.5,", "'' is not WINDOWS=SHARE"),
        ("0=0.5,8=1", "from 1 to 4096"),
        ("-1=0.5,8=1", "from 1 to 4096"),
        ("1=0.5,9999=1", "from 1 to 4096"),
        ("8=0.5,8=1", "once"),
        ("1=0,8=1", "above 0"),
        ("1=-1,8=1", "above 0"),
        ("1=nan,8=1", "above 0"),
        ("1=0.5,8=nan", "above 0"),
        ("1=0.5", "end with 1"),
        ("1=0.5,8=2", "end with 1"),
        ("1=1,8=0.5", "rise"),
    ],
)
def test_points_that_make_no_sense_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SimulationError, match="--batching: .*" + reason):
        batching(text)


def test_points_are_taken_in_any_order_and_speeds_lie_between_them() -> None:
    points = batching(" 4=1, 2=0.5")
    assert points == ((2, 0.5), (4, 1.0))
    assert Service(10, 0, points, 0, 1).speeds() == (0.0, 0.5, 0.5, 0.75, 1.0)


def test_a_job_alone_takes_its_audio_at_full_speed_and_its_own_cost() -> None:
    worker = device(rtfx=10, job_s=0.5)
    worker.add(0, 20.0, now_s=100.0)
    assert ends(worker) == [(0, 102.5)]


def test_two_jobs_get_half_each_until_the_shorter_has_ended() -> None:
    worker = device(rtfx=10)
    worker.add(0, 40.0, now_s=0.0)
    worker.add(1, 10.0, now_s=0.0)
    assert ends(worker) == [(1, 2.0), (0, 5.0)]


def test_a_job_that_comes_later_slows_the_one_that_is_there() -> None:
    worker = device(rtfx=10)
    worker.add(0, 30.0, now_s=0.0)
    worker.add(1, 20.0, now_s=2.0)
    assert ends(worker) == [(0, 4.0), (1, 5.0)]


def test_short_jobs_gain_by_each_other_and_a_long_one_has_full_batches_by_itself() -> None:
    alone, together, long = (device(rtfx=10, points="1=0.25,4=1") for _ in range(3))
    alone.add(0, 10.0, now_s=0.0)
    assert ends(alone) == [(0, 4.0)]
    for job in range(4):
        together.add(job, 10.0, now_s=0.0)
    end_s = [end_s for _, end_s in ends(together)]
    assert end_s == [4.0] * 4
    long.add(0, 120.0, now_s=0.0)
    assert ends(long) == [(0, 12.0)]


def test_a_device_that_stood_idle_owes_nothing() -> None:
    worker = device(rtfx=10)
    worker.add(0, 10.0, now_s=0.0)
    worker.end(worker.next_s())
    worker.add(1, 10.0, now_s=1000.0)
    assert ends(worker) == [(1, 1001.0)]
    assert len(worker) == 0


def test_a_job_without_audio_or_cost_ends_at_once() -> None:
    worker = device()
    worker.add(0, 0.0, now_s=5.0)
    assert ends(worker) == [(0, 5.0)]


def test_a_worker_that_is_not_told_takes_what_one_on_a_gpu_takes() -> None:
    engine = FakeEngine(device="cuda", batch_limit=CUDA.decode, threads=CUDA.threads)
    assert jobs_at_once(engine, None) == JOBS_AT_ONCE
