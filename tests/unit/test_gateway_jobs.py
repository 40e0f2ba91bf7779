"""The gateway's jobs: who holds them, what time does to them, and what is refused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from sotto.gateway.job import ASYNC_RETENTION_S, SYNC_RETENTION_S, Job, Order, Policy, State
from sotto.gateway.jobs import LOST_WORKERS, Jobs, Refused, UnknownJob
from sotto.gateway.workers import SILENT_S, Census

PATIENCE_S = 20.0
Result = TypeVar("Result")


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ended() -> list[tuple[str, State]]:
    """The jobs that were told to have ended, with their state."""
    return []


@pytest.fixture
def jobs(clock: Clock, ended: list[tuple[str, State]]) -> Jobs:
    return Jobs(clock, ended=lambda job: ended.append((job.id, job.state)))


def run(awaitable: Awaitable[Result]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(PATIENCE_S):
            return await awaitable

    return asyncio.run(bounded())


def submit(jobs: Jobs, *, sync: bool = False, **policy: object) -> Job:
    return jobs.submit(Order({"audio": "x"}, Policy(**policy), sync=sync))


def take(jobs: Jobs, worker_id: str = "w", count: int = 1) -> list[Job]:
    return run(jobs.take(worker_id, count, wait_s=0))


def running(jobs: Jobs, worker_id: str = "w", **policy: object) -> Job:
    job = submit(jobs, **policy)
    assert take(jobs, worker_id) == [job]
    return job


# What is refused


def test_a_job_that_does_not_exist_is_unknown_to_everyone(jobs: Jobs) -> None:
    for ask in (
        lambda: jobs.get("no"),
        lambda: jobs.cancel("no"),
        lambda: jobs.retry("no"),
        lambda: jobs.finish("w", "no", output=1, error=None),
        lambda: jobs.progress("w", "no", 1),
        lambda: jobs.add_to_stream("w", "no", 1),
    ):
        with pytest.raises(UnknownJob, match="'no' does not exist"):
            ask()


@pytest.mark.parametrize("held_by", [None, "other"])
def test_what_a_worker_says_of_a_job_it_does_not_hold_is_refused(
    jobs: Jobs, held_by: str | None
) -> None:
    job = submit(jobs)
    if held_by:
        take(jobs, held_by)
    before = job.status()
    for say in (
        lambda: jobs.finish("w", job.id, output="late", error=None),
        lambda: jobs.progress("w", job.id, "late"),
        lambda: jobs.add_to_stream("w", job.id, "late"),
    ):
        with pytest.raises(Refused):
            say()
    assert job.status() == before
    assert job.stream == []


def test_nothing_overwrites_a_result(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.finish("w", job.id, output="answer", error=None)
    for say in (
        lambda: jobs.finish("w", job.id, output="another", error="failed"),
        lambda: jobs.progress("w", job.id, {"stage": "decode"}),
        lambda: jobs.add_to_stream("w", job.id, "more"),
    ):
        with pytest.raises(Refused, match="COMPLETED"):
            say()
    assert (job.state, job.output, job.stream) == (State.COMPLETED, "answer", [])


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "CANCELLED"])
def test_only_a_failed_job_is_retried(jobs: Jobs, state: str) -> None:
    job = submit(jobs)
    if state in ("IN_PROGRESS", "COMPLETED"):
        take(jobs)
    if state == "COMPLETED":
        jobs.finish("w", job.id, output=1, error=None)
    if state == "CANCELLED":
        jobs.cancel(job.id)
    with pytest.raises(Refused, match=f"is {state}; only FAILED or TIMED_OUT can be retried"):
        jobs.retry(job.id)
    assert job.state == state


# A job's life


def test_ids_tell_synchronous_jobs_from_others_and_are_never_the_same(jobs: Jobs) -> None:
    ids = [submit(jobs, sync=sync).id for sync in (False, True) for _ in range(50)]
    assert len(set(ids)) == 100
    for number, job_id in enumerate(ids):
        assert job_id.startswith("sync-") == (number >= 50)
        uuid.UUID(job_id.removeprefix("sync-").removesuffix("-u1"))


def test_a_job_is_queued_taken_and_completed_and_its_times_are_told(
    jobs: Jobs, clock: Clock, ended: list[tuple[str, State]]
) -> None:
    job = submit(jobs)
    assert (job.state, jobs.in_queue(), jobs.waiting()) == (State.IN_QUEUE, 1, 1)
    clock.now_s += 1.5
    assert jobs.oldest_wait_s() == 1.5
    take(jobs)
    assert (job.state, jobs.in_queue(), jobs.in_progress()) == (State.IN_PROGRESS, 0, 1)
    assert jobs.running("w") == [job.id]
    clock.now_s += 0.25
    jobs.finish("w", job.id, output={"text": "x"}, error=None)
    status = job.status()
    assert (status.delay_time, status.execution_time) == (1500, 250)
    assert (status.output, status.worker_id) == ({"text": "x"}, "w")
    assert (jobs.completed, jobs.failed, jobs.in_progress()) == (1, 0, 0)
    assert ended == [(job.id, State.COMPLETED)]


@pytest.mark.parametrize("error", ["it broke", {"message": "no", "code": None}])
def test_an_error_is_a_failure(jobs: Jobs, error: object) -> None:
    job = running(jobs)
    jobs.finish("w", job.id, output={"code": "internal"}, error=error)
    assert (job.state, job.error, job.output) == (State.FAILED, error, {"code": "internal"})
    assert (jobs.completed, jobs.failed) == (0, 1)


@pytest.mark.parametrize("error", [None, "", {}])
def test_an_empty_error_is_none(jobs: Jobs, error: object) -> None:
    job = running(jobs)
    jobs.finish("w", job.id, output=1, error=error)
    assert job.state is State.COMPLETED


def test_progress_is_the_output_until_there_is_a_result(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.progress("w", job.id, {"stage": "decode"})
    assert (job.state, job.output) == (State.IN_PROGRESS, {"stage": "decode"})
    jobs.cancel(job.id)
    assert job.status().output != {"stage": "decode"}


def test_a_retried_job_starts_anew_under_its_id_at_the_end_of_the_queue(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.add_to_stream("w", job.id, "part")
    jobs.finish("w", job.id, output={"code": "x"}, error="it broke")
    other = submit(jobs)
    assert jobs.retry(job.id) is job
    assert jobs.retried == 1
    fresh = jobs.submit(job.order)
    assert job.status() == msgspec.structs.replace(fresh.status(), id=job.id)
    assert job.stream == []
    assert take(jobs, count=5) == [other, job, fresh]


@pytest.mark.parametrize("how", ["completed", "cancelled", "failed", "timed out"])
def test_the_input_of_an_ended_job_is_kept_only_where_it_can_be_retried(
    jobs: Jobs, clock: Clock, how: str
) -> None:
    job = running(jobs, execution_timeout_s=10)
    if how == "cancelled":
        jobs.cancel(job.id)
    elif how == "timed out":
        clock.now_s += 10
        jobs.expire()
    else:
        jobs.finish("w", job.id, output=1, error="it broke" if how == "failed" else None)
    is_kept = how in ("failed", "timed out")
    assert job.order.input == ({"audio": "x"} if is_kept else {})


def test_purging_empties_the_queue_and_leaves_what_runs(
    jobs: Jobs, ended: list[tuple[str, State]]
) -> None:
    held = running(jobs)
    waiting = [submit(jobs) for _ in range(3)]
    assert jobs.purge() == 3
    assert held.state is State.IN_PROGRESS
    assert ended == [(job.id, State.CANCELLED) for job in waiting]
    assert take(jobs) == []
    assert jobs.purge() == 0


# Taking


def test_jobs_are_taken_in_order_and_no_more_than_asked_for(jobs: Jobs) -> None:
    first, second, third = (submit(jobs) for _ in range(3))
    assert take(jobs, "a", count=2) == [first, second]
    assert take(jobs, "b", count=2) == [third]
    assert take(jobs, "a", count=2) == []


def test_a_poll_ends_with_the_job_that_comes(jobs: Jobs) -> None:
    async def poll() -> tuple[list[Job], Job]:
        taking = asyncio.create_task(jobs.take("w", 4, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        job = submit(jobs)
        return await taking, job

    taken, job = run(poll())
    assert taken == [job]


def test_a_job_goes_to_one_of_many_polls(jobs: Jobs) -> None:
    async def poll() -> list[list[Job]]:
        polls = [asyncio.create_task(jobs.take(f"w{n}", 4, wait_s=0.3)) for n in range(5)]
        await asyncio.sleep(0)
        submit(jobs)
        return await asyncio.gather(*polls)

    assert sorted(len(taken) for taken in run(poll())) == [0, 0, 0, 0, 1]


def test_a_poll_that_was_given_up_takes_nothing(jobs: Jobs) -> None:
    async def poll() -> list[Job]:
        taking = asyncio.create_task(jobs.take("w", 1, wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        submit(jobs)
        taking.cancel()
        await asyncio.wait([taking])
        assert taking.cancelled()
        return await jobs.take("other", 1, wait_s=0)

    assert len(run(poll())) == 1


def test_what_did_not_reach_the_worker_is_first_in_the_queue_again_in_order(jobs: Jobs) -> None:
    first, second, third = (submit(jobs) for _ in range(3))
    taken = take(jobs, count=2)
    jobs.put_back("w", taken)
    assert (first.state, first.workers_lost, jobs.retried) == (State.IN_QUEUE, 0, 0)
    assert take(jobs, "other", count=3) == [first, second, third]
    jobs.put_back("w", taken)
    assert first.is_held_by("other")


@pytest.mark.parametrize("how", ["retired", "gone", "gone and back"])
def test_an_open_poll_of_a_worker_that_ends_takes_nothing(jobs: Jobs, how: str) -> None:
    async def poll() -> list[Job]:
        taking = asyncio.create_task(jobs.take("w", 1, wait_s=0.3))
        await asyncio.sleep(0)
        if how == "retired":
            jobs.workers.retire("w")
        else:
            jobs.requeue("w")
        if how == "gone and back":
            jobs.workers.expect("w")
        submit(jobs)
        return await taking

    assert run(poll()) == []
    assert jobs.in_queue() == 1


# Streaming and waiting


def test_a_stream_is_drained_and_ends_with_the_job(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.add_to_stream("w", job.id, 1)
    jobs.add_to_stream("w", job.id, None)
    assert run(jobs.stream(job, PATIENCE_S)) == [1, None]
    assert run(jobs.stream(job, 0)) == []
    jobs.add_to_stream("w", job.id, 3)
    jobs.finish("w", job.id, output=[], error=None)
    assert run(jobs.stream(job, PATIENCE_S)) == [3]
    assert run(jobs.stream(job, PATIENCE_S)) == []


def test_a_stream_waits_for_the_next_part(jobs: Jobs) -> None:
    job = running(jobs)

    async def follow() -> list[object]:
        following = asyncio.create_task(jobs.stream(job, PATIENCE_S))
        await asyncio.sleep(0)
        jobs.add_to_stream("w", job.id, "part")
        return await following

    assert run(follow()) == ["part"]


def test_waiting_for_the_end_ends_with_it_or_with_patience(jobs: Jobs) -> None:
    job = running(jobs)

    async def wait() -> bool:
        assert await jobs.end(job, 0.01) is False
        waiting = asyncio.create_task(jobs.end(job, PATIENCE_S))
        await asyncio.sleep(0)
        jobs.finish("w", job.id, output=1, error=None)
        return await waiting

    assert run(wait()) is True


# Cancelling


def test_a_waiting_job_is_cancelled_for_good(jobs: Jobs, ended: list[tuple[str, State]]) -> None:
    job = submit(jobs)
    assert jobs.cancel(job.id).state is State.CANCELLED
    assert jobs.cancel(job.id) is job
    assert take(jobs) == []
    assert ended == [(job.id, State.CANCELLED)]


def test_the_worker_of_a_cancelled_job_is_told_once(jobs: Jobs, clock: Clock) -> None:
    job = running(jobs)

    async def wait() -> list[str]:
        telling = asyncio.create_task(jobs.workers.stops("w", PATIENCE_S))
        await asyncio.sleep(0)
        jobs.cancel(job.id)
        return await telling

    assert run(wait()) == [job.id]
    assert run(jobs.workers.stops("w", 0)) == []
    assert run(jobs.workers.stops("other", 0)) == []
    with pytest.raises(Refused, match="CANCELLED"):
        jobs.finish("w", job.id, output=1, error=None)


def test_an_order_to_stop_that_is_not_fetched_grows_old(jobs: Jobs, clock: Clock) -> None:
    job = running(jobs)
    assert jobs.workers.unheeded_s("w") == 0
    jobs.cancel(job.id)
    clock.now_s += 7
    assert jobs.workers.unheeded_s("w") == 7
    assert run(jobs.workers.stops("w", 0)) == [job.id]
    assert jobs.workers.unheeded_s("w") == 0
    assert jobs.workers.unheeded_s("nobody") == 0


def test_a_retried_job_is_not_given_to_a_worker_that_must_still_stop_it(
    jobs: Jobs, clock: Clock
) -> None:
    job = running(jobs, execution_timeout_s=10)
    clock.now_s += 10
    jobs.expire()
    jobs.retry(job.id)
    assert take(jobs, "w") == []
    assert run(jobs.workers.stops("w", 0)) == [job.id]
    assert take(jobs, "w") == [job]


# Workers that are lost


def test_the_jobs_of_a_lost_worker_are_first_in_the_queue_again_in_order(jobs: Jobs) -> None:
    first, second = running(jobs), running(jobs)
    later = submit(jobs)
    jobs.add_to_stream("w", first.id, "part")
    jobs.progress("w", second.id, "half")
    jobs.requeue("w")
    assert [job.state for job in (first, second)] == [State.IN_QUEUE] * 2
    assert jobs.retried == 2
    assert [take(jobs, name, count=3) for name in "abc"] == [[first], [second], [later]]
    assert run(jobs.stream(first, 0)) == []
    assert second.output != "half"
    with pytest.raises(Refused):
        jobs.finish("w", first.id, output="late", error=None)
    assert jobs.running("w") == []


def test_losing_a_worker_that_holds_nothing_changes_no_job(jobs: Jobs) -> None:
    job = running(jobs, "other")
    jobs.requeue("w")
    assert job.is_held_by("other")


def test_a_job_that_takes_worker_after_worker_down_fails(
    jobs: Jobs, ended: list[tuple[str, State]]
) -> None:
    job = submit(jobs)
    for number in range(LOST_WORKERS):
        assert job.state is State.IN_QUEUE
        take(jobs, f"w{number}")
        jobs.requeue(f"w{number}")
    assert (job.state, job.error) == (State.FAILED, "3 workers died with this job")
    assert ended == [(job.id, State.FAILED)]
    jobs.retry(job.id)
    take(jobs)
    jobs.requeue("w")
    assert job.state is State.IN_QUEUE


def test_only_the_job_at_fault_fails_when_worker_after_worker_dies_of_it(jobs: Jobs) -> None:
    waiting = [submit(jobs) for _ in range(5)]
    culprit = waiting[2]
    for number in range(2 * len(waiting) + LOST_WORKERS):
        worker_id = f"w{number}"
        taken = take(jobs, worker_id, count=8)
        if culprit in taken:
            jobs.requeue(worker_id)
            continue
        for job in taken:
            jobs.finish(worker_id, job.id, output=1, error=None)
    assert culprit.state is State.FAILED
    assert {job.state for job in waiting if job is not culprit} == {State.COMPLETED}


def test_a_job_that_a_worker_died_with_gets_a_worker_that_holds_no_other(jobs: Jobs) -> None:
    suspect = running(jobs, "lost")
    busy = running(jobs, "w")
    jobs.requeue("lost")
    behind = submit(jobs)
    assert take(jobs, "w", count=8) == []
    jobs.finish("w", busy.id, output=1, error=None)
    assert take(jobs, "w", count=8) == [suspect]
    assert take(jobs, "w", count=8) == []
    assert take(jobs, "other", count=8) == [behind]
    jobs.finish("w", suspect.id, output=1, error=None)
    fresh = submit(jobs)
    assert take(jobs, "w", count=8) == [fresh]


def test_a_batch_stops_before_a_job_that_a_worker_died_with(jobs: Jobs) -> None:
    first, suspect = running(jobs, "w"), running(jobs, "lost")
    jobs.requeue("lost")
    jobs.put_back("w", [first])
    last = submit(jobs)
    assert [take(jobs, name, count=8) for name in "abc"] == [[first], [suspect], [last]]


def test_a_worker_that_falls_silent_is_lost(jobs: Jobs, clock: Clock) -> None:
    job = running(jobs)
    clock.now_s += SILENT_S - 1
    jobs.progress("w", job.id, "half")
    clock.now_s += SILENT_S - 1
    jobs.expire()
    assert job.is_held_by("w")
    clock.now_s += 1
    jobs.expire()
    assert job.state is State.IN_QUEUE
    assert jobs.census() == Census(0, 0, 0)


def test_a_worker_that_is_still_starting_is_not_silent(jobs: Jobs, clock: Clock) -> None:
    jobs.workers.expect("w")
    clock.now_s += 10 * SILENT_S
    jobs.expire()
    assert jobs.census() == Census(initializing=1, idle=0, running=0)


def test_the_last_words_of_a_lost_worker_do_not_bring_it_back(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.requeue("w")
    with pytest.raises(Refused):
        jobs.progress("w", job.id, "half")
    assert jobs.census() == Census(0, 0, 0)


def test_workers_are_counted_by_what_they_do(jobs: Jobs) -> None:
    jobs.workers.expect("starting")
    running(jobs, "busy")
    take(jobs, "idle")
    assert jobs.census() == Census(initializing=1, idle=1, running=1)
    assert [jobs.workers.is_ready(name) for name in ("starting", "busy", "nobody")] == [
        False,
        True,
        False,
    ]


def test_a_retired_worker_gets_nothing_and_may_finish(jobs: Jobs) -> None:
    job = running(jobs)
    jobs.workers.retire("w")
    submit(jobs)
    assert take(jobs) == []
    assert jobs.workers.is_retired("w")
    assert not jobs.workers.is_retired("nobody")
    jobs.finish("w", job.id, output=1, error=None)
    assert job.state is State.COMPLETED


# Time


def test_a_job_that_runs_too_long_times_out_and_its_worker_is_told(
    jobs: Jobs, clock: Clock, ended: list[tuple[str, State]]
) -> None:
    job = running(jobs, execution_timeout_s=10)
    waiting = submit(jobs, execution_timeout_s=10)
    clock.now_s += 9.9
    jobs.expire()
    assert job.state is State.IN_PROGRESS
    clock.now_s += 0.1
    jobs.expire()
    assert (job.state, job.error) == (State.TIMED_OUT, "the job ran for more than 10 s")
    assert job.status().execution_time == 10_000
    assert run(jobs.workers.stops("w", 0)) == [job.id]
    assert waiting.state is State.IN_QUEUE
    assert ended == [(job.id, State.TIMED_OUT)]


def test_the_time_of_a_second_run_counts_from_its_own_start(jobs: Jobs, clock: Clock) -> None:
    job = running(jobs, execution_timeout_s=10)
    clock.now_s += 9
    jobs.requeue("w")
    take(jobs, "other")
    clock.now_s += 9
    jobs.expire()
    assert job.is_held_by("other")


@pytest.mark.parametrize(
    ("sync", "retention_s"), [(True, SYNC_RETENTION_S), (False, ASYNC_RETENTION_S)]
)
def test_an_ended_job_is_forgotten_after_its_retention(
    jobs: Jobs, clock: Clock, sync: bool, retention_s: float
) -> None:
    job = submit(jobs, sync=sync)
    jobs.cancel(job.id)
    clock.now_s += retention_s - 1
    jobs.expire()
    assert jobs.get(job.id) is job
    clock.now_s += 1
    jobs.expire()
    with pytest.raises(UnknownJob):
        jobs.get(job.id)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_job_past_its_time_to_live_is_forgotten_whatever_it_does(
    jobs: Jobs, clock: Clock, is_taken: bool
) -> None:
    job = submit(jobs, ttl_s=30)
    if is_taken:
        take(jobs)
    clock.now_s += 30
    jobs.expire()
    with pytest.raises(UnknownJob):
        jobs.get(job.id)
    assert run(jobs.end(job, PATIENCE_S)) is True
    assert (jobs.in_queue(), jobs.in_progress(), take(jobs, "other")) == (0, 0, [])
    assert run(jobs.workers.stops("w", 0)) == ([job.id] if is_taken else [])


def test_expiry_goes_on_until_it_is_cancelled(jobs: Jobs, clock: Clock) -> None:
    job = submit(jobs, ttl_s=30)

    async def keep() -> bool:
        keeping = asyncio.create_task(jobs.keep_expiring(0.001))
        await asyncio.sleep(0)
        clock.now_s += 30
        has_ended = await jobs.end(job, PATIENCE_S)
        keeping.cancel()
        await asyncio.wait([keeping])
        return has_ended and keeping.cancelled()

    assert run(keep()) is True


# What a scaler reads


def test_a_job_that_a_worker_died_with_wants_one_alone_also_of_low_priority_when_others_wait(
    jobs: Jobs,
) -> None:
    running(jobs, "lost", low_priority=True)
    jobs.requeue("lost")
    assert (jobs.waiting(), jobs.alone()) == (0, 0)
    behind = submit(jobs)
    assert (jobs.waiting(), jobs.alone()) == (1, 1)
    jobs.cancel(behind.id)
    assert len(take(jobs)) == jobs.alone() == 1


def test_a_job_of_low_priority_is_not_worth_a_worker_but_is_run(jobs: Jobs, clock: Clock) -> None:
    low = submit(jobs, low_priority=True)
    clock.now_s += 5
    assert (jobs.waiting(), jobs.oldest_wait_s(), jobs.in_queue()) == (0, 0, 1)
    submit(jobs)
    clock.now_s += 2
    assert (jobs.waiting(), jobs.oldest_wait_s(), jobs.in_queue()) == (1, 2, 2)
    assert take(jobs) == [low]


def test_every_change_wakes_whoever_waits_for_one(jobs: Jobs) -> None:
    async def wakes(act: Callable[[], Result]) -> Result:
        waiting = asyncio.create_task(jobs.changed.wait(2 * PATIENCE_S))
        await asyncio.sleep(0)
        result = act()
        await waiting
        return result

    async def watch() -> Job:
        job = await wakes(lambda: submit(jobs))
        await wakes(lambda: asyncio.create_task(jobs.take("w", 1, 0)))
        await wakes(lambda: jobs.progress("w", job.id, "half"))
        await wakes(lambda: jobs.add_to_stream("w", job.id, "part"))
        await wakes(lambda: jobs.requeue("w"))
        await wakes(lambda: asyncio.create_task(jobs.take("w", 1, 0)))
        await wakes(lambda: jobs.finish("w", job.id, output=1, error="no"))
        await wakes(lambda: jobs.retry(job.id))
        await wakes(lambda: jobs.cancel(job.id))
        return job

    assert run(watch()).state is State.CANCELLED
