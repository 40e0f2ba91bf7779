"""The pods that the watchdog may stop: which there are, and stopping one.

Invariant: a pod that was not chosen is neither kept nor touched, and nothing is asked of a pod but
to stop, which keeps its disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.watchdog.sight import Choice, Pod

PODS = "/v2/pods"
UP = frozenset({"PROVISIONING", "STARTING", "RUNNING"})


class StopFailed(Exception):
    """A pod was not stopped. `may_pass`: another try may help."""

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


# The API's answers hold more, and the platform adds to them: what is not needed is not looked at.
class _Named(msgspec.Struct, frozen=True):
    id: str
    name: str


class _Gpu(msgspec.Struct, frozen=True):
    util: float | None = None


class _Runtime(msgspec.Struct, frozen=True):
    gpus: tuple[_Gpu, ...] | None = None


class _Pod(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    name: str
    status: str
    actions: tuple[str, ...]
    locked: bool
    cost: float | None = None
    runtime: _Runtime | None = None
    started_at: str | None = None


class Pods:
    """The chosen pods of the account that `api` has the key of."""

    def __init__(self, api: Api, choice: Choice) -> None:
        self._api = api
        self._choice = choice

    def look(self) -> tuple[tuple[Pod, ...], tuple[str, ...]]:
        """The chosen pods, and why some of them, or all, cannot be seen."""
        try:
            answer = self._api.get(PODS)
        except ApiError as error:
            return (), (str(error),)
        if not isinstance(answer, dict) or not isinstance(answer.get("pods"), list):
            return (), (f"GET {PODS}: the answer is not a list of pods",)
        chosen = dict(self._chosen(answer["pods"]))
        seen: list[Pod] = []
        unseen = [
            f"there is no pod {pod_id}, or it is part of a cluster; correct --pod"
            for pod_id in self._choice.ids
            if pod_id not in chosen
        ]
        for pod_id, told in chosen.items():
            try:
                seen.append(_pod(told))
            except msgspec.ValidationError as error:
                unseen.append(f"GET {PODS}: {pod_id} is not told as a pod should be: {error}")
        return tuple(seen), tuple(unseen)

    def stop(self, pod_id: str) -> bool:
        """Stop a pod; it keeps its disk. Is it certainly down already? Raises StopFailed.

        Where it is not sure whether the API has acted, the pod itself is asked.
        """
        path = f"{PODS}/{pod_id}"
        try:
            return _is_down(self._api.post(f"{path}/action", {"action": "stop"}))
        except ApiError as error:
            if self._is_found_down(path):
                return True
            # A pod in another state than was thought may be in the right one next time.
            may_pass = error.may_pass or error.may_have_acted or error.status == 409
            raise StopFailed(str(error), may_pass=may_pass) from None

    def _is_found_down(self, path: str) -> bool:
        try:
            return _is_down(self._api.get(path))
        except ApiError as error:
            return error.status == 404

    def _chosen(self, listed: list[Any]) -> Iterator[tuple[str, Any]]:
        for one in listed:
            try:
                named = msgspec.convert(one, _Named)
            except msgspec.ValidationError:
                continue
            is_named = any(fnmatchcase(named.name, pattern) for pattern in self._choice.names)
            if is_named or named.id in self._choice.ids:
                yield named.id, one


def _is_down(told: Any) -> bool:
    """Is this a pod that is not up?"""
    try:
        return not _pod(told).is_up
    except msgspec.ValidationError:
        return False


def _pod(told: Any) -> Pod:
    """Raises msgspec.ValidationError."""
    pod = msgspec.convert(told, _Pod)
    gpus = (pod.runtime.gpus if pod.runtime is not None else None) or ()
    return Pod(
        pod_id=pod.id,
        name=pod.name,
        status=pod.status,
        is_up=pod.status in UP or "stop" in pod.actions,
        is_locked=pod.locked,
        gpu_percent=max((gpu.util for gpu in gpus if gpu.util is not None), default=None),
        usd_an_hour=pod.cost or 0.0,
        started_at=pod.started_at,
    )
