"""What one watchdog leaves for the next: nothing that cannot be trusted is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sotto.endpoint.watchdog.clock import Clock
from sotto.endpoint.watchdog.decide import Memory, PodMemory
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.state import Held, Instant, State

AT = Instant(wall_s=1_700_000_000.0, uptime_s=5000.0, boot_id="one")
MEMORY = Memory(
    queue=Clock(600.0, is_running=True),
    pods=(
        PodMemory("a", "2026-11-25T08:00:00Z", Clock(300.0, 20.0)),
        PodMemory("b", None, Clock()),
    ),
    progress=(7, 0),
    blind_s=20.0,
)
HOLD = """
import sys
from pathlib import Path
from sotto.endpoint.watchdog.state import State
with State(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.json"


@pytest.fixture
def kept(path: Path) -> dict[str, Any]:
    """What the file holds."""
    with State(path, "digest") as state:
        state.save(AT, MEMORY)
    return json.loads(path.read_bytes())


def loaded(path: Path, watches: str = "digest") -> tuple[Memory | None, str]:
    with State(path, watches) as state:
        found, why_not = state.load()
    return (found.memory if found else None), why_not


def test_what_was_kept_comes_back(path: Path, kept: object) -> None:
    with State(path, "digest") as state:
        found, why_not = state.load()
    assert found is not None
    assert (found.at, found.memory, why_not) == (AT, MEMORY, "")


def test_only_the_file_and_its_lock_remain(path: Path, kept: object) -> None:
    assert sorted(found.name for found in path.parent.iterdir()) == [
        "state.json",
        "state.json.lock",
    ]


def test_the_first_one_finds_nothing(path: Path) -> None:
    assert loaded(path) == (None, f"there is no {path} yet")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 200,
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version":1,"watches":"digest"}',
    ],
    ids=["empty", "zeros", "cut", "null", "list", "table", "no-text", "deep", "half"],
)
def test_a_damaged_file_counts_for_nothing(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    assert loaded(path) == (None, f"{path} is damaged")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 2),
        (("at", "wall_s"), -1),
        (("at", "wall_s"), "1700000000"),
        (("at", "uptime_s"), None),
        (("memory", "blind_s"), -0.1),
        (("memory", "queue", "idle_s"), 1e300),
        (("memory", "queue", "idle_s"), True),
        (("memory", "queue", "is_running"), 1),
        (("memory", "pods"), {}),
        (("memory", "progress"), [0.5]),
        (("more",), 1),
    ],
)
def test_a_value_that_cannot_be_counts_for_nothing(
    path: Path, kept: dict[str, Any], place: tuple[str, ...], value: object
) -> None:
    within = kept
    for name in place[:-1]:
        within = within[name]
    within[place[-1]] = value
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert loaded(path) == (None, f"{path} is damaged")


def test_every_beginning_of_a_file_counts_for_nothing(path: Path, kept: object) -> None:
    """As a crash could leave it, if it were not replaced as a whole."""
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert loaded(path)[0] is None


def test_a_file_of_another_watchdog_counts_for_nothing(path: Path, kept: object) -> None:
    assert loaded(path, "other") == (None, f"{path} is of a watchdog with other options")


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(WatchdogError, match=r"^--state: .*directory; name another file$"):
        loaded(tmp_path / "state.json")
    (tmp_path / "file").touch()
    with pytest.raises(WatchdogError, match=r"^--state: .*; name another file$"):
        loaded(tmp_path / "file" / "state.json")


def test_what_cannot_be_written_leaves_the_old_one(path: Path, kept: object) -> None:
    path.with_name("state.json.part").mkdir()
    with State(path, "digest") as state, pytest.raises(OSError, match="directory"):
        state.save(AT, Memory())
    assert loaded(path) == (MEMORY, "")


def test_a_half_written_one_is_in_nobodys_way(path: Path, kept: object) -> None:
    path.with_name("state.json.part").write_bytes(b"{")
    with State(path, "digest") as state:
        state.save(AT, Memory())
    assert loaded(path) == (Memory(), "")


# One at a time


def test_a_second_watchdog_is_kept_out(path: Path) -> None:
    with State(path, "one"):
        with pytest.raises(Held, match=r"^another watchdog has .*state\.json$"), State(path, "two"):
            pass
        with State(path.with_name("other.json"), "three"):
            pass
    with State(path, "two"):
        pass


def test_a_watchdog_that_was_killed_keeps_nobody_out(path: Path) -> None:
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
        cwd=Path(__file__).resolve().parents[2],
    )
    with held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        with pytest.raises(Held), State(path, "x"):
            pass
        held.kill()
        held.wait()
    with State(path, "x"):
        pass


# Time


def test_this_moment_is_after_the_one_before() -> None:
    before = Instant.now()
    elapsed_s = Instant.now().since(before)
    assert elapsed_s is not None
    assert elapsed_s >= 0


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (Instant(AT.wall_s + 60, AT.uptime_s + 60, "one"), 60.0),
        # Somebody set the clock forward by an hour, or the machine slept with a clock that lags.
        (Instant(AT.wall_s + 3660, AT.uptime_s + 60, "one"), 60.0),
        (Instant(AT.wall_s + 10, AT.uptime_s + 60, "one"), 60.0),
        # The clock was set back.
        (Instant(AT.wall_s - 60, AT.uptime_s + 60, "one"), None),
        (Instant(AT.wall_s + 60, AT.uptime_s - 1, "one"), None),
        # The machine was started anew.
        (Instant(AT.wall_s + 60, 10.0, "two"), 60.0),
        (Instant(AT.wall_s - 1, 10.0, "two"), None),
        (Instant(AT.wall_s + 60, 10.0, ""), 60.0),
    ],
)
def test_how_far_two_moments_are_apart(now: Instant, seconds: float | None) -> None:
    assert now.since(AT) == seconds
