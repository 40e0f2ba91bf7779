"""A Redis list or stream as a queue. The only module that imports redis.

Invariant: nothing is written. What is counted together is read in one transaction, so a job that
moves from one key to another meanwhile is seen in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sotto.endpoint.watchdog.redis_address import RedisAddress
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.sight import Reading, Unreadable

TIMEOUT_S = 10.0
"""The longest silence of the server."""
SIZES = (("LLEN",), ("XLEN",), ("SCARD",), ("ZCARD",), ("HLEN",), ("GETRANGE", 0, 31))
"""What tells the size of a key; all but one refuse it for its type."""
WRONG_TYPE = "WRONGTYPE"


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the jobs are. `group`: of a stream. `processing`: keys with jobs that are worked on."""

    kind: Literal["list", "stream"]
    key: str
    group: str | None = None
    processing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RedisSource:
    """Which server, and which keys there."""

    address: RedisAddress
    keys: Keys


class RedisQueue:
    """The queue of `source`. It connects anew for each reading: minutes lie between them.

    Raises WatchdogError where the redis package is missing or the address cannot be used.
    """

    def __init__(self, source: RedisSource) -> None:
        try:
            import redis  # optional
        except ImportError:
            raise WatchdogError(
                "--redis-list, --redis-stream: the redis package is missing; `pip install redis`"
            ) from None
        self._redis: Any = redis
        self._address = address = source.address
        self._keys = keys = source.keys
        self.name = f"{keys.kind} {keys.key} at {address.shown}"
        try:
            # It checks the options and connects to nothing.
            self._client().connection_pool.make_connection()
        except (redis.RedisError, ValueError, TypeError) as error:
            reason = address.without_secrets(str(error))
            raise WatchdogError(f"--redis: {address.shown} cannot be used: {reason}") from None

    def read(self) -> Reading:
        """What is in the queue now. Raises Unreadable."""
        with self._translated(), self._client() as client:
            if self._keys.kind == "list":
                return self._read_list(client)
            if self._keys.group is None:
                return self._read_stream(client)
            return self._read_group(client, self._keys.group)

    def _client(self) -> Any:
        retry = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        return self._redis.Redis.from_url(
            self._address.url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=retry,
            # Before Redis 6 a refusal of the newer protocol's greeting repeats the password.
            protocol=2,
        )

    def _read_list(self, client: Any) -> Reading:
        waiting, in_progress = self._together(client, ("LLEN", self._keys.key))
        return Reading(waiting, in_progress)

    def _read_stream(self, client: Any) -> Reading:
        waiting, in_progress = self._together(client, ("XLEN", self._keys.key))
        if waiting:
            return Reading(waiting, in_progress)
        # It has no entries that would come with the answer. Unlike a list, a stream that has been
        # emptied is still there: one that is not has another name, or was lost.
        told = client.xinfo_stream(self._keys.key)
        return Reading(told["length"], in_progress, _id(told["last-generated-id"]))

    def _read_group(self, client: Any, name: str) -> Reading:
        groups, in_progress = self._together(client, ("XINFO GROUPS", self._keys.key))
        found = [group for group in groups if group["name"] == name.encode()]
        if not found:
            names = ", ".join(_text(group["name"]) for group in groups) or "none"
            raise Unreadable(f"{self.name}: there is no group {name}; there are: {names}")
        group = found[0]
        last = _text(group["last-delivered-id"])
        # The lag that Redis tells may be unknown, or too high once entries have been deleted.
        rest = client.xrange(self._keys.key, min=f"({last}", count=1)
        waiting = max(group.get("lag") or 0, 1) if rest else 0
        return Reading(waiting, group["pending"] + in_progress, _id(last))

    def _together(self, client: Any, command: tuple[str, str]) -> tuple[Any, int]:
        """The answer to `command`, and the number of jobs that are worked on."""
        with client.pipeline(transaction=True) as pipe:
            pipe.execute_command(*command)
            for key in self._keys.processing:
                for name, *rest in SIZES:
                    pipe.execute_command(name, key, *rest)
            answer, *sizes = pipe.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
        per_key = len(SIZES)
        counted = [
            self._size(key, sizes[place * per_key : (place + 1) * per_key])
            for place, key in enumerate(self._keys.processing)
        ]
        return answer, sum(counted)

    def _size(self, key: str, answers: Sequence[Any]) -> int:
        """How many jobs a key of any type stands for; text that is no number is one."""
        for answer in answers:
            if isinstance(answer, Exception) and WRONG_TYPE not in str(answer):
                raise answer
        *lengths, text = answers
        counted = [length for length in lengths if isinstance(length, int)]
        if counted:
            return max(counted)
        if isinstance(text, bytes):
            return int(text) if text.isdigit() else 1
        raise Unreadable(f"{self.name}: {key} is of a type that cannot be counted")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, OSError, UnicodeError) as error:
            told = self._address.without_secrets(str(error))
            reason = told.rstrip(".") or type(error).__name__
            if WRONG_TYPE in reason:
                reason = f"the key is not a {self._keys.kind}"
            raise Unreadable(f"{self.name}: {reason}") from None


def _id(text: Any) -> tuple[int, ...]:
    """An entry's id, which is two numbers."""
    return tuple(int(part) for part in _text(text).split("-"))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
