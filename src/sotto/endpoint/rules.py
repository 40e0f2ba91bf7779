"""Values of an endpoint.toml that are each allowed but do not go together, or not to RunPod.

Invariant: a rule names every key that takes part in it, so that no fault is told twice, and no
value of the environment is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sotto.endpoint.faults import Fault, Key
from sotto.endpoint.shape import MARGIN_S, Endpoint

JOB_TIMEOUT = "SOTTO_JOB_TIMEOUT_S"
LEAST_JOB_S = 5.0
BY_THE_PLATFORM = ("RUNPOD_WEBHOOK_", "RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "RUNPOD_AI_API_KEY")
"""How the variables begin that the platform itself gives to its workers."""
LISTS: tuple[Key, ...] = (
    ("gpu", "pools"),
    ("gpu", "excluded_types"),
    ("data_centers",),
    ("network_volumes",),
    ("env_from",),
)

Conflict = tuple[set[Key], Fault]


def conflicts(endpoint: Endpoint) -> Iterator[Conflict]:
    """What cannot act as it stands, wherever the endpoint runs: the keys, and the fault."""
    yield from _workers(endpoint)
    yield from _scaling(endpoint)
    yield from _environment(endpoint)
    for key in LISTS:
        values = getattr(endpoint.gpu if key[0] == "gpu" else endpoint, key[-1])
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            yield {key}, Fault(key, f"{twice!r} stands there more than once")


def undeployable(endpoint: Endpoint) -> Iterator[Conflict]:
    """What RunPod cannot run, though this machine can: the keys, and the fault."""
    image, pools, idle = ("image",), ("gpu", "pools"), ("workers", "idle_timeout_s")
    if endpoint.image is None:
        yield {image}, Fault(image, "missing; RunPod needs the name of a Docker image with its tag")
    if not endpoint.gpu.pools:
        reason = 'missing; RunPod needs one GPU pool or more, such as ["ADA_24"]'
        yield {pools}, Fault(pools, reason)
    given = endpoint.workers.idle_timeout_s
    if given is not None and given % 1:
        yield {idle}, Fault(idle, f"{given:g} is not allowed on RunPod; use whole seconds")
    reason = too_short(endpoint, "RunPod")
    if reason:
        timeout = ("timeout_s",)
        yield {timeout, ("env", JOB_TIMEOUT)}, Fault(timeout, reason)


def too_short(endpoint: Endpoint, platform: str) -> str:
    """Why `timeout_s` leaves a job on that platform no time; "" if it does leave some."""
    least_s = MARGIN_S + LEAST_JOB_S
    if JOB_TIMEOUT in _variables(endpoint) or endpoint.timeout_s >= least_s:
        return ""
    return (
        f"{endpoint.timeout_s:g} leaves too little: a worker stops a job {MARGIN_S:g} s before "
        f"{platform} does; use {least_s:g} or more, or set env.{JOB_TIMEOUT}"
    )


def _workers(endpoint: Endpoint) -> Iterator[Conflict]:
    workers = endpoint.workers
    least, most = ("workers", "min"), ("workers", "max")
    if workers.min > workers.max:
        reason = f"{workers.min} is more than workers.max, which is {workers.max}"
        yield {least, most}, Fault(least, reason)


def _scaling(endpoint: Endpoint) -> Iterator[Conflict]:
    scaling, idle_timeout_s = endpoint.scaling, endpoint.workers.idle_timeout_s
    kind, value, idle = ("scaling", "kind"), ("scaling", "value"), ("workers", "idle_timeout_s")
    if scaling.kind != "request_count":
        return
    if idle_timeout_s is not None:
        reason = (
            f"{idle_timeout_s:g} cannot act: with request_count the number of jobs "
            "alone decides when a worker goes; leave it out, or scale by queue_delay"
        )
        yield {kind, idle}, Fault(idle, reason)
    if scaling.value < 1 or scaling.value % 1:
        reason = f"{scaling.value:g} is not allowed; use a whole number of jobs, 1 or more"
        yield {kind, value}, Fault(value, reason)


def _environment(endpoint: Endpoint) -> Iterator[Conflict]:
    for key, name in _named(endpoint):
        if name.startswith(BY_THE_PLATFORM):
            yield {key}, Fault(key, _about(key, name, "the platform sets this one; leave it out"))
        if key[0] != "env" and name in endpoint.env:
            reason = _about(key, name, "also in env; give it once")
            yield {key, ("env", name)}, Fault(key, reason)
        if key[0] == "env_from" and name in endpoint.secrets:
            reason = _about(key, name, "also in secrets; give it once")
            yield {key, ("secrets", name)}, Fault(key, reason)
    given = endpoint.env.get(JOB_TIMEOUT)
    if given is not None and not 0 < _seconds(given) < endpoint.timeout_s:
        key = ("env", JOB_TIMEOUT)
        reason = (
            "not a number of seconds below timeout_s, which is "
            f"{endpoint.timeout_s:g}: RunPod would stop a job before its worker can answer; lower "
            "it, or leave it out"
        )
        yield {key, ("timeout_s",)}, Fault(key, reason)


def _named(endpoint: Endpoint) -> Iterator[tuple[Key, str]]:
    """Where each variable of the workers is given, and its name."""
    yield from ((("env", name), name) for name in endpoint.env)
    yield from ((("secrets", name), name) for name in endpoint.secrets)
    yield from ((("env_from",), name) for name in endpoint.env_from)


def _variables(endpoint: Endpoint) -> set[str]:
    return {name for _, name in _named(endpoint)}


def _about(key: Key, name: str, reason: str) -> str:
    """A reason that names the variable where the key does not."""
    return f"{name}: {reason}" if key == ("env_from",) else reason


def _seconds(text: str) -> float:
    """The number that `text` is; NaN for none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
