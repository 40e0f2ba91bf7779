"""What the operator may set, read once from the environment.

Invariant: every `SOTTO_*` variable is a field of `Settings`, is read by `Settings.from_env` only,
and a wrong one stops the process before any work, together with all the other wrong ones.
"""

from __future__ import annotations

import difflib
import math
import os
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PREFIX = "SOTTO_"
SECRETS = frozenset({"hub_token", "s3_access_secret"})
ROOT = Path(__file__).resolve().parents[2]


class SettingsError(Exception):
    """One line for each variable that cannot be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker's settings; a field `x` is the variable `SOTTO_X`."""

    model: Annotated[
        str,
        Meta(
            description="Model that serves jobs which name none: a folder, a name of the "
            "catalogue, or the repository that the model was baked from."
        ),
    ] = "base"
    model_fallback: Annotated[
        Literal["none", "baked"],
        Meta(
            description="What a job gets that asks for a model which is not here: `none` refuses "
            "it, `baked` serves `SOTTO_MODEL` and says so in `warnings`."
        ),
    ] = "none"
    model_download: Annotated[
        bool,
        Meta(description="May a model that is not here be downloaded at run time?"),
    ] = False
    model_memory_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Memory of the device that models may take, all together; one that no job "
            "works with is unloaded when another needs its room. 0: what is free when the first "
            "one is loaded, less 512 MiB.",
        ),
    ] = 0
    weights_dir: Annotated[
        str, Meta(description="Folder of the baked models, one folder each.")
    ] = str(ROOT / "weights")
    volume_dir: Annotated[
        str, Meta(description="Folder of more models, one folder each, on a network volume.")
    ] = "/runpod-volume/models"
    hub_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^/]",
            title="an address that begins with http:// or https://",
            description="Address of the model hub.",
        ),
    ] = "https://huggingface.co"
    hub_token: Annotated[
        str | None, Meta(description="Token for private or gated models. Secret.")
    ] = None
    engine: Annotated[
        Literal["whisper", "fake"],
        Meta(
            description="`fake` needs no weights and makes words up: for trying what is around it."
        ),
    ] = "whisper"
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="Where the model runs; `auto` takes a GPU if there is one."),
    ] = "auto"
    compute_type: Annotated[
        Literal[
            "auto",
            "int8",
            "int8_float16",
            "int8_float32",
            "int8_bfloat16",
            "float16",
            "bfloat16",
            "float32",
        ],
        Meta(
            description="Number format of the weights in memory; `auto`: on a GPU `float16` if it "
            "fits, else `int8_float16`; `int8` on a CPU."
        ),
    ] = "auto"
    audio_roots: Annotated[
        tuple[str, ...],
        Meta(
            description="Folders below which `audio_path` may read, separated by `:`; empty "
            "refuses every path."
        ),
    ] = ("/runpod-volume",)
    temp_dir: Annotated[
        str | None, Meta(description="Folder for audio in transit; unset: the system's own.")
    ] = None
    max_audio_bytes: Annotated[
        int, Meta(ge=1, description="Largest audio file accepted, in bytes.")
    ] = 2 * 1024**3
    max_audio_s: Annotated[
        float, Meta(gt=0, description="Longest audio accepted, in seconds once decoded.")
    ] = 12 * 3600.0
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds to open a connection to an audio address.")
    ] = 10.0
    read_timeout_s: Annotated[
        float,
        Meta(gt=0, description="Seconds without a byte before a connection counts as broken."),
    ] = 30.0
    fetch_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds for a whole download or upload, retries included.")
    ] = 240.0
    model_workers: Annotated[
        int,
        Meta(
            ge=0,
            description="Calls of the model that run at once, on one copy of the weights; 0: one "
            "for each core on a CPU, two on a GPU, fewer where memory is short.",
        ),
    ] = 0
    encode_batch: Annotated[
        int,
        Meta(ge=0, description="Windows in one call of the encoder; 0: what was measured best."),
    ] = 0
    decode_batch: Annotated[
        int,
        Meta(
            ge=0,
            description="Windows in one call of the decoder, and texts in one that samples above "
            "temperature 0; 0: what was measured best.",
        ),
    ] = 0
    max_waiting: Annotated[
        int, Meta(ge=1, description="Windows that may wait for the device, all jobs together.")
    ] = 4096
    concurrency: Annotated[
        int,
        Meta(
            ge=0,
            description="Jobs in flight on this worker; 0: as many as keep the device busy, and "
            "on a GPU as its memory feeds.",
        ),
    ] = 0
    job_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that one job may run; keep it below the endpoint's own limit, so "
            "that the job ends with an answer.",
        ),
    ] = 285.0
    stop_grace_s: Annotated[
        float,
        Meta(gt=0, description="Seconds for the jobs in flight to end once the worker must stop."),
    ] = 25.0
    result_limit_bytes: Annotated[
        int,
        Meta(ge=1, description="Largest answer given as it is; larger ones go to a store."),
    ] = 10_000_000
    s3_endpoint_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://[^/]")] | None,
        Meta(
            title="an address that begins with http:// or https://",
            description="Address of the S3 store for large answers of jobs that name none.",
        ),
    ] = None
    s3_bucket: Annotated[str | None, Meta(description="Bucket in that store.")] = None
    s3_region: Annotated[
        str | None, Meta(description="Region of that store; not given: read from its address.")
    ] = None
    s3_access_id: Annotated[str | None, Meta(description="Access key for that store.")] = None
    s3_access_secret: Annotated[
        str | None, Meta(description="Secret key for that store. Secret.")
    ] = None
    link_lifetime_s: Annotated[
        int,
        Meta(ge=1, le=604_800, description="Seconds for which the link to a stored answer works."),
    ] = 86_400
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severe message that is logged."),
    ] = "info"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the `SOTTO_*` variables of `environ`.

        Raises SettingsError with one line for every variable that is unknown or has a value that
        cannot be used.
        """
        hints = typing.get_type_hints(cls, include_extras=True)
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, text in sorted(environ.items()):
            if not name.upper().startswith(PREFIX):
                continue
            field = name[len(PREFIX) :].lower()
            if name != variable(field) or field not in hints:
                problems.append(f"{name}: no such setting{_suggestion(field, hints)}")
                continue
            try:
                values[field] = _value(text.strip(), hints[field])
            except ValueError:
                shown = "***" if field in SECRETS and text else repr(text)
                problems.append(f"{name}: {shown} is not allowed; use {allowed(hints[field])}")
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(**values)

    def __repr__(self) -> str:
        shown = (
            f"{f}={'***' if f in SECRETS and getattr(self, f) else repr(getattr(self, f))}"
            for f in self.__struct_fields__
        )
        return f"Settings({', '.join(shown)})"

    @property
    def temp_root(self) -> Path | None:
        """Where audio in transit lies; None means the system's temporary folder."""
        return Path(self.temp_dir) if self.temp_dir else None


def variable(field: str) -> str:
    """The environment variable that sets `field`."""
    return PREFIX + field.upper()


def allowed(hint: Any) -> str:
    """What a field annotated with `hint` takes, in words that follow "use"."""
    kind, meta = typing.get_args(hint)
    if meta.title:
        return str(meta.title)
    if typing.get_origin(kind) is Literal:
        *others, last = typing.get_args(kind)
        return f"{', '.join(others)} or {last}"
    if kind is bool:
        return "true, false, 1 or 0"
    if kind in (int, float):
        number = "a whole number" if kind is int else "a finite number"
        return f"{number} above {meta.gt:g}" if meta.ge is None else f"{number}, {meta.ge} or more"
    return "text that is not empty"


def _value(text: str, hint: Any) -> Any:
    """`text` as the type that `hint` wants. Raises ValueError if it is not one."""
    kind = typing.get_args(hint)[0]
    if typing.get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(os.pathsep) if part.strip())
    if not text:
        if type(None) in typing.get_args(kind):
            return None
        raise ValueError("empty")
    value = msgspec.convert(text, hint, strict=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _suggestion(field: str, fields: Iterable[str]) -> str:
    close = difflib.get_close_matches(field, fields, n=1)
    return f"; did you mean {variable(close[0])}?" if close else ""
