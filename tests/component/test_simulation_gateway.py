"""The simulation against the real thing: 200 jobs through the gateway and worker processes.

The engine is the fake one with a cost, so that the device is always free for it; what it costs, and
what a cold start takes, is measured in the same run, on the machine as loaded as it is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from tests.desk import ROOT, Desk, by_delay, desk
from tests.sound import wav

from sotto.endpoint.simulate.service import Service, checked
from sotto.endpoint.simulate.simulation import simulate
from sotto.endpoint.simulate.target import quantile
from sotto.endpoint.simulate.trace import Trace
from sotto.gateway.job import Job, Order, State
from sotto.gateway.pool import Patience

CONCURRENCY = 4
WORKER = f"""
from functools import partial
from sotto import engines
from sotto.worker.serve import main

cost_s = lambda rows: 0.18 + 0.18 * rows
engines.FakeEngine = partial(engines.FakeEngine, batch_limit={CONCURRENCY}, cost_s=cost_s)
main({str(ROOT / "handler.py")!r})
"""
"""A worker whose batches of four take 2.5 times as long as one window."""
SHORT_S, LONG_S = 5.0, 80.0
BURSTS, JOBS_A_BURST, BURST_S, PAUSE_S = 2, 100, 14.0, 4.0
IN_FLIGHT, FULL = (1, 2, CONCURRENCY), 2 * CONCURRENCY
"""Windows in flight for which the speed is measured, and those that surely fill all batches."""
ENDPOINT = by_delay(0, 2, idle_timeout_s=2.0)
PATIENT = Patience(start_s=60.0, heed_s=5.0, stop_s=30.0)
HANG_S = 120.0


@dataclass(frozen=True)
class Sounds:
    """Files of noise by their length."""

    folder: Path

    def order(self, length_s: float) -> Order:
        path = self.folder / f"{length_s:g}.wav"
        if not path.exists():
            noise = np.random.default_rng(0).normal(0, 0.1, round(16_000 * length_s))
            path.write_bytes(wav(noise.clip(-1, 1)))
        return Order({"audio_path": str(path), "enable_vad": False})


async def closed(opened: Desk, orders: Sequence[Order], *, in_flight: int) -> float:
    """Seconds for each of the orders, so many of them in flight all the time."""
    left = iter(orders)

    async def client() -> list[Job]:
        return [await opened.end(opened.submit(order), HANG_S) for order in left]

    done = [*itertools.chain(*await asyncio.gather(*(client() for _ in range(in_flight))))]
    ends_s = [job.finished_s or 0.0 for job in done]
    return (max(ends_s) - min(job.started_s or 0.0 for job in done)) / len(orders)


async def calibrated(opened: Desk, sounds: Sounds) -> Service:
    """What one worker can do, but for its cold start.

    Long jobs have full batches by themselves, and in the mix short ones have them too: what a job
    costs follows from the two. Short jobs alone then show the speed with few windows in flight.
    """
    short, long = sounds.order(SHORT_S), sounds.order(LONG_S)
    await opened.end(opened.submit(short), HANG_S)
    long_s = await closed(opened, [long] * 12, in_flight=CONCURRENCY)
    mix = [short, short, long, short, short, long, short, short, long, short] * 2
    mixed_s = await closed(opened, mix, in_flight=CONCURRENCY)
    share = mix.count(short) / len(mix)
    short_s = (mixed_s - (1 - share) * long_s) / share
    rtfx = (LONG_S - SHORT_S) / (long_s - short_s)
    points = {
        number: short_s / await closed(opened, [short] * 6 * number, in_flight=number)
        for number in IN_FLIGHT
    }
    shares = (min(1.0, share) for share in itertools.accumulate(points.values(), max))
    return Service(
        rtfx=rtfx,
        job_s=max(0.0, short_s - SHORT_S / rtfx),
        batching=checked([*zip(points, shares, strict=True), (FULL, 1.0)]),
        cold_start_s=0.0,
        concurrency=CONCURRENCY,
    )


def burst(number: int) -> list[tuple[float, float]]:
    """When each job of a burst comes, and its length."""
    dice = random.Random(number)
    return sorted(
        (dice.uniform(0, BURST_S), dice.choices((SHORT_S, LONG_S), (7, 3))[0])
        for _ in range(JOBS_A_BURST)
    )


async def replayed(opened: Desk, sounds: Sounds) -> tuple[list[Job], list[float]]:
    """The jobs, all ended, and their lengths.

    Between bursts all workers go, and so long a pause follows that they have gone in the simulation
    too: each burst begins with a cold start, however slow the machine is.
    """
    loop = asyncio.get_running_loop()
    jobs, lengths_s = [], []
    for number in range(BURSTS):
        begun_s = loop.time()
        for at_s, length_s in burst(number):
            await asyncio.sleep(begun_s + at_s - loop.time())
            jobs.append(opened.submit(sounds.order(length_s)))
            lengths_s.append(length_s)
        for job in jobs:
            assert (await opened.end(job, HANG_S)).state is State.COMPLETED
        await opened.until(lambda: not opened.processes())
        await asyncio.sleep(PAUSE_S)
    return jobs, lengths_s


def cold_starts_s(log: str) -> list[float]:
    return [float(found) for found in re.findall(r"ready after ([0-9.]+) s", log)]


@pytest.mark.timeout(420)
def test_two_hundred_real_jobs_wait_as_long_as_the_simulation_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    caplog.set_level(logging.INFO, "sotto.gateway")
    sounds = Sounds(tmp_path)

    async def run() -> tuple[Service, list[Job], list[float]]:
        environ = {
            "SOTTO_ENGINE": "fake",
            "SOTTO_CONCURRENCY": str(CONCURRENCY),
            "SOTTO_AUDIO_ROOTS": str(tmp_path),
        }
        async with desk((sys.executable, "-c", WORKER), ENDPOINT, PATIENT, environ) as opened:
            service = await calibrated(opened, sounds)
            await opened.until(lambda: not opened.processes())
            caplog.clear()
            return service, *await replayed(opened, sounds)

    service, jobs, lengths_s = asyncio.run(run())
    starts_s = cold_starts_s(caplog.text)
    service = replace(service, cold_start_s=mean(starts_s))
    first_s = jobs[0].submitted_s
    trace = Trace([job.submitted_s - first_s for job in jobs], lengths_s, days=1, told="")
    outcome = simulate(trace, ENDPOINT, service)

    assert len(jobs) == 200
    waits_s = [(job.started_s or 0.0) - job.queued_s for job in jobs]
    totals_s = [(job.finished_s or 0.0) - job.queued_s for job in jobs]
    told = [
        f"{service}",
        f"{len(starts_s)} starts, {outcome.starts} simulated; {min(starts_s):.2f} to "
        f"{max(starts_s):.2f} s each",
        *compared("wait", waits_s, outcome.waits_s),
        *compared("total", totals_s, outcome.totals_s),
    ]
    record_property("compared", told)
    sys.stdout.write("\n".join(["", *told, ""]))
    for percent in (50, 95):
        real_s = quantile(sorted(waits_s), percent)
        simulated_s = quantile(sorted(outcome.waits_s), percent)
        assert real_s > 0.5, "the jobs hardly waited, which proves nothing"
        assert abs(simulated_s - real_s) <= max(0.5, 0.2 * real_s), told


def compared(name: str, real_s: Sequence[float], simulated_s: Sequence[float]) -> list[str]:
    return [
        f"{name} p{percent}: {quantile(sorted(real_s), percent):.2f} s real, "
        f"{quantile(sorted(simulated_s), percent):.2f} s simulated"
        for percent in (50, 95, 99)
    ]
