"""endpoint.toml in, a checked `Endpoint` out.

Invariant: a file that is refused is refused with all its faults, each with the line it stands on,
and no value of `env` is ever shown.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sotto.endpoint.faults import Fault, Key, faults, lines, told, without

QUEUE_IDLE_S = 10.0
LOAD_BALANCERS = frozenset({"load-balancer", "load-balancing", "lb"})
NO_LOAD_BALANCER = (
    "the worker takes its jobs from a queue and opens no port over which to balance load"
)
BY_THE_PLATFORM = ("RUNPOD_WEBHOOK_", "RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "RUNPOD_AI_API_KEY")
"""How the variables begin that the platform itself gives to its workers."""


class EndpointError(Exception):
    """One line for each fault of an endpoint.toml."""


class Workers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers there may be, and how long one stays without a job."""

    min: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            title="a whole number from 0 to 1000",
            description="Workers that are always there, jobs or not.",
        ),
    ] = 0
    max: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            title="a whole number from 0 to 1000",
            description="Workers at most; 0 takes jobs and runs none.",
        ),
    ] = 3
    idle_timeout_s: Annotated[
        Annotated[float, Meta(ge=1, le=3600)] | None,
        Meta(
            title="seconds from 1 to 3600",
            description="Seconds for which a worker without a job stays; not given: "
            f"{QUEUE_IDLE_S:g}. Not with `request_count`.",
        ),
    ] = None


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When another worker is started."""

    kind: Annotated[
        Literal["queue_delay", "request_count"],
        Meta(
            title="queue_delay or request_count",
            description="`queue_delay`: one more when a job has waited for `value` seconds; "
            "`request_count`: one for every `value` jobs.",
        ),
    ] = "queue_delay"
    value: Annotated[
        float,
        Meta(
            ge=0.5,
            le=1_000_000,
            title="a number from 0.5 to 1000000",
            description="Seconds for `queue_delay`, jobs for `request_count`.",
        ),
    ] = 4.0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint as its endpoint.toml describes it."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,190}\Z",
            title="3 to 191 letters, digits, dots, _ and -, with a letter or a digit in front",
            description="Name of the endpoint.",
        ),
    ]
    type: Annotated[
        Literal["queue"],
        Meta(title="queue", description="How jobs reach the workers."),
    ] = "queue"
    timeout_s: Annotated[
        float,
        Meta(
            ge=5,
            le=604_800,
            title="seconds from 5 to 604800",
            description="Seconds after which a running job is stopped, unless its own `policy` "
            "says otherwise. Keep it above the workers' `SOTTO_JOB_TIMEOUT_S`.",
        ),
    ] = 300.0
    workers: Annotated[Workers, Meta(description="The table `[workers]`.")] = Workers()
    scaling: Annotated[Scaling, Meta(description="The table `[scaling]`.")] = Scaling()
    env: Annotated[
        dict[
            Annotated[
                str,
                Meta(
                    pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z",
                    title="letters, digits and _, with no digit in front",
                ),
            ],
            Annotated[str, Meta(pattern=r"^[^\x00]*\Z", title="text in quotes")],
        ],
        Meta(description="Environment of the workers: their `SOTTO_*` settings."),
    ] = {}

    @property
    def idle_timeout_s(self) -> float:
        """Seconds for which a worker without a job stays, where the number of jobs permits it."""
        if self.scaling.kind == "request_count":
            return 0.0
        given = self.workers.idle_timeout_s
        return QUEUE_IDLE_S if given is None else given

    def __repr__(self) -> str:
        shown = (
            f"{name}={sorted(self.env) if name == 'env' else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"Endpoint({', '.join(shown)})"


def load(path: Path) -> Endpoint:
    """Read an endpoint.toml. Raises EndpointError with one line for each fault."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EndpointError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EndpointError(f"{path}: not text in UTF-8") from None
    return parse(text, str(path))


def parse(text: str, source: str = "endpoint.toml") -> Endpoint:
    """The endpoint that `text` describes; `source` names it in messages. Raises EndpointError."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise EndpointError(f"{source}: not TOML: nested too deeply") from None
    except ValueError as error:
        raise EndpointError(f"{source}: not TOML: {error}") from None
    found = [_explained(fault, table) for fault in faults(Endpoint, table)]
    wrong = {fault.key for fault in found}
    endpoint = msgspec.convert({"name": "unnamed", **without(table, wrong)}, Endpoint)
    found += [fault for keys, fault in _conflicts(endpoint) if wrong.isdisjoint(keys)]
    if found:
        line_of = lines(text)
        rows = sorted((line_of.get(key, 1), told(key), reason) for key, reason in found)
        raise EndpointError("\n".join(f"{source}:{n}: {key}: {why}" for n, key, why in rows))
    return endpoint


def _explained(fault: Fault, table: dict[str, object]) -> Fault:
    """The fault, with the reason why it is one where a person may well expect otherwise."""
    kind = str(table.get("type")).lower().replace("_", "-")
    if fault.key == ("type",) and kind in LOAD_BALANCERS:
        return Fault(fault.key, f"{fault.reason}: {NO_LOAD_BALANCER}")
    return fault


def _conflicts(endpoint: Endpoint) -> Iterator[tuple[set[Key], Fault]]:
    """Values that are each allowed but cannot act: the keys that say so, and the fault."""
    workers, scaling = endpoint.workers, endpoint.scaling
    least, most = ("workers", "min"), ("workers", "max")
    kind, value, idle = ("scaling", "kind"), ("scaling", "value"), ("workers", "idle_timeout_s")
    if workers.min > workers.max:
        reason = f"{workers.min} is more than workers.max, which is {workers.max}"
        yield {least, most}, Fault(least, reason)
    if scaling.kind == "request_count":
        if workers.idle_timeout_s is not None:
            reason = (
                f"{workers.idle_timeout_s:g} cannot act: with request_count the number of jobs "
                "alone decides when a worker goes; leave it out, or scale by queue_delay"
            )
            yield {kind, idle}, Fault(idle, reason)
        if scaling.value < 1 or scaling.value % 1:
            reason = f"{scaling.value:g} is not allowed; use a whole number of jobs, 1 or more"
            yield {kind, value}, Fault(value, reason)
    for name in endpoint.env:
        if name.startswith(BY_THE_PLATFORM):
            yield {("env", name)}, Fault(("env", name), "the platform sets this one; leave it out")
