"""What `sotto endpoint plan`, `apply`, `status` and `destroy` do.

Invariant: what is asked for goes to the standard output, all else to the standard error; an
interrupt ends any of them with exit code 130 and a line that says what exists now.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sotto.endpoint import destroy, output, plan, status, told
from sotto.endpoint.api import Api, ApiError, api_url, jobs_url, key_from
from sotto.endpoint.apply import UNCHANGED, Account, Applying
from sotto.endpoint.commands import CHANGES
from sotto.endpoint.config import Endpoint, EndpointError, load
from sotto.endpoint.deployment import DeployError, wanted
from sotto.endpoint.live import find
from sotto.endpoint.waiting import Waiting

FAILED = 1
INTERRUPTED = 130
TO_DEPLOY = frozenset({"plan", "apply"})
"""The commands for which the file needs what RunPod needs; the others work on what is there."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with. `api` is at the REST API, `jobs_api` where jobs go."""

    endpoint: Endpoint
    api: Api
    jobs_api: Api
    account: Account


def run(args: argparse.Namespace) -> int:
    """Run a command with all that it works with. Gives back the exit code."""
    name: str = args.endpoint_command
    try:
        endpoint = load(args.endpoint, to_deploy=name in TO_DEPLOY)
        with _desk(endpoint) as desk:
            try:
                return ACTIONS[name](args, desk)
            except KeyboardInterrupt:
                return _interrupted(desk)
            except (DeployError, ApiError) as error:
                _say(str(error))
                if desk.account.is_open:
                    _say(desk.account.said)
                return FAILED
    except KeyboardInterrupt:
        return _stopped(UNCHANGED)
    except (EndpointError, ApiError) as error:
        _say(str(error))
        return FAILED


@contextmanager
def _desk(endpoint: Endpoint) -> Iterator[Desk]:
    key = key_from(os.environ)
    with Api(key, api_url(os.environ)) as api, Api(key, jobs_url(os.environ)) as jobs_api:
        yield Desk(endpoint, api, jobs_api, Account(endpoint.name))


def _plan(args: argparse.Namespace, desk: Desk) -> int:
    made = plan.make(desk.api, wanted(desk.endpoint, os.environ))
    if args.json:
        _print_json(told.as_json(made))
    else:
        _print_lines(told.lines(made))
    return CHANGES if args.exit_code and made.changes else 0


def _apply(args: argparse.Namespace, desk: Desk) -> int:
    target = wanted(desk.endpoint, os.environ)
    made = plan.make(desk.api, target)
    _print_lines(told.lines(made))
    id_ = None if made.live is None else made.live.id
    if made.changes:
        id_ = Applying(desk.api, desk.account).converge(target, id_)
        _print_lines([f"'{target.name}' ({id_}) is as the file says now."])
    elif id_ is not None:
        there = f"the endpoint '{target.name}' exists ({id_}), as the file says"
        desk.account.say(there, is_open=False)
    if args.wait_s and id_ is not None:
        least = min(target.workers_min or 0, target.workers_max or 0)
        waiting = Waiting(desk.api, desk.jobs_api, _say)
        _print_lines([f"Ready: {waiting.until_it_answers(id_, least, args.wait_s)}."])
    return 0


def _status(args: argparse.Namespace, desk: Desk) -> int:
    live = find(desk.api, desk.endpoint.name)
    if live is None:
        raise DeployError(f"there is no endpoint called '{desk.endpoint.name}'")
    found = status.observe(desk.api, desk.jobs_api, live)
    if args.json:
        _print_json(status.as_json(found))
    else:
        _print_lines(status.lines(found))
    return 0


def _destroy(args: argparse.Namespace, desk: Desk) -> int:
    name = desk.endpoint.name
    live = destroy.target(desk.api, name, args.id)
    if live is None:
        _print_lines([f"there is no endpoint called '{name}'; nothing to destroy"])
        return 0
    desk.account.say(destroy.kept(live), is_open=False)
    _say(destroy.at_stake(desk.api, desk.jobs_api, live))
    if not args.yes and not destroy.confirmed(name, sys.stdin, _ask):
        raise DeployError("nothing was destroyed: that is not its name")
    destroy.destroy(desk.api, live, desk.account)
    _print_lines([f"'{name}' ({live.id}) is destroyed."])
    return 0


def _interrupted(desk: Desk) -> int:
    """Say what exists; a second interrupt stops the look for it."""
    try:
        return _stopped(desk.account.interrupted(desk.api))
    except KeyboardInterrupt:
        return _stopped(desk.account.said)


def _stopped(what: str) -> int:
    _say(f"\nstopped: {what}")
    return INTERRUPTED


def _say(line: str) -> None:
    output.write(sys.stderr, f"{line}\n")


def _ask(question: str) -> None:
    output.write(sys.stderr, question)


def _print_lines(lines: Iterable[str]) -> None:
    output.write(sys.stdout, "".join(f"{line}\n" for line in lines))


def _print_json(table: dict[str, Any]) -> None:
    _print_lines([json.dumps(table, indent=2)])


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Desk], int]] = {
    "plan": _plan,
    "apply": _apply,
    "status": _status,
    "destroy": _destroy,
}
