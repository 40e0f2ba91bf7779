"""The options in, what to watch and how out.

Invariant: an option that cannot act is refused, and all that is wrong is told at once.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sotto.endpoint import folders
from sotto.endpoint.ids import ID
from sotto.endpoint.watchdog.arguments import EVERY_S
from sotto.endpoint.watchdog.decide import Rules
from sotto.endpoint.watchdog.redis_address import REDIS_VARIABLE, address
from sotto.endpoint.watchdog.redis_queue import Keys, RedisSource
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.sight import Choice


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched and how. `queue`: keys in Redis, or the id of an endpoint."""

    queue: RedisSource | str
    choice: Choice
    rules: Rules
    every_s: float
    is_once: bool
    is_dry: bool

    @property
    def digest(self) -> str:
        """What stands for the queue, the pods and the rules: the same for the same."""
        queue = self.queue
        told = queue if isinstance(queue, str) else (queue.address.shown, queue.keys)
        about = msgspec.json.encode((told, self.choice, self.rules))
        return hashlib.sha256(about).hexdigest()[:16]


def watch(args: argparse.Namespace, environ: Mapping[str, str]) -> Watch:
    """What the options ask for. Raises WatchdogError with one line for each fault."""
    rules = Rules(args.idle_s, args.alarm_s, args.gpu_busy_percent)
    faults = [*_pod_faults(args), *_pause_faults(args, rules), *_state_faults(args)]
    queue: RedisSource | str = args.endpoint or ""
    if args.endpoint is not None:
        faults += _endpoint_faults(args)
    else:
        faults += _key_faults(args)
        try:
            url = environ.get(REDIS_VARIABLE, "") if args.redis is None else args.redis
            queue = RedisSource(address(url), _keys(args))
        except WatchdogError as error:
            faults.append(str(error))
    if faults:
        raise WatchdogError("\n".join(faults))
    return Watch(
        queue=queue,
        choice=Choice(tuple(args.pod), tuple(args.pod_name)),
        rules=rules,
        every_s=args.every_s or min(EVERY_S, rules.longest_pause_s),
        is_once=args.once,
        is_dry=args.dry_run,
    )


def state_file(args: argparse.Namespace, environ: Mapping[str, str], digest: str) -> Path:
    """Where the idle time is kept: the file that is named, or one for just these options."""
    if args.state is not None:
        return Path(args.state)
    return folders.state(environ) / f"watchdog-{digest}.json"


def _keys(args: argparse.Namespace) -> Keys:
    processing = tuple(args.processing)
    if args.redis_list is not None:
        return Keys("list", args.redis_list, None, processing)
    return Keys("stream", args.redis_stream, args.group, processing)


def _pod_faults(args: argparse.Namespace) -> Iterator[str]:
    if not args.pod and not args.pod_name:
        yield "--pod, --pod-name: name the pods that may be stopped"
    for pod_id in args.pod:
        if not ID.fullmatch(pod_id):
            yield f"--pod: {pod_id!r} is not the id of a pod"
    if "" in args.pod_name:
        yield "--pod-name: an empty pattern fits no pod"


def _state_faults(args: argparse.Namespace) -> Iterator[str]:
    if args.state is None:
        return
    if not args.state.name:
        yield f"--state: {args.state} is a folder; name a file"
    if not _is_text(str(args.state)):
        yield "--state: not text in UTF-8; name another file"


def _is_text(text: str) -> bool:
    """Can it be told in a line of JSON?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _endpoint_faults(args: argparse.Namespace) -> Iterator[str]:
    if not ID.fullmatch(args.endpoint):
        yield f"--endpoint: {args.endpoint!r} is not the id of an endpoint"
    for name in ("redis", "group", "processing"):
        if getattr(args, name) not in (None, []):
            yield f"--{name}: cannot act with --endpoint; leave it out"


def _key_faults(args: argparse.Namespace) -> Iterator[str]:
    if args.group is not None and args.redis_stream is None:
        yield "--group: only a stream has groups; use --redis-stream, or leave it out"
    names = (args.redis_list, args.redis_stream, args.group, *args.processing)
    if "" in names:
        yield "--redis-list, --redis-stream, --group, --processing: a name is empty"


def _pause_faults(args: argparse.Namespace, rules: Rules) -> Iterator[str]:
    if args.every_s is not None and args.once:
        yield "--every-s: cannot act with --once; leave one of them out"
    if args.every_s is not None and args.every_s > rules.longest_pause_s:
        yield (
            f"--every-s: {args.every_s:g} is too seldom for --idle-s {args.idle_s:g}; use "
            f"{rules.longest_pause_s:g} or less"
        )
