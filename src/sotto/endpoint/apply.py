"""A `Deployment` made so: created or updated, and seen to be what was wanted.

Invariant: at most one create is ever sent, and only where no endpoint of the name was seen; a
create whose answer was lost is looked for by name. An account of what is known to exist is kept
from before each request that changes something, for the one who interrupts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sotto.endpoint import models_api
from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.deployment import DeployError, Deployment
from sotto.endpoint.difference import Change, difference
from sotto.endpoint.live import ENDPOINTS, find
from sotto.endpoint.plan import current
from sotto.endpoint.wire import create_body, live, update_body

LOOKS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""The pauses before each look for an endpoint whose creation was not confirmed."""
ROUNDS = 2
"""How often what RunPod did not take is sent: once more, as caching a model replaces the rest."""


UNCHANGED = "nothing has been changed"


@dataclass
class Account:
    """What is known to exist, in words.

    `is_open`: something was sent that is not finished. `is_unsure`: it is a create, and whether it
    was carried out is not known.
    """

    name: str
    said: str = UNCHANGED
    is_open: bool = False
    is_unsure: bool = False

    def say(self, what: str, *, is_open: bool, is_unsure: bool = False) -> None:
        """Write down what exists now, or may."""
        self.said, self.is_open, self.is_unsure = what, is_open, is_unsure

    def interrupted(self, api: Api) -> str:
        """What exists now; looks by name if that is unsure."""
        if not self.is_unsure:
            return self.said
        try:
            found = find(api, self.name)
        except (ApiError, DeployError) as error:
            return f"{self.said} ({error})"
        if found is None:
            return f"{self.said}; it is not there so far"
        return f"the endpoint '{self.name}' exists ({found.id}); apply again to finish it"


class Applying:
    """One apply. `pause` sleeps; `account` is kept up to date for whoever is interrupted."""

    def __init__(
        self, api: Api, account: Account, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._api = api
        self._account = account
        self._pause = pause

    def converge(self, wanted: Deployment, id_: str | None) -> str:
        """Make it so, with the endpoint `id_` or a new one. Gives back the endpoint's id.

        Raises ApiError, and DeployError if RunPod keeps something else.
        """
        if id_ is None:
            id_ = self._create(wanted)
        unanswered: ApiError | None = None
        for _ in range(ROUNDS):
            changes = self._remaining(wanted, id_)
            if not changes:
                break
            unanswered = self._update(wanted, id_, changes)
        else:
            changes = self._remaining(wanted, id_)
            if changes:
                self._fail(unanswered, changes)
        made = f"the endpoint '{wanted.name}' exists ({id_}), as the file says"
        self._account.say(made, is_open=False)
        find(self._api, wanted.name)  # raises if somebody else has made another one meanwhile
        return id_

    def _remaining(self, wanted: Deployment, id_: str) -> tuple[Change, ...]:
        return difference(current(self._api, id_, wanted).deployment, wanted)

    def _create(self, wanted: Deployment) -> str:
        account = self._account
        self._sent(wanted.name, "not answered")
        unsure: ApiError | None = None
        try:
            made = live(self._api.post(ENDPOINTS, create_body(wanted)))
        except ApiError as error:
            if not error.may_have_acted:
                account.say(UNCHANGED, is_open=False)
                raise
            made, unsure = None, error
        id_ = self._found_again(wanted.name, unsure) if made is None else made.id
        made_so_far = f"the endpoint '{wanted.name}' exists ({id_}); apply again to finish it"
        account.say(made_so_far, is_open=True)
        return id_

    def _sent(self, name: str, lacks: str) -> None:
        """Write down that a create was sent, and what it lacks."""
        self._account.say(
            f"the creation of '{name}' was sent, but {lacks}: it may exist or appear soon; look "
            "with `sotto endpoint plan` before you apply again",
            is_open=True,
            is_unsure=True,
        )

    def _found_again(self, name: str, unsure: ApiError | None) -> str:
        """The id of an endpoint whose creation was not confirmed; `unsure` is what came instead.

        Raises ApiError, and DeployError with what came instead if there is none.
        """
        is_silent = unsure is not None and unsure.status is None
        lacks = "not answered" if is_silent else "not confirmed"
        self._sent(name, lacks)
        for pause_s in LOOKS_S:
            self._pause(pause_s)
            found = find(self._api, name)
            if found is not None:
                return found.id
        raise DeployError(
            f"there is no '{name}' {sum(LOOKS_S):g} s after its creation was sent, which was "
            f"{lacks}{'' if unsure is None else f': {unsure}'}"
        )

    def _update(self, wanted: Deployment, id_: str, changes: tuple[Change, ...]) -> ApiError | None:
        """Send the changes. Gives back the error if they may be in force nevertheless."""
        self._account.say(
            f"the endpoint '{wanted.name}' exists ({id_}); an update was sent that may be in force "
            "or not; apply again to finish it",
            is_open=True,
        )
        fields = {change.field for change in changes}
        try:
            if "cached_model" in fields:
                models_api.cache_model(self._api, id_, wanted.cached_model or "")
            body = update_body(wanted, fields)
            if body:
                self._api.patch(f"{ENDPOINTS}/{id_}", body)
        except ApiError as error:
            if not error.may_have_acted:
                there = f"the endpoint '{wanted.name}' exists ({id_}), but not as the file says"
                self._account.say(there, is_open=True)
                raise
            return error
        return None

    def _fail(self, unanswered: ApiError | None, changes: tuple[Change, ...]) -> NoReturn:
        if unanswered is not None:
            raise unanswered
        kept = "; ".join(
            f"{one.key} is {one.before}, not {one.after}" if one.after else one.key
            for one in changes
        )
        raise DeployError(f"RunPod took the update but keeps something else: {kept}")
