"""The options of the watchdog: everything that cannot act is refused, and no password is shown."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from sotto.endpoint.watchdog import add_arguments
from sotto.endpoint.watchdog.redis_address import address
from sotto.endpoint.watchdog.redis_queue import Keys, RedisSource
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.watch import Watch, state_file, watch

ENDPOINT = ("--endpoint", "abc123", "--pod", "p1")
LIST = ("--redis-list", "jobs", "--pod", "p1")
STREAM = ("--redis-stream", "jobs", "--pod", "p1")
URL = "redis://localhost"


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(options)


def watched(*options: str, **environ: str) -> Watch:
    return watch(parsed(*options), environ)


def refusal(*options: str, **environ: str) -> str:
    with pytest.raises(WatchdogError) as refused:
        watched(*options, **environ)
    return str(refused.value)


def test_what_is_not_given_has_its_default() -> None:
    found = watched(*ENDPOINT)
    assert found.queue == "abc123"
    assert (found.rules.idle_s, found.rules.alarm_s, found.every_s) == (900, 1800, 60)
    assert not found.is_once
    assert not found.is_dry


def test_a_short_idle_time_is_looked_at_often_enough() -> None:
    assert watched(*ENDPOINT, "--idle-s", "60").every_s == 15


def test_the_server_comes_from_the_option_or_from_the_environment() -> None:
    by_option = watched(*LIST, "--redis", URL, REDIS_URL="redis://other")
    assert by_option.queue == RedisSource(address(URL), Keys("list", "jobs"))
    by_environment = watched(*STREAM, "--group", "g", "--processing", "k", REDIS_URL=URL)
    assert by_environment.queue == RedisSource(address(URL), Keys("stream", "jobs", "g", ("k",)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--endpoint", "abc"), "--pod, --pod-name: name the pods"),
        ((*ENDPOINT, "--pod", "../x"), "--pod: '../x' is not the id of a pod"),
        ((*ENDPOINT, "--pod", ""), "--pod: '' is not the id of a pod"),
        ((*ENDPOINT, "--pod-name", ""), "--pod-name: an empty pattern"),
        (("--endpoint", "a/b", "--pod", "p"), "--endpoint: 'a/b' is not the id"),
        ((*ENDPOINT, "--redis", URL), "--redis: cannot act with --endpoint"),
        ((*ENDPOINT, "--group", "g"), "--group: cannot act with --endpoint"),
        ((*ENDPOINT, "--processing", "k"), "--processing: cannot act with --endpoint"),
        ((*LIST, "--redis", URL, "--group", "g"), "--group: only a stream has groups"),
        ((*STREAM, "--redis", URL, "--group", ""), "a name is empty"),
        (("--redis-list", "", "--pod", "p", "--redis", URL), "a name is empty"),
        ((*ENDPOINT, "--once", "--every-s", "60"), "--every-s: cannot act with --once"),
        ((*ENDPOINT, "--every-s", "226"), "--every-s: 226 is too seldom for --idle-s 900; use 225"),
        ((*ENDPOINT, "--state", ""), "--state: . is a folder; name a file"),
        ((*ENDPOINT, "--state", "."), "--state: . is a folder; name a file"),
        ((*ENDPOINT, "--state", "/"), "--state: / is a folder; name a file"),
        ((*ENDPOINT, "--state", "st\udcff"), "--state: not text in UTF-8; name another file"),
        (LIST, "--redis, REDIS_URL: not the address of a Redis server"),
        ((*LIST, "--redis", ""), "--redis, REDIS_URL: not the address of a Redis server"),
    ],
)
def test_what_cannot_act_is_refused(options: tuple[str, ...], told: str) -> None:
    assert told in refusal(*options)


def test_all_faults_are_told_at_once() -> None:
    told = refusal("--redis-list", "jobs", "--group", "g", "--once", "--every-s", "60")
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "--pod, --pod-name",
        "--every-s",
        "--group",
        "--redis, REDIS_URL",
    ]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--pod", "p"),
        ("--endpoint", "a", "--redis-list", "b", "--pod", "p"),
        (*ENDPOINT, "--idle-s", "0"),
        (*ENDPOINT, "--idle-s", "nan"),
        (*ENDPOINT, "--idle-s", "inf"),
        (*ENDPOINT, "--idle-s", "fifteen"),
        (*ENDPOINT, "--alarm-s", "-1"),
        (*ENDPOINT, "--gpu-busy-percent", "101"),
        (*ENDPOINT, "--every-s", "0"),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_parser(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(*options)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


# The state file


def test_other_options_have_another_state() -> None:
    many = (
        watched(*ENDPOINT),
        watched(*ENDPOINT, "--idle-s", "600"),
        watched(*ENDPOINT, "--alarm-s", "600"),
        watched(*ENDPOINT, "--gpu-busy-percent", "6"),
        watched(*ENDPOINT, "--pod", "p2"),
        watched(*ENDPOINT, "--pod-name", "p2"),
        watched("--endpoint", "other", "--pod", "p1"),
        watched(*LIST, "--redis", URL),
        watched(*LIST, "--redis", f"{URL}/1"),
        watched(*LIST, "--redis", URL, "--processing", "k"),
        watched(*STREAM, "--redis", URL),
        watched(*STREAM, "--redis", URL, "--group", "g"),
    )
    assert len({one.digest for one in many}) == len(many)


def test_what_does_not_matter_to_the_idle_time_has_the_same_state() -> None:
    base = watched(*LIST, "--redis", URL)
    assert base.digest == watched(*LIST, "--redis", "redis://:secret@localhost:6379").digest
    assert base.digest == watched(*LIST, "--redis", URL, "--once", "--dry-run").digest


def test_where_the_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    args, usual = parsed(*ENDPOINT), tmp_path / ".local" / "state" / "sotto" / "watchdog-d.json"
    assert state_file(args, {}, "d") == usual
    assert state_file(args, {"XDG_STATE_HOME": "relative"}, "d") == usual
    chosen = {"XDG_STATE_HOME": "/state"}
    assert state_file(args, chosen, "d") == Path("/state/sotto/watchdog-d.json")
    assert state_file(parsed(*ENDPOINT, "--state", "s"), chosen, "d") == Path("s")


# The server's address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("redis://localhost:6380/2", "redis://localhost:6380/2"),
        ("redis://localhost/", "redis://localhost:6379"),
        ("redis://:hunter2@localhost", "redis://localhost:6379"),
        ("rediss://me:hunter2@localhost:1/0?ssl_ca_certs=/ca.pem", "rediss://localhost:1/0"),
        ("rediss://localhost?ssl_password=hunter2", "rediss://localhost:6379"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix://:hunter2@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    found = address(url)
    assert (found.url, found.shown) == (url, shown)
    assert "hunter2" not in repr(found)
    if "hunter2" in url:
        assert (
            found.without_secrets("AUTH hunter2 failed\nfor hunter2") == "AUTH *** failed for ***"
        )


def test_a_password_is_hidden_as_it_is_written_and_as_it_is_meant() -> None:
    found = address("redis://:p%40ss%2Fword@localhost")
    assert found.without_secrets("p@ss/word p%40ss%2Fword") == "*** ***"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:hunter2@localhost",
        "redis://",
        "redis:///0",
        "unix://",
        "unix://host/path",
        "redis://localhost:notaport",
        "redis://localhost:99999",
        "redis://localhost/zero",
        "redis://localhost/-1",
        "redis://localhost#hunter2",
        # Passwords that are not written as %XX.
        "redis://:hunter2/more@localhost",
        "redis://:hunter2#more@localhost:6379",
        "redis://:hunter2?more@localhost",
        "redis://user:12/hunter2@localhost",
        "redis://user:12?hunter2@localhost",
        "redis://[hunter2",
        # Options that would change how it is read.
        "redis://localhost?socket_timeout=hunter2",
        "redis://localhost?decode_responses=hunter2",
        "redis://localhost?password=hunter2",
        "redis://localhost?ssl_cert_reqs=none",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(WatchdogError, match=r"^--redis, REDIS_URL: ") as refused:
        address(url)
    assert "hunter2" not in str(refused.value)
    assert "use redis://" in str(refused.value)
