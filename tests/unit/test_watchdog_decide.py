"""When pods are stopped: the policy alone, on times that the tests make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotto.endpoint.watchdog.decide import Decision, Memory, Rules, Verdict, decide
from sotto.endpoint.watchdog.sight import Pod, Reading, Sight, Unknown

RULES = Rules(idle_s=900.0, alarm_s=1800.0, gpu_busy_percent=5.0)
GAP_S = RULES.longest_gap_s
EMPTY = Reading(0, 0)
UNKNOWN = Unknown("redis does not answer")
POD = Pod("a", "whisper", "RUNNING", True, False, 0.0, 0.5, "2026-11-25T08:00:00Z")
DOWN = replace(POD, status="EXITED", is_up=False, usd_an_hour=0.0)
LOCKED = replace(POD, is_locked=True)
AT_WORK = replace(POD, gpu_percent=94.0)
ALL_IDLE = Sight(EMPTY, (POD,))


def looks(*steps: tuple[float, Sight], memory: Memory | None = None) -> list[Verdict]:
    """The verdicts of looks, each so many seconds after the one before."""
    verdicts: list[Verdict] = []
    memory = memory or Memory()
    for elapsed_s, sight in steps:
        verdicts.append(decide(RULES, memory, elapsed_s, sight))
        memory = verdicts[-1].memory
    return verdicts


def last(*steps: tuple[float, Sight]) -> Verdict:
    return looks(*steps)[-1]


def idle_for(seconds: int) -> list[tuple[float, Sight]]:
    """Looks every ten seconds that see nothing but idleness."""
    return [(0.0, ALL_IDLE), *[(10.0, ALL_IDLE)] * (seconds // 10)]


# When all is idle


def test_a_pod_is_due_once_all_has_been_idle_for_long_enough() -> None:
    verdicts = looks(*idle_for(900))
    assert [verdict.decision for verdict in verdicts[:-1]] == [Decision.WAIT] * 90
    assert verdicts[-1].decision is Decision.STOP
    assert verdicts[-1].due == (POD,)
    assert verdicts[-1].reason == "no work for 900 s"
    assert verdicts[-2].reason == "no work for 890 s; pods are stopped after 900 s"


def test_it_stays_due_until_it_is_down() -> None:
    again, down = looks(*idle_for(900), (60, ALL_IDLE), (60, Sight(EMPTY, (DOWN,))))[-2:]
    assert again.due == (POD,)
    assert (down.decision, down.due) == (Decision.NOTHING, ())


@pytest.mark.parametrize(
    "sight",
    [Sight(UNKNOWN, (POD,)), Sight(EMPTY, (), ("the API fails",)), Sight(Reading(1, 0), (POD,))],
)
def test_it_is_due_no_more_once_that_is_not_certain(sight: Sight) -> None:
    assert last(*idle_for(900), (1, sight)).due == ()


def test_a_pod_that_is_seen_for_the_first_time_has_its_own_time() -> None:
    """Somebody started it just now, and may be about to fill the queue."""
    new = replace(POD, pod_id="b")
    both = Sight(EMPTY, (POD, new))
    assert last(*idle_for(890), (10, both)).due == (POD,)
    assert last(*idle_for(10), *[(100, both)] * 10).due == (POD, new)


@pytest.mark.parametrize("between", [(), ((60.0, Sight(EMPTY, (DOWN,))),)], ids=["unseen", "seen"])
def test_a_pod_that_was_started_again_begins_anew(between: tuple[tuple[float, Sight], ...]) -> None:
    again = replace(POD, started_at="2026-11-25T09:00:00Z" if not between else POD.started_at)
    verdict = last(*idle_for(890), *between, (60, Sight(EMPTY, (again,))))
    assert verdict.due == ()
    assert verdict.watched[0].clock.idle_s == 0


def test_a_pod_that_still_starts_costs_money_too() -> None:
    starting = replace(POD, status="PROVISIONING", started_at=None, gpu_percent=None)
    steps = [(100.0, Sight(EMPTY, (starting,)))] * 10
    assert last(*steps).due == (starting,)


def test_a_locked_pod_is_not_due_and_named() -> None:
    verdict = last(*[(100.0, Sight(EMPTY, (LOCKED,)))] * 10)
    assert (verdict.decision, verdict.due) == (Decision.LOCKED, ())
    assert verdict.notes == ("a is locked and refuses to be stopped; unlock it",)


def test_a_locked_pod_keeps_no_other_from_being_stopped() -> None:
    other = replace(POD, pod_id="b")
    verdict = last(*[(100.0, Sight(EMPTY, (LOCKED, other)))] * 10)
    assert (verdict.decision, verdict.due) == (Decision.STOP, (other,))


def test_a_pod_that_cannot_be_stopped_but_costs_money_is_named() -> None:
    broken = replace(DOWN, status="ERROR", usd_an_hour=0.5)
    verdict = last((0, Sight(EMPTY, (broken,))))
    assert verdict.decision is Decision.NOTHING
    (note,) = verdict.notes
    assert note.startswith("a is ERROR and costs 0.5 USD an hour")


# Work


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (Reading(2, 0), "2 waiting, 0 in progress"),
        (Reading(0, 1), "0 waiting, 1 in progress"),
        (Reading(0, 0, (8, 0)), "work came and went since the last look"),
    ],
)
def test_work_begins_the_time_anew(reading: Reading, reason: str) -> None:
    idle = [(100.0, Sight(Reading(0, 0, (7, 0)), (POD,)))] * 9
    (busy, after) = looks(*idle, (60, Sight(reading, (POD,))), (60, ALL_IDLE))[-2:]
    assert (busy.decision, busy.reason) == (Decision.BUSY, reason)
    assert after.memory.queue.idle_s == 0
    assert after.due == ()


def test_numbers_that_fall_are_no_work() -> None:
    """A server that starts anew, or forgets old jobs, has done nothing."""
    steps = [(100.0, Sight(Reading(0, 0, (9 - n, 3)), (POD,))) for n in range(10)]
    assert last(*steps).due == (POD,)


def test_a_gpu_at_work_keeps_its_own_pod_alone() -> None:
    other = replace(POD, pod_id="b")
    verdict = last(*[(100.0, Sight(EMPTY, (AT_WORK, other)))] * 10)
    assert verdict.due == (other,)
    verdict = last(*[(100.0, Sight(EMPTY, (AT_WORK,)))] * 10)
    assert (verdict.decision, verdict.reason) == (Decision.BUSY, "a has a GPU at 94 %")


@pytest.mark.parametrize(("percent", "is_due"), [(None, True), (4.9, True), (5.0, False)])
def test_how_busy_a_gpu_is_at_work(percent: float | None, is_due: bool) -> None:
    verdict = last(*idle_for(840), (60, Sight(EMPTY, (replace(POD, gpu_percent=percent),))))
    assert bool(verdict.due) is is_due


def test_a_gpu_at_work_counts_while_the_queue_cannot_be_read() -> None:
    verdict = last(*idle_for(890), (5, Sight(UNKNOWN, (AT_WORK,))), (5, ALL_IDLE), (100, ALL_IDLE))
    assert verdict.watched[0].clock.idle_s == 100


# What cannot be seen


def test_a_queue_that_cannot_be_read_stops_the_clock() -> None:
    unreadable = Sight(UNKNOWN, (POD,))
    verdicts = looks(*idle_for(840), (100, unreadable), (100, ALL_IDLE), (60, ALL_IDLE))
    blind, seen, due = verdicts[-3:]
    assert (blind.decision, blind.reason) == (Decision.UNKNOWN, UNKNOWN.reason)
    assert [verdict.watched[0].clock.idle_s for verdict in verdicts[-3:]] == [840, 840, 900]
    assert (blind.memory.blind_s, seen.memory.blind_s) == (100, 0)
    assert (blind.due, seen.due, due.due) == ((), (), (POD,))


def test_after_a_long_time_without_sight_the_time_begins_anew() -> None:
    blind = [(100.0, Sight(UNKNOWN, (POD,)))] * 5
    verdict = last(*idle_for(840), *blind, (10, ALL_IDLE))
    assert verdict.memory.queue.idle_s == 0


def test_work_that_passed_while_nothing_was_seen_is_work() -> None:
    idle = Sight(Reading(0, 0, (7,)), (POD,))
    steps = [(0.0, idle), *[(100.0, idle)] * 9, (60.0, Sight(UNKNOWN, (POD,)))]
    assert last(*steps, (60, Sight(Reading(0, 0, (8,)), (POD,)))).decision is Decision.BUSY


def test_pods_that_cannot_be_seen_keep_their_time() -> None:
    unseen = Sight(EMPTY, (), ("the API fails",))
    verdicts = looks(*idle_for(840), (100, unseen), (100, ALL_IDLE), (60, ALL_IDLE))
    assert (verdicts[-3].decision, verdicts[-3].reason) == (Decision.UNKNOWN, "the API fails")
    assert [bool(verdict.due) for verdict in verdicts[-3:]] == [False, False, True]


def test_work_counts_for_pods_that_cannot_be_seen() -> None:
    busy = Sight(Reading(1, 0), (), ("the API fails",))
    verdict = last(*idle_for(840), (10, busy), (10, ALL_IDLE), (60, ALL_IDLE))
    assert verdict.watched[0].clock.idle_s == 60


def test_a_pod_that_does_not_exist_keeps_no_other_running_and_is_told() -> None:
    sight = Sight(EMPTY, (POD,), ("there is no pod b",))
    verdicts = looks(*[(100.0, sight)] * 10)
    assert verdicts[0].decision is Decision.UNKNOWN
    assert (verdicts[-1].decision, verdicts[-1].due) == (Decision.STOP, (POD,))
    assert "there is no pod b" in verdicts[-1].notes


def test_too_long_without_a_decision_is_an_alarm() -> None:
    blind = [(0.0, ALL_IDLE), *[(200.0, Sight(UNKNOWN, (POD,)))] * 9]
    before, alarm = looks(*blind)[-2:]
    assert (before.decision, before.memory.blind_s) == (Decision.UNKNOWN, 1600)
    assert (alarm.decision, alarm.memory.blind_s) == (Decision.ALARM, 1800)
    assert alarm.reason == (
        "nothing could be decided for 1800 s, and pods cost money meanwhile: redis does not answer"
    )
    assert looks((10, ALL_IDLE), memory=alarm.memory)[0].decision is Decision.WAIT


def test_an_alarm_stops_what_is_due_all_the_same() -> None:
    verdict = last(*[(200.0, Sight(EMPTY, (POD,), ("there is no pod b",)))] * 11)
    assert (verdict.decision, verdict.due) == (Decision.ALARM, (POD,))


def test_a_queue_that_cannot_be_read_matters_to_no_one_while_all_pods_are_down() -> None:
    """It may run on one of them."""
    verdict = last(*[(400.0, Sight(UNKNOWN, (DOWN,)))] * 10)
    assert (verdict.decision, verdict.memory.blind_s) == (Decision.NOTHING, 0)
    assert verdict.reason == "no pod is up; redis does not answer"


def test_looking_too_seldom_is_told_and_becomes_an_alarm() -> None:
    verdicts = looks((0, ALL_IDLE), *[(600.0, ALL_IDLE)] * 3)
    assert [verdict.decision for verdict in verdicts] == [
        Decision.WAIT,
        Decision.UNKNOWN,
        Decision.UNKNOWN,
        Decision.ALARM,
    ]
    assert "look every 450 s or more often" in verdicts[1].reason


def test_looking_seldom_is_no_matter_while_there_is_work() -> None:
    busy = Sight(Reading(3, 0), (POD,))
    assert last(*[(3600.0, busy)] * 5).decision is Decision.BUSY


# Whatever happens


@dataclass(frozen=True, slots=True)
class Step:
    """One look of a history. `passed`: jobs that came and went; `starts`: of the pod, so far."""

    elapsed_s: float
    queue: str
    pod: str
    passed: bool
    starts: int

    def sight(self, done: int) -> Sight:
        readings = {
            "empty": Reading(0, 0, (done,)),
            "waiting": Reading(3, 0, (done,)),
            "working": Reading(0, 1, (done,)),
            "unknown": UNKNOWN,
        }
        pods = {"up": POD, "at work": AT_WORK, "locked": LOCKED, "down": DOWN}
        queue = readings[self.queue]
        if self.pod == "unseen":
            return Sight(queue, (), ("the API fails",))
        return Sight(queue, (replace(pods[self.pod], started_at=str(self.starts)),))


STEPS = st.lists(
    st.builds(
        Step,
        elapsed_s=st.floats(GAP_S / 2, GAP_S) | st.floats(0, GAP_S) | st.floats(0, 2 * GAP_S),
        queue=st.sampled_from(["empty"] * 20 + ["waiting", "working", "unknown", "unknown"]),
        pod=st.sampled_from(["up"] * 20 + ["at work", "locked", "down", "unseen", "unseen"]),
        passed=st.sampled_from([False] * 20 + [True]),
        starts=st.sampled_from([1] * 20 + [2]),
    ),
    max_size=40,
)


def played(steps: Sequence[Step], memory: Memory | None = None) -> list[tuple[int, Verdict]]:
    """The verdicts, with how many jobs were done by then."""
    done = 0
    found: list[tuple[int, Verdict]] = []
    memory = memory or Memory()
    for step in steps:
        done += step.passed
        found.append((done, decide(RULES, memory, step.elapsed_s, step.sight(done))))
        memory = found[-1][1].memory
    return found


def proven_idle_s(steps: Sequence[Step], done: Sequence[int], now: int) -> float:
    """For how long the pod had certainly no work at look `now`, found by going back from it."""

    def is_idle(at: int) -> bool:
        return steps[at].queue == "empty" and steps[at].pod in {"up", "locked"}

    def says_nothing(at: int) -> bool:
        queue, pod = steps[at].queue, steps[at].pod
        is_unread = queue == "unknown" and pod not in {"down", "at work"}
        return is_unread or (queue == "empty" and pod == "unseen")

    proven_s, at = 0.0, now
    while is_idle(at) and at > 0:
        before, away_s = at - 1, steps[at].elapsed_s
        while before >= 0 and says_nothing(before):
            away_s += steps[before].elapsed_s
            before -= 1
        is_other = before < 0 or steps[before].starts != steps[at].starts
        if is_other or away_s > GAP_S or done[before] != done[at]:
            break
        if before == at - 1 and is_idle(before):
            proven_s += steps[at].elapsed_s
        at = before
    return proven_s


@settings(max_examples=500, deadline=None)
@given(STEPS)
def test_no_pod_is_stopped_before_it_has_certainly_been_idle_for_long_enough(
    steps: list[Step],
) -> None:
    found = played(steps)
    done = [number for number, _ in found]
    for now, (_, verdict) in enumerate(found):
        if verdict.due:
            assert verdict.due[0].pod_id == POD.pod_id
            assert (steps[now].queue, steps[now].pod) == ("empty", "up")
            assert proven_idle_s(steps, done, now) >= RULES.idle_s - 1e-6


@settings(deadline=None)
@given(STEPS, st.floats(1, GAP_S))
def test_whatever_was_before_an_idle_pod_is_stopped_in_the_end(
    steps: list[Step], every_s: float
) -> None:
    found = played(steps)
    memory = found[-1][1].memory if found else Memory()
    done = found[-1][0] if found else 0
    idle = Step(every_s, "empty", "up", passed=False, starts=3).sight(done)
    enough = int(RULES.idle_s / every_s) + 3
    assert looks(*[(every_s, idle)] * enough, memory=memory)[-1].due


@settings(deadline=None)
@given(STEPS, st.sampled_from(["queue", "pods"]), st.floats(1, 3 * GAP_S))
def test_whatever_was_before_a_watchdog_that_sees_nothing_raises_the_alarm(
    steps: list[Step], what: str, every_s: float
) -> None:
    found = played(steps)
    memory = found[-1][1].memory if found else Memory()
    sight = Sight(UNKNOWN, (POD,)) if what == "queue" else Sight(EMPTY, (), ("the API fails",))
    enough = int(RULES.alarm_s / every_s) + 2
    assert looks(*[(every_s, sight)] * enough, memory=memory)[-1].decision is Decision.ALARM


@settings(deadline=None)
@given(STEPS)
def test_what_is_told_is_never_longer_than_what_went_by(steps: list[Step]) -> None:
    gone_s = 0.0
    for step, (_, verdict) in zip(steps, played(steps), strict=True):
        gone_s += step.elapsed_s
        times = [verdict.memory.queue.idle_s, verdict.memory.blind_s]
        times += [one.clock.idle_s for one in verdict.watched]
        assert all(0 <= time_s <= gone_s + 1e-6 for time_s in times)
