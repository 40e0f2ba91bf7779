"""Wait until an endpoint answers: its health, and the workers that are to be always there.

Invariant: reads only; each state is told once, when it comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.deployment import DeployError
from sotto.endpoint.live import counted, jobs, ready, workers

POLL_S = 2.0
REFUSALS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where to ask (`jobs_api`: at JOBS_URL), whom to tell, and how time passes."""

    api: Api
    jobs_api: Api
    say: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until_it_answers(self, id_: str, least: int, longest_s: float) -> str:
        """Return, with the state in words, once it answers and `least` workers are ready.

        Raises DeployError after `longest_s`, ApiError if the key may not ask.
        """
        start_s = self.clock()
        told = ""
        while True:
            is_ready, state = self._state(id_, least)
            passed_s = self.clock() - start_s
            if is_ready:
                return state
            if state != told:
                self.say(f"{passed_s:4.0f} s  {state}")
                told = state
            if passed_s >= longest_s:
                raise DeployError(
                    f"the endpoint {id_} is there as the file says, but after {longest_s:g} s "
                    f"{state}; `sotto endpoint status` goes on looking, and its logs in RunPod's "
                    "console say why"
                )
            self.pause(min(POLL_S, longest_s - passed_s))

    def _state(self, id_: str, least: int) -> tuple[bool, str]:
        try:
            jobs(self.jobs_api, id_)
            if not least:
                return True, "it answers; a worker starts with the first job"
            crew = workers(self.api, id_)
        except ApiError as error:
            if error.status in REFUSALS:
                raise
            return False, f"it does not answer yet ({error})"
        able = ready(crew)
        state = f"{able} of {least} workers ready; workers: {counted(crew)}"
        return able >= least, state
