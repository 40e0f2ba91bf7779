"""An endpoint as RunPod shall run it, or runs it: one form for both, so that they can be compared.

Invariant: no value of the environment is part of a representation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sotto.endpoint.rules import JOB_TIMEOUT
from sotto.endpoint.shape import MARGIN_S, Endpoint

SECRET = "{{{{ RUNPOD_SECRET_{name} }}}}"  # noqa: S105 - a reference, which RunPod resolves
DEFAULT_REVISION = "main"


class DeployError(Exception):
    """Why an endpoint is not as it should be: a line or more for the one who asked."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What RunPod is told of an endpoint, in the words of endpoint.toml.

    None: of what is wanted, that the file leaves it to RunPod; of what is live, that RunPod does
    not tell. `registry` is "" for none, `min_cuda` "" for any, `cached_model` "" for none.
    `idle_timeout_s` is 0 where the number of jobs decides. `kind` is "queue" for what can be
    compared at all.
    """

    name: str
    kind: str | None
    image: str | None
    registry: str | None
    disk_gb: int | None
    timeout_s: float | None
    flashboot: str | None
    data_centers: tuple[str, ...] | None
    network_volumes: tuple[str, ...] | None
    cached_model: str | None
    pools: tuple[str, ...] | None
    excluded_types: tuple[str, ...] | None
    gpu_count: int | None
    min_cuda: str | None
    allowed_cuda: tuple[str, ...] | None
    workers_min: int | None
    workers_max: int | None
    idle_timeout_s: int | None
    scaling: str | None
    scaling_value: float | None
    env: Mapping[str, str] = field(repr=False)


def wanted(endpoint: Endpoint, environ: Mapping[str, str]) -> Deployment:
    """What `endpoint` asks of RunPod. Raises DeployError with a line for each variable that is not
    set or no text."""
    return Deployment(
        name=endpoint.name,
        kind="queue",
        image=endpoint.image,
        registry=endpoint.registry or "",
        disk_gb=endpoint.disk_gb,
        timeout_s=round(endpoint.timeout_s, 3),
        flashboot=endpoint.flashboot,
        data_centers=endpoint.data_centers,
        network_volumes=endpoint.network_volumes,
        cached_model=_with_revision(endpoint.cached_model),
        pools=endpoint.gpu.pools,
        excluded_types=endpoint.gpu.excluded_types,
        gpu_count=endpoint.gpu.count,
        min_cuda=endpoint.gpu.min_cuda or "",
        allowed_cuda=(),
        workers_min=endpoint.workers.min,
        workers_max=endpoint.workers.max,
        idle_timeout_s=round(endpoint.idle_timeout_s),
        scaling=endpoint.scaling.kind,
        scaling_value=endpoint.scaling.value,
        env=_environment(endpoint, environ),
    )


def _environment(endpoint: Endpoint, environ: Mapping[str, str]) -> dict[str, str]:
    """All variables of the workers, and how long a job of theirs may run."""
    faults = [
        f"env_from: {name}: {fault}"
        for name in endpoint.env_from
        if (fault := _fault(environ.get(name, "")))
    ]
    if faults:
        raise DeployError("\n".join(faults))
    given = {
        **endpoint.env,
        **{variable: SECRET.format(name=name) for variable, name in endpoint.secrets.items()},
        **{name: environ[name] for name in endpoint.env_from},
    }
    return {JOB_TIMEOUT: f"{endpoint.timeout_s - MARGIN_S:g}", **given}


def _fault(value: str) -> str:
    """Why a value cannot be sent; "" if it can."""
    if not value:
        return "not set here; set it"
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that are no text come as surrogates
        return "not text in UTF-8; set it to some"
    return ""


def _with_revision(model: str | None) -> str | None:
    """The model with the revision that is meant where none is given."""
    return f"{model}:{DEFAULT_REVISION}" if model and ":" not in model else model
