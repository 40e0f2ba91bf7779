"""`sotto endpoint watchdog`: stops pods once a queue has been empty for long enough.

Invariant: a pod is never stopped on what is not known, and what is not known for long is told.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from sotto.endpoint.watchdog import report
from sotto.endpoint.watchdog.arguments import add_arguments
from sotto.endpoint.watchdog.interruption import Interrupted, Interruption
from sotto.endpoint.watchdog.redis_queue import RedisQueue
from sotto.endpoint.watchdog.refusal import WatchdogError
from sotto.endpoint.watchdog.report import Exit, Outcome
from sotto.endpoint.watchdog.sight import Queue
from sotto.endpoint.watchdog.state import Held, State
from sotto.endpoint.watchdog.watch import Watch, state_file, watch

__all__ = ["add_arguments", "run"]

TIMEOUT_S = 10.0
"""The longest an answer of the API may take: another look is never far."""


def run(args: argparse.Namespace) -> int:
    """Watch once, or until SIGINT or SIGTERM. Gives back the exit code."""
    from sotto.endpoint.api import ApiError  # requests takes its time

    try:
        wanted = watch(args, os.environ)
        state = State(state_file(args, os.environ, wanted.digest), wanted.digest)
        return _run(wanted, state, os.environ)
    except (ApiError, WatchdogError) as error:
        sys.stderr.write(f"{error}\n")
        return Exit.REFUSED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _run(wanted: Watch, state: State, environ: Mapping[str, str]) -> Exit:
    from sotto.endpoint.api import Api, api_url, jobs_url, key_from
    from sotto.endpoint.watchdog.health import EndpointQueue
    from sotto.endpoint.watchdog.loop import Tools, Watchdog
    from sotto.endpoint.watchdog.pods import Pods

    with ExitStack() as opened:
        interruption = opened.enter_context(Interruption())
        pause = interruption.pause

        def api(url: str) -> Api:
            made = Api(key_from(environ), url, timeout_s=TIMEOUT_S, pause=pause)
            return opened.enter_context(made)

        pods = Pods(api(api_url(environ)), wanted.choice)
        queue: Queue
        if isinstance(wanted.queue, str):
            queue = EndpointQueue(api(jobs_url(environ)), wanted.queue)
        else:
            queue = RedisQueue(wanted.queue)
        try:
            opened.enter_context(state)
        except Held as held:
            report.write(report.line(Outcome.SKIPPED, str(held), queue.name))
            return Exit.HELD
        tools = Tools(report.write, pause, completing=interruption.completing)
        dog = Watchdog(wanted.rules, queue, pods, state, tools)
        own_pod_id = environ.get("RUNPOD_POD_ID", "")
        try:
            while True:
                code = dog.turn(is_dry=wanted.is_dry, own_pod_id=own_pod_id)
                if wanted.is_once:
                    return code
                pause(wanted.every_s)
        except Interrupted:
            return Exit.INTERRUPTED if wanted.is_once else Exit.DECIDED
