"""The watchdog at work on RunPod's API and a real Redis server, on a clock that the tests hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from tests.platform_api import PlatformApi
from tests.redis_server import RedisServer

from sotto.endpoint.api import Api
from sotto.endpoint.watchdog.decide import Rules
from sotto.endpoint.watchdog.health import EndpointQueue
from sotto.endpoint.watchdog.loop import PAUSES_S, Tools, Watchdog
from sotto.endpoint.watchdog.pods import Pods
from sotto.endpoint.watchdog.redis_address import address
from sotto.endpoint.watchdog.redis_queue import Keys, RedisQueue, RedisSource
from sotto.endpoint.watchdog.report import Exit, Line
from sotto.endpoint.watchdog.sight import Choice, Queue
from sotto.endpoint.watchdog.state import Instant, State

RULES = Rules(idle_s=900.0, alarm_s=1800.0, gpu_busy_percent=5.0)
STEP_S = 300.0
PODS = "/v2/pods"
ONE = Choice(("pod1",))
BEGINNING = Instant(1_700_000_000.0, 5000.0, "boot")


@pytest.fixture
def platform() -> Iterator[PlatformApi]:
    with PlatformApi() as platform:
        platform.add_endpoint()
        platform.add_pod("pod1", name="whisper-1")
        yield platform


@dataclass
class Desk:
    """A watchdog with all that is around it. `on`: what happens once a decision is told."""

    platform: PlatformApi
    state: Path
    choice: Choice = ONE
    queue: Queue | None = None
    lines: list[Line] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    on: dict[str, Callable[[], None]] = field(default_factory=dict)
    now: Instant = BEGINNING
    is_dry: bool = False

    def __enter__(self) -> Self:
        self._opened = ExitStack()
        key, url = self.platform.key, self.platform.url
        api = self._opened.enter_context(Api(key, url, timeout_s=5.0, pause=lambda _: None))
        queue = self.queue or EndpointQueue(api, "endpoint1")
        state = self._opened.enter_context(State(self.state, "digest"))
        tools = Tools(self._tell, self.pauses_s.append, lambda: self.now)
        self._dog = Watchdog(RULES, queue, Pods(api, self.choice), state, tools)
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def turn(self, after_s: float = STEP_S, own_pod_id: str = "") -> Exit:
        self.now = Instant(self.now.wall_s + after_s, self.now.uptime_s + after_s, "boot")
        return self._dog.turn(is_dry=self.is_dry, own_pod_id=own_pod_id)

    def until_due(self) -> Exit:
        """Look until the queue has been empty for long enough, and do what follows."""
        for _ in range(3):
            self.turn()
        self.lines.clear()
        return self.turn()

    def _tell(self, line: Line) -> None:
        self.lines.append(line)
        self.on.pop(line.decision, lambda: None)()

    @property
    def decisions(self) -> list[str]:
        return [line.decision for line in self.lines]

    def stops(self) -> list[str]:
        """The pods that were asked to stop."""
        calls = self.platform.calls("POST")
        return [path.split("/")[3] for _, path in calls if path.endswith("/action")]


@pytest.fixture
def desk(platform: PlatformApi, tmp_path: Path) -> Iterator[Desk]:
    with Desk(platform, tmp_path / "state.json") as desk:
        yield desk


# Stopping


def test_a_pod_is_stopped_once_its_queue_has_been_empty_for_long_enough(desk: Desk) -> None:
    for _ in range(3):
        assert desk.turn() is Exit.DECIDED
    assert desk.decisions == ["wait"] * 3
    assert desk.stops() == []
    assert desk.turn() is Exit.DECIDED
    assert desk.decisions[3:] == ["stop", "stopped"]
    assert desk.platform.requests[-1] == ("POST", f"{PODS}/pod1/action", {"action": "stop"})
    assert desk.platform.pods["pod1"]["status"] == "EXITED"
    assert desk.turn() is Exit.DECIDED
    assert desk.decisions[-1] == "nothing"
    assert desk.stops() == ["pod1"]


def test_a_pod_that_is_started_right_after_it_was_stopped_has_its_own_time(desk: Desk) -> None:
    """Even if the API does not tell when a pod was started."""
    desk.platform.pods["pod1"]["startedAt"] = None
    desk.until_due()
    desk.platform.add_pod("pod1", startedAt=None)
    for _ in range(3):
        desk.turn()
    assert desk.decisions == ["stop", "stopped", *["wait"] * 3]
    desk.turn()
    assert desk.decisions[-1] == "stopped"


@pytest.mark.parametrize("answer", [b"null", {}, {"status": "EXITED"}])
def test_a_stop_with_a_strange_answer_is_proven_by_the_next_look(
    desk: Desk, answer: object
) -> None:
    desk.platform.fail("POST", PODS, 200, body=answer)
    desk.until_due()
    desk.turn(10)
    assert desk.decisions[-2:] == ["stop", "stopped"]
    assert desk.platform.pods["pod1"]["status"] == "EXITED"


def test_what_a_line_tells(desk: Desk) -> None:
    desk.platform.pods["pod1"]["runtime"] = {"gpus": [{"util": 1}, {"util": 3}, {}]}
    desk.until_due()
    line = desk.lines[0]
    assert (line.decision, line.reason) == ("stop", "no work for 900 s")
    assert (line.queue, line.depth, line.in_progress) == ("endpoint endpoint1", 0, 0)
    assert (line.idle_s, line.blind_s, line.notes) == (900.0, 0.0, ())
    (pod,) = line.pods
    assert (pod.id, pod.name, pod.status, pod.locked) == ("pod1", "whisper-1", "RUNNING", False)
    assert (pod.gpu_percent, pod.idle_s) == (3.0, 900.0)


def test_the_queue_is_asked_again_right_before_a_pod_is_stopped(desk: Desk) -> None:
    desk.on["stop"] = lambda: desk.platform.jobs.update(endpoint1={"inQueue": 1})
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "kept"]
    assert desk.lines[-1].reason == "1 waiting, 0 in progress"
    assert desk.stops() == []
    # The time begins anew, though the queue is empty again.
    desk.platform.jobs["endpoint1"] = {}
    desk.turn()
    assert desk.lines[-1].decision == "wait"
    assert desk.lines[-1].idle_s == 0


@pytest.mark.parametrize(
    "change",
    [
        {"locked": True},
        {"runtime": {"gpus": [{"util": 94}]}},
        {"startedAt": "2026-11-25T08:00:00Z"},
    ],
)
def test_the_pod_is_asked_again_right_before_it_is_stopped(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.on["stop"] = lambda: desk.platform.pods["pod1"].update(change)
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "kept"]
    assert desk.stops() == []


def test_a_queue_that_breaks_right_before_keeps_the_pod(desk: Desk) -> None:
    desk.on["stop"] = lambda: desk.platform.fail("GET", "/v2/endpoint1/health", 404)
    desk.until_due()
    assert desk.decisions == ["stop", "kept"]
    assert desk.stops() == []


@pytest.mark.parametrize("how", ["stopped", "deleted"])
def test_a_pod_that_somebody_stops_meanwhile_is_left_alone(desk: Desk, how: str) -> None:
    def end() -> None:
        if how == "deleted":
            del desk.platform.pods["pod1"]
            desk.platform.add_pod("pod1", status="TERMINATED")
        else:
            desk.platform.pods["pod1"].update(status="EXITED", actions=["start", "terminate"])

    desk.on["stop"] = end
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stopped"]
    assert desk.lines[-1].reason.startswith("it is down already: ")
    assert desk.stops() == []


def test_a_pod_that_is_stopped_already_is_left_alone(desk: Desk) -> None:
    desk.platform.pods["pod1"].update(status="EXITED", actions=["start", "terminate"])
    desk.until_due()
    assert desk.decisions == ["nothing"]
    assert desk.stops() == []


def test_a_dry_run_stops_nothing(desk: Desk) -> None:
    desk.is_dry = True
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "would_stop"]
    assert desk.platform.calls("POST") == []


def test_a_locked_pod_is_told_and_left_alone(desk: Desk) -> None:
    desk.platform.pods["pod1"]["locked"] = True
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["locked"]
    assert desk.lines[-1].notes == ("pod1 is locked and refuses to be stopped; unlock it",)
    assert desk.stops() == []


@pytest.mark.parametrize("jobs", [{"inQueue": 3}, {"inProgress": 1}])
def test_work_keeps_a_pod(desk: Desk, jobs: dict[str, int]) -> None:
    desk.platform.jobs["endpoint1"] = jobs
    desk.until_due()
    assert desk.decisions == ["busy"]
    assert desk.stops() == []


def test_work_that_came_and_went_between_two_looks_is_work(desk: Desk) -> None:
    for completed in range(8):
        desk.platform.jobs["endpoint1"] = {"completed": completed}
        desk.turn()
    assert set(desk.decisions[1:]) == {"busy"}


# Choosing


def test_pods_are_chosen_by_id_and_by_name(platform: PlatformApi, tmp_path: Path) -> None:
    for pod_id, name in (("pod2", "whisper-2"), ("pod3", "Whisper-3"), ("pod4", "train [1]")):
        platform.add_pod(pod_id, name=name)
    platform.add_pod("pod5", name="whisper-5", cluster={"id": "c", "rank": 0})
    choice = Choice(("pod1",), ("whisper-*", "train [[]?]"))
    with Desk(platform, tmp_path / "s", choice) as desk:
        desk.until_due()
        assert desk.stops() == ["pod1", "pod2", "pod4"]
    assert platform.pods["pod3"]["status"] == "RUNNING"


def test_the_pod_that_it_runs_on_is_the_last_to_be_stopped(
    platform: PlatformApi, tmp_path: Path
) -> None:
    platform.add_pod("pod2", name="whisper-2")
    with Desk(platform, tmp_path / "s", Choice((), ("*",))) as desk:
        for _ in range(4):
            desk.turn(own_pod_id="pod1")
        assert desk.stops() == ["pod2", "pod1"]


def test_a_pod_that_does_not_exist_is_told_and_becomes_an_alarm(
    platform: PlatformApi, tmp_path: Path
) -> None:
    with Desk(platform, tmp_path / "s", Choice(("pod1", "pod9"))) as desk:
        for _ in range(4):
            desk.turn()
        assert desk.decisions == ["unknown"] * 3 + ["stop", "stopped"]
        assert "there is no pod pod9, or it is part of a cluster; correct --pod" in (
            desk.lines[-2].notes
        )
        codes = [desk.turn() for _ in range(4)]
        assert codes == [Exit.DECIDED] * 2 + [Exit.ALARM] * 2


# Stops that fail


def test_a_stop_that_fails_is_tried_again_and_told(desk: Desk) -> None:
    desk.platform.fail("POST", PODS, 500, times=2)
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stop_failed", "stop_failed", "stopped"]
    assert desk.lines[1].reason.startswith("attempt 1 of 3: POST /v2/pods/pod1/action: the API")
    assert desk.pauses_s == list(PAUSES_S)
    assert desk.stops() == ["pod1"] * 3


def test_a_stop_that_fails_again_and_again_is_an_error(desk: Desk) -> None:
    desk.platform.fail("POST", PODS, 503, times=100)
    assert desk.until_due() is Exit.STOP_FAILED
    assert desk.decisions == ["stop", *["stop_failed"] * 3]
    # The next look tries again.
    assert desk.turn() is Exit.STOP_FAILED
    assert len(desk.stops()) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_stop_that_is_refused_for_good_is_not_tried_again(desk: Desk, status: int) -> None:
    desk.platform.fail("POST", PODS, status, times=100)
    assert desk.until_due() is Exit.STOP_FAILED
    assert desk.decisions == ["stop", "stop_failed"]
    assert f"({status})" in desk.lines[-1].reason
    assert desk.platform.key not in desk.lines[-1].reason


def test_one_pod_that_cannot_be_stopped_keeps_no_other_running(
    platform: PlatformApi, tmp_path: Path
) -> None:
    platform.add_pod("pod2")
    platform.fail("POST", f"{PODS}/pod1", 403, times=100)
    with Desk(platform, tmp_path / "s", Choice(("pod1", "pod2"))) as desk:
        assert desk.until_due() is Exit.STOP_FAILED
        assert desk.decisions == ["stop", "stop_failed", "stopped"]


def test_after_a_stop_without_an_answer_the_pod_is_asked(desk: Desk) -> None:
    desk.platform.hang("POST", PODS)
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stopped"]
    assert desk.platform.calls()[-2:] == [
        ("POST", f"{PODS}/pod1/action"),
        ("GET", f"{PODS}/pod1"),
    ]
    assert desk.stops() == ["pod1"]


def test_a_stop_that_did_not_arrive_is_tried_again(desk: Desk) -> None:
    desk.platform.drop("POST", PODS)
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stop_failed", "stopped"]
    assert desk.stops() == ["pod1"] * 2


def test_a_stop_of_which_nothing_can_be_learnt_is_not_repeated_blindly(desk: Desk) -> None:
    desk.platform.hang("POST", PODS)
    desk.on["stop"] = lambda: desk.platform.fail("GET", f"{PODS}/pod1", 500, times=4)
    assert desk.until_due() is Exit.DECIDED
    # The list of the next attempt shows that it worked.
    assert desk.decisions == ["stop", "stop_failed", "stopped"]
    assert desk.lines[-1].reason == "it is down already: EXITED"
    assert desk.stops() == ["pod1"]


def test_work_that_arrives_between_two_attempts_keeps_the_pod(desk: Desk) -> None:
    desk.platform.fail("POST", PODS, 500, times=100)
    desk.on["stop_failed"] = lambda: desk.platform.jobs.update(endpoint1={"inQueue": 1})
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stop_failed", "kept"]
    assert desk.stops() == ["pod1"]


@pytest.mark.parametrize("status", [404, 409])
def test_a_pod_that_goes_down_by_itself_meanwhile_counts_as_stopped(
    desk: Desk, status: int
) -> None:
    """The API says that there is no such pod, or that it cannot be stopped as it is."""
    desk.platform.fail("POST", PODS, status)
    desk.platform.fail("GET", f"{PODS}/pod1", 404)
    assert desk.until_due() is Exit.DECIDED
    assert desk.decisions == ["stop", "stopped"]


# What cannot be seen


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        None,
        [],
        {},
        {"jobs": None},
        {"jobs": {"inQueue": 0}},
        {"jobs": {"inProgress": 0}},
        {"jobs": {"inQueue": "0", "inProgress": 0}},
        {"jobs": {"inQueue": -1, "inProgress": 0}},
        {"jobs": {"inQueue": False, "inProgress": 0}},
        {"jobs": {"inQueue": 0.5, "inProgress": 0}},
        {"jobs": {"inQueue": None, "inProgress": 0}},
        {"jobs": [0, 0]},
        {"workers": {"idle": 1}},
    ],
)
def test_an_answer_that_is_no_health_is_not_an_empty_queue(desk: Desk, body: object) -> None:
    answer = b"null" if body is None else body
    desk.platform.fail("GET", "/v2/endpoint1/health", 200, times=100, body=answer)
    desk.until_due()
    assert desk.decisions == ["unknown"]
    assert desk.lines[-1].depth is None
    assert "GET /v2/endpoint1/health" in desk.lines[-1].reason


def test_a_queue_that_cannot_be_read_is_told_with_its_time_and_becomes_an_alarm(desk: Desk) -> None:
    desk.turn()
    desk.platform.fail("GET", "/v2/endpoint1/health", 500, times=1000)
    codes = [desk.turn() for _ in range(7)]
    assert [line.blind_s for line in desk.lines] == [STEP_S * n for n in range(8)]
    assert desk.decisions == ["wait", *["unknown"] * 5, "alarm", "alarm"]
    assert codes == [Exit.DECIDED] * 5 + [Exit.ALARM] * 2
    assert desk.stops() == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"null",
        [],
        {},
        {"pods": None},
        {"pods": {}},
        {"pods": []},
        {"pods": [None, 1, "pod1", {}, {"id": "pod1"}]},
        {"pods": [{"id": "pod1", "name": "x", "status": "RUNNING", "actions": ["stop"]}]},
        {
            "pods": [
                {
                    "id": "pod1",
                    "name": "x",
                    "status": "RUNNING",
                    "actions": ["stop"],
                    "locked": "no",
                }
            ]
        },
    ],
)
def test_an_answer_without_the_pod_stops_nothing(desk: Desk, body: object) -> None:
    desk.platform.fail("GET", PODS, 200, times=100, body=body)
    desk.until_due()
    assert desk.decisions == ["unknown"]
    assert desk.stops() == []


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": None},
        {"runtime": {}},
        {"runtime": {"gpus": None}},
        {"runtime": {"gpus": []}},
        {"runtime": {"gpus": [{}, {"util": None}], "uptime": -1}},
        {"cost": None},
        {"startedAt": None},
        {"status": "SOMETHING_NEW"},
        {"more": {"that": "nobody knows"}},
    ],
)
def test_what_the_api_does_not_tell_of_a_pod_is_no_matter(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.platform.pods["pod1"].update(change)
    desk.until_due()
    assert desk.decisions == ["stop", "stopped"]


def test_another_pod_that_is_told_in_a_strange_way_is_no_matter(desk: Desk) -> None:
    desk.platform.pods["odd"] = {"id": 7}
    desk.until_due()
    assert desk.decisions == ["stop", "stopped"]


def test_an_api_that_fails_for_a_while_stops_the_clock(desk: Desk) -> None:
    desk.turn()
    desk.turn()
    desk.platform.fail("GET", PODS, 401)
    desk.turn(100)
    assert desk.decisions[-1] == "unknown"
    assert "check RUNPOD_API_KEY" in desk.lines[-1].reason
    for _ in range(3):
        desk.turn()
    assert [line.pods[0].idle_s for line in desk.lines[-4:] if line.pods] == [300, 600, 900, 900]


# Coming back


def again(desk: Desk, **changes: Any) -> Desk:
    """The next run of the same watchdog."""
    return Desk(desk.platform, desk.state, now=desk.now, **changes)


def test_a_watchdog_that_is_started_again_goes_on(platform: PlatformApi, tmp_path: Path) -> None:
    desk = Desk(platform, tmp_path / "s")
    for run in range(4):
        desk = again(desk)
        with desk:
            desk.turn()
            first = "the idle time begins now: there is no "
            assert [note.startswith(first) for note in desk.lines[0].notes] == [True] * (run == 0)
    assert desk.decisions == ["stop", "stopped"]


def test_while_it_was_away_anything_may_have_happened(
    platform: PlatformApi, tmp_path: Path
) -> None:
    with Desk(platform, tmp_path / "s") as desk:
        for _ in range(3):
            desk.turn()
    with again(desk) as later:
        assert later.turn(3 * 3600.0) is Exit.ALARM
        assert later.decisions == ["alarm"]
        assert "nobody looked for 10800 s" in later.lines[0].reason
        assert later.lines[0].idle_s == 0
        assert later.turn() is Exit.DECIDED


def test_a_clock_that_was_set_back_begins_the_time_anew(desk: Desk) -> None:
    for _ in range(3):
        desk.turn()
    desk.now = Instant(desk.now.wall_s - 7200, desk.now.uptime_s, "boot")
    desk.turn()
    assert desk.lines[-1].notes == ("the idle time begins now: the clock was set back",)
    assert (desk.lines[-1].decision, desk.lines[-1].idle_s) == ("wait", 0)


def test_a_state_from_the_future_begins_the_time_anew(
    platform: PlatformApi, tmp_path: Path
) -> None:
    with Desk(platform, tmp_path / "s") as desk:
        for _ in range(3):
            desk.turn()
    later = again(desk)
    later.now = Instant(desk.now.wall_s - 3600, 10.0, "another boot")
    with later:
        later.turn()
    assert later.lines[0].notes == ("the idle time begins now: the clock was set back",)
    assert later.lines[0].idle_s == 0


def test_a_damaged_state_begins_the_time_anew(platform: PlatformApi, tmp_path: Path) -> None:
    with Desk(platform, tmp_path / "s") as desk:
        for _ in range(3):
            desk.turn()
    desk.state.write_bytes(desk.state.read_bytes()[:-9])
    with again(desk) as later:
        later.turn()
    assert later.lines[0].notes == (f"the idle time begins now: {desk.state} is damaged",)
    assert later.lines[0].idle_s == 0


def test_a_state_that_cannot_be_written_is_an_alarm_and_stops_pods_all_the_same(
    platform: PlatformApi, tmp_path: Path
) -> None:
    with Desk(platform, tmp_path / "gone" / "s") as desk:
        desk.turn()
        shutil.rmtree(tmp_path / "gone")
        assert [desk.turn() for _ in range(3)] == [Exit.ALARM] * 3
        assert "the idle time cannot be kept: No such file or directory" in desk.lines[1].notes
        assert desk.decisions[-1] == "stopped"


# Redis


def of_redis(url: str) -> RedisQueue:
    keys = Keys("list", "jobs", processing=("busy",))
    return RedisQueue(RedisSource(address(url), keys))


def test_a_redis_server_that_comes_and_goes(platform: PlatformApi, tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as server,
        Desk(platform, tmp_path / "s", queue=of_redis(server.url)) as desk,
    ):
        with server.client() as client:
            client.rpush("jobs", "a")
            desk.turn()
            client.lmove("jobs", "busy")
            desk.turn()
            client.lpop("busy")
            desk.turn()
        desk.turn()
        server.kill()
        desk.turn()
        assert server.start()
        desk.turn(100)
        desk.turn()
        desk.turn()
    assert desk.decisions == [
        "busy",
        "busy",
        *["wait"] * 2,
        "unknown",
        *["wait"] * 2,
        "stop",
        "stopped",
    ]
    assert [line.idle_s for line in desk.lines[2:7]] == [0, 300, 300, 300, 600]
    assert "Connection refused" in desk.lines[4].reason
    assert desk.stops() == ["pod1"]


def test_a_job_that_arrives_just_before_the_stop(platform: PlatformApi, tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as server,
        server.client() as client,
        Desk(platform, tmp_path / "s", queue=of_redis(server.url)) as desk,
    ):
        desk.on["stop"] = lambda: client.rpush("jobs", "a")
        desk.until_due()
        assert desk.decisions == ["stop", "kept"]
        assert desk.stops() == []
