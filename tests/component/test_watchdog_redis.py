"""Queues in a real Redis server: what is in them, and every way in which they cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.redis_server import RedisServer, Scripted, Silent, TlsFront, free_port

from sotto.endpoint.watchdog import redis_queue
from sotto.endpoint.watchdog.redis_address import address
from sotto.endpoint.watchdog.redis_queue import Keys, RedisQueue, RedisSource
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.sight import Reading, Unreadable

PASSWORD = "p@ss/w0rd#1"
QUOTED = "p%40ss%2Fw0rd%231"
SOUND = b"\xff\xfe\x00" * 1000
LIST = Keys("list", "jobs")
STREAM = Keys("stream", "jobs")
GROUP = Keys("stream", "jobs", "workers")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


def queue(url: str, keys: Keys = LIST) -> RedisQueue:
    return RedisQueue(RedisSource(address(url), keys))


def reason(url: str, keys: Keys = LIST) -> str:
    """Why the queue cannot be read."""
    with pytest.raises(Unreadable) as refused:
        queue(url, keys).read()
    return str(refused.value)


# Lists


def test_a_list(server: RedisServer, client: redis.Redis) -> None:
    assert queue(server.url).read() == Reading(0, 0)
    client.rpush("jobs", SOUND, "b", "c")
    assert queue(server.url).read() == Reading(3, 0)
    client.lpop("jobs", 3)
    assert queue(server.url).read() == Reading(0, 0)


def test_the_name_is_for_people(server: RedisServer) -> None:
    assert queue(server.url).name == f"list jobs at {server.url}"


def test_a_database_of_its_own(server: RedisServer, client: redis.Redis) -> None:
    client.rpush("jobs", "a")
    assert queue(f"{server.url}/3").read() == Reading(0, 0)


@pytest.mark.parametrize(
    ("command", "count"),
    [
        (("RPUSH", "busy", "a", "b"), 2),
        (("SADD", "busy", "a", "b", "c"), 3),
        (("ZADD", "busy", "1", "a"), 1),
        (("HSET", "busy", "a", "1", "b", "2"), 2),
        (("XADD", "busy", "*", "a", SOUND), 1),
        (("SET", "busy", "4"), 4),
        (("SET", "busy", "0"), 0),
        (("SET", "busy", "worker-1"), 1),
        (("SET", "busy", SOUND), 1),
        (("SET", "busy", ""), 1),
        (("SET", "busy", "-1"), 1),
        (("PING",), 0),
    ],
)
def test_jobs_in_progress_by_any_type_of_key(
    server: RedisServer, client: redis.Redis, command: tuple[str | bytes, ...], count: int
) -> None:
    client.execute_command(*command)
    for keys in (
        Keys("list", "jobs", processing=("busy",)),
        Keys("list", "jobs", processing=("none", "busy", "nothing")),
    ):
        assert queue(server.url, keys).read() == Reading(0, count)


def test_a_key_that_cannot_be_counted_is_not_taken_for_empty(
    server: RedisServer, client: redis.Redis
) -> None:
    client.execute_command("VADD", "busy", "VALUES", "1", "0.5", "a")
    told = reason(server.url, Keys("list", "jobs", processing=("busy",)))
    assert told.endswith("busy is of a type that cannot be counted")


def test_a_key_of_another_type_is_not_a_queue(server: RedisServer, client: redis.Redis) -> None:
    client.set("jobs", "a")
    for keys in (LIST, STREAM, GROUP):
        told = reason(server.url, keys)
        assert told.endswith(f": the key is not a {keys.kind}")


# Streams


def test_a_stream(server: RedisServer, client: redis.Redis) -> None:
    entry = client.xadd("jobs", {"audio": SOUND}, id="7-3")
    assert queue(server.url, STREAM).read() == Reading(1, 0)
    client.xdel("jobs", entry)
    assert queue(server.url, STREAM).read() == Reading(0, 0, (7, 3))


@pytest.mark.parametrize("keys", [STREAM, GROUP])
def test_a_stream_that_is_not_there_is_not_empty(
    server: RedisServer, client: redis.Redis, keys: Keys
) -> None:
    assert reason(server.url, keys).endswith(": no such key")


def test_a_group_that_is_not_there_is_not_empty(server: RedisServer, client: redis.Redis) -> None:
    client.xadd("jobs", {"a": "1"})
    assert reason(server.url, GROUP).endswith("there is no group workers; there are: none")
    client.xgroup_create("jobs", "others")
    assert reason(server.url, GROUP).endswith("there is no group workers; there are: others")


def test_what_a_group_has_before_it_and_in_hand(server: RedisServer, client: redis.Redis) -> None:
    client.xgroup_create("jobs", "workers", "0", mkstream=True)
    assert queue(server.url, GROUP).read() == Reading(0, 0, (0, 0))
    for number in range(1, 4):
        client.xadd("jobs", {"audio": SOUND}, id=f"{number}-0")
    assert queue(server.url, GROUP).read() == Reading(3, 0, (0, 0))
    client.xreadgroup("workers", "one", {"jobs": ">"}, count=2)
    assert queue(server.url, GROUP).read() == Reading(1, 2, (2, 0))
    client.xack("jobs", "workers", "1-0")
    client.xreadgroup("workers", "two", {"jobs": ">"})
    assert queue(server.url, GROUP).read() == Reading(0, 2, (3, 0))
    client.xack("jobs", "workers", "2-0", "3-0")
    # The entries are still there, and nobody's work any more.
    assert client.xlen("jobs") == 3
    assert queue(server.url, GROUP).read() == Reading(0, 0, (3, 0))


def test_work_of_another_group_is_not_this_ones(server: RedisServer, client: redis.Redis) -> None:
    client.xadd("jobs", {"a": "1"}, id="1-0")
    client.xgroup_create("jobs", "workers", "$")
    client.xgroup_create("jobs", "others", "0")
    assert queue(server.url, GROUP).read() == Reading(0, 0, (1, 0))


def test_entries_that_are_deleted_unread_are_no_work(
    server: RedisServer, client: redis.Redis
) -> None:
    """Whatever lag the server tells."""
    client.xgroup_create("jobs", "workers", "0", mkstream=True)
    for number in range(1, 4):
        client.xadd("jobs", {"a": "1"}, id=f"{number}-0")
    client.xdel("jobs", "2-0")
    assert queue(server.url, GROUP).read().waiting > 0
    client.xdel("jobs", "1-0", "3-0")
    assert queue(server.url, GROUP).read().is_empty


def test_a_stream_with_keys_in_progress(server: RedisServer, client: redis.Redis) -> None:
    client.xgroup_create("jobs", "workers", "0", mkstream=True)
    client.sadd("busy", "a")
    keys = Keys("stream", "jobs", "workers", ("busy",))
    assert queue(server.url, keys).read() == Reading(0, 1, (0, 0))
    assert queue(server.url, Keys("stream", "jobs", None, ("busy",))).read().in_progress == 1


# What cannot be read


def test_a_right_and_a_wrong_password(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password=PASSWORD) as server:
        at = f"127.0.0.1:{server.port}"
        assert queue(f"redis://:{QUOTED}@{at}").read() == Reading(0, 0)
        for wrong in (f":{QUOTED}2@", f"me:{QUOTED}@"):
            told = reason(f"redis://{wrong}{at}")
            assert (
                told
                == f"list jobs at redis://{at}: invalid username-password pair or user is disabled"
            )
        assert reason(f"redis://{at}").endswith(": Authentication required")


def test_a_user_who_may_not_read_the_keys(server: RedisServer, client: redis.Redis) -> None:
    client.acl_setuser(
        "blind", enabled=True, passwords=["+x"], keys=["other"], categories=["+@all"]
    )
    for keys in (LIST, STREAM, GROUP, Keys("list", "other", processing=("jobs",))):
        assert "permission" in reason(f"redis://blind:x@127.0.0.1:{server.port}", keys).lower()


def test_a_user_who_may_only_read_is_enough(server: RedisServer, client: redis.Redis) -> None:
    client.acl_setuser(
        "reader",
        enabled=True,
        passwords=["+x"],
        keys=["*"],
        categories=["-@all", "+@read"],
        commands=["+multi", "+exec"],
    )
    client.xgroup_create("stream", "workers", "0", mkstream=True)
    client.xadd("stream", {"a": "1"})
    url = f"redis://reader:x@127.0.0.1:{server.port}"
    assert queue(url, Keys("list", "jobs", processing=("busy",))).read() == Reading(0, 0)
    assert queue(url, Keys("stream", "stream", "workers")).read() == Reading(1, 0, (0, 0))
    assert queue(url, Keys("stream", "stream")).read() == Reading(1, 0)


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        watched = queue(server.url)
        with server.client() as client:
            client.rpush("jobs", "a")
        assert watched.read() == Reading(1, 0)
        server.kill()
        with pytest.raises(Unreadable, match=r"Connection refused$"):
            watched.read()
        assert server.start()
        assert watched.read() == Reading(0, 0)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_queue, "TIMEOUT_S", 0.2)
    with Silent() as server:
        assert "imeout" in reason(server.url)


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",) * 5,
        (b"\x00\xff" * 100,) * 5,
        (b"$99999\r\nabc",),
        (b"-LOADING Redis is loading the dataset in memory\r\n",) * 9,
        (b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"),
    ],
    ids=["none", "http", "noise", "cut", "loading", "leaves"],
)
def test_a_server_that_talks_nonsense(
    answers: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_queue, "TIMEOUT_S", 2.0)
    with Scripted(*answers) as server:
        assert reason(server.url).startswith(f"list jobs at {server.url}: ")


def test_an_old_server_that_repeats_what_it_was_sent_shows_no_password() -> None:
    secret = b"-ERR unknown command, with args beginning with: 'p@ss/w0rd#1'\r\n"
    with Scripted(*[secret] * 9) as server:
        at = server.url.removeprefix("redis://")
        told = reason(f"redis://:{QUOTED}@{at}")
    assert any(PASSWORD.encode() in asked for asked in server.asked)
    assert PASSWORD not in told
    assert QUOTED not in told


def test_names_that_no_key_can_have(server: RedisServer) -> None:
    assert reason(server.url, Keys("list", "jobs\udcff")).startswith("list jobs")


@pytest.mark.parametrize(
    "url", ["redis://nosuchhost.invalid", "unix:///nosuch/redis.sock", "redis://" + "a" * 300]
)
def test_an_address_where_nothing_is(url: str) -> None:
    assert reason(url)


# TLS


def test_tls(server: RedisServer, client: redis.Redis, tmp_path: Path) -> None:
    client.rpush("jobs", "a")
    with TlsFront(tmp_path, server.port) as front:
        url = f"rediss://127.0.0.1:{front.port}"
        assert queue(f"{url}?ssl_ca_certs={front.certificate}").read() == Reading(1, 0)
        assert "CERTIFICATE_VERIFY_FAILED" in reason(url)


def test_tls_to_a_server_without(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_queue, "TIMEOUT_S", 0.5)
    assert reason(server.url.replace("redis:", "rediss:"))


def test_an_option_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(WatchdogError, match=r"^--redis: rediss://h:6379 cannot be used: .*ssl_no"):
        queue("rediss://h?ssl_no=1")


# The package


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(WatchdogError, match=r"the redis package is missing; `pip install redis`$"):
        queue(f"redis://127.0.0.1:{free_port()}")
