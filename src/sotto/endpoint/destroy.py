"""An endpoint taken away, once somebody has typed its name.

Invariant: nothing is destroyed without a yes: the name, typed at a terminal, or a script's flag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.apply import Account
from sotto.endpoint.deployment import DeployError
from sotto.endpoint.ids import ID
from sotto.endpoint.live import ENDPOINTS, counted, find, jobs, look_at, workers
from sotto.endpoint.wire import Live


def target(api: Api, name: str, id_: str | None) -> Live | None:
    """The endpoint called `name`, the one with this id if there are several.

    None if there is none. Raises ApiError, DeployError.
    """
    if id_ is None:
        return find(api, name)
    if not ID.fullmatch(id_):
        raise DeployError(f"--id: {id_!r} is not an id of an endpoint")
    try:
        found = look_at(api, id_)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    if found.deployment.name != name:
        raise DeployError(
            f"--id: {id_} is called '{found.deployment.name}', but the file describes '{name}'"
        )
    return found


def at_stake(api: Api, jobs_api: Api, live: Live) -> str:
    """What would be lost, in words; what cannot be had is unknown."""
    try:
        crew = counted(workers(api, live.id))
    except ApiError:
        crew = "unknown"
    try:
        found = jobs(jobs_api, live.id)
        waiting, running = found.waiting, found.running
    except ApiError:
        waiting = running = None
    queue = " and ".join(
        f"{'an unknown number of' if number is None else number} {state}"
        for number, state in ((waiting, "waiting"), (running, "running"))
    )
    return (
        f"'{live.deployment.name}' ({live.id}): workers: {crew}; jobs: {queue}. Destroying it "
        "stops its workers, cancels its jobs and cannot be taken back."
    )


def confirmed(name: str, answers: TextIO, ask: Callable[[str], None]) -> bool:
    """Does somebody at a terminal type the name? Raises DeployError where nobody can."""
    if not answers.isatty():
        raise DeployError(
            "nothing was destroyed: there is no terminal to ask at; give --yes to do it unasked"
        )
    ask(f"Type its name to destroy it ({name}): ")
    return answers.readline().strip() == name


def kept(live: Live) -> str:
    """What there is to say while nothing was done to the endpoint."""
    return f"the endpoint '{live.deployment.name}' exists ({live.id}); nothing has been destroyed"


def destroy(api: Api, live: Live, account: Account) -> None:
    """Take the endpoint away. Raises ApiError."""
    which = f"'{live.deployment.name}' ({live.id})"
    account.say(f"{which} may be destroyed or not; destroy again to finish it", is_open=True)
    try:
        api.delete(f"{ENDPOINTS}/{live.id}")
    except ApiError as error:
        if error.status != 404:  # somebody else was faster
            if not error.may_have_acted:
                account.say(kept(live), is_open=True)
            raise
    account.say(f"{which} is destroyed", is_open=False)
