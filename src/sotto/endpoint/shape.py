"""What an endpoint.toml may hold: a struct for each of its tables.

Invariant: each field says what it takes (`title`) and what it does (`description`); faults and the
tables in the documents are made from that, and no default is written anywhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

QUEUE_IDLE_S = 10.0
MARGIN_S = 15.0
"""How long before the platform stops a job its worker does: time to answer with an error."""

VariableName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z", title="letters, digits and _, with no digit in front"
    ),
]
PoolName = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]{1,60}\Z")]
DataCenter = Annotated[str, Meta(pattern=r"^[A-Z0-9]+(-[A-Z0-9]+)+\Z")]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,190}\Z")]
GpuType = Annotated[str, Meta(pattern=r"^[^\s\x00-\x1f,-][^\x00-\x1f,]{0,190}\Z")]


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On which GPUs workers run."""

    pools: Annotated[
        tuple[PoolName, ...],
        Meta(
            max_length=20,
            title='a list of RunPod\'s GPU pools, such as ["ADA_24", "AMPERE_24"]',
            description="GPU pools, the one you like best first; a worker runs where there "
            "is room. Needed to deploy.",
        ),
    ] = ()
    excluded_types: Annotated[
        tuple[GpuType, ...],
        Meta(
            max_length=100,
            title='a list of GPU types, such as ["NVIDIA L4"]',
            description="GPU types of these pools that are not to be used.",
        ),
    ] = ()
    count: Annotated[int, Meta(ge=1, le=1, title="1", description="GPUs of a worker.")] = 1
    min_cuda: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9]{1,3}\.[0-9]{1,3}\Z")] | None,
        Meta(
            title='a version as text, such as "12.4"',
            description="Lowest version of CUDA that a machine may have; not given: any.",
        ),
    ] = None


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
            f"{QUEUE_IDLE_S:g}. Whole ones to deploy. Not with `request_count`.",
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
    image: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][^\s\x00-\x1f\"'`$]{0,500}\Z")] | None,
        Meta(
            title='the name of a Docker image with its tag, such as "me/sotto:1.2.0"',
            description="Image of the workers, with a tag of its own for each build. Needed to "
            "deploy.",
        ),
    ] = None
    registry: Annotated[
        Identifier | None,
        Meta(
            title="an id of RunPod's",
            description="Id of the container registry credential for a private image.",
        ),
    ] = None
    disk_gb: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(
            title="a whole number from 1 to 100000",
            description="Disk of a worker in GB; not given: as RunPod has it.",
        ),
    ] = None
    timeout_s: Annotated[
        float,
        Meta(
            ge=5,
            le=604_800,
            title="seconds from 5 to 604800",
            description="Seconds after which a running job is stopped; its own `policy` can "
            f"shorten that, not lengthen it: the workers get {MARGIN_S:g} fewer as their "
            "`SOTTO_JOB_TIMEOUT_S`, so that a job ends with an answer; where `env` sets it, it is "
            "to be lower than this.",
        ),
    ] = 300.0
    flashboot: Annotated[
        Literal["off", "on", "priority"],
        Meta(
            title="off, on or priority",
            description="FlashBoot: a worker that went is kept ready to come back.",
        ),
    ] = "off"
    data_centers: Annotated[
        tuple[DataCenter, ...],
        Meta(
            max_length=100,
            title='a list of data centers, such as ["EU-RO-1"]',
            description="Data centers where workers may run; none: all.",
        ),
    ] = ()
    network_volumes: Annotated[
        tuple[Identifier, ...],
        Meta(
            max_length=100,
            title="a list of ids of RunPod's",
            description="Ids of the network volumes below `/runpod-volume`, one for a data center.",
        ),
    ] = ()
    cached_model: Annotated[
        Annotated[
            str,
            Meta(pattern=r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[A-Za-z0-9][\w./-]*)?)?\Z"),
        ]
        | None,
        Meta(
            title='a repository of Hugging Face, such as "org/model" or "org/model:revision"',
            description='Repository that RunPod keeps near the workers; `""` takes it away, not '
            "given: as it is.",
        ),
    ] = None
    gpu: Annotated[Gpu, Meta(description="The table `[gpu]`.")] = Gpu()
    workers: Annotated[Workers, Meta(description="The table `[workers]`.")] = Workers()
    scaling: Annotated[Scaling, Meta(description="The table `[scaling]`.")] = Scaling()
    env: Annotated[
        dict[VariableName, Annotated[str, Meta(pattern=r"^[^\x00]*\Z", title="text in quotes")]],
        Meta(description="Environment of the workers: their `SOTTO_*` settings."),
    ] = {}
    secrets: Annotated[
        dict[
            VariableName,
            Annotated[
                str,
                Meta(
                    pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,190}\Z",
                    title="the name of a secret of RunPod's in quotes, not the secret",
                ),
            ],
        ],
        Meta(
            description="More of the environment: for each variable the name of the RunPod secret "
            "that holds its value. `sotto serve` leaves them out."
        ),
    ] = {}
    env_from: Annotated[
        tuple[VariableName, ...],
        Meta(
            max_length=100,
            title='a list of variables, such as ["SOTTO_HUB_TOKEN"]',
            description="More of the environment: variables that are taken from your own when you "
            "deploy.",
        ),
    ] = ()

    @property
    def idle_timeout_s(self) -> float:
        """Seconds for which a worker without a job stays, where the number of jobs permits it."""
        if self.scaling.kind == "request_count":
            return 0.0
        given = self.workers.idle_timeout_s
        return QUEUE_IDLE_S if given is None else given

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{name}={sorted(v) if isinstance(v, dict) else repr(v)}" for name, v in values)
        return f"Endpoint({', '.join(shown)})"
