"""A finished answer in, what the platform is given out: the answer itself, or a link and a summary.

Invariant: an answer is never dropped for its size: it goes to the caller as it is, to a store, or
ends in an error that names the ways out; where it would go is known to be well-formed before work.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sotto.errors import RequestError, ResultTooLarge
from sotto.net import Destination, Net, bare
from sotto.request import Request
from sotto.worker.storage import S3_CONFIG, Bucket, bucket_of_job, key_of

Output = dict[str, Any] | str
ENVELOPE = b'{"stopPod": true, "output": }'
"""What the answer travels in to the platform, at its longest."""
WAYS_OUT = "give the job an 'upload_url' or an 's3Config', or set SOTTO_S3_* on the worker"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A job's `output` when the answer itself is stored elsewhere."""

    result_url: Annotated[
        str,
        Meta(
            description="Where the answer lies: a link that anyone can read for a while, or your "
            "`upload_url` without its query."
        ),
    ]
    result_bytes: Annotated[int, Meta(description="Size of the stored JSON.")]
    result_expires_s: Annotated[
        int | None, Meta(description="Seconds for which the link works; null for `upload_url`.")
    ]
    duration: Annotated[float | UnsetType, Meta(description="As in the answer.")] = UNSET
    detected_language: Annotated[str | UnsetType | None, Meta(description="As in the answer.")] = (
        UNSET
    )
    model: Annotated[str | UnsetType, Meta(description="As in the answer.")] = UNSET
    device: Annotated[str | UnsetType, Meta(description="As in the answer.")] = UNSET
    segments: Annotated[int | UnsetType, Meta(description="How many there are.")] = UNSET
    timings: Annotated[dict[str, float] | UnsetType, Meta(description="As in the answer.")] = UNSET
    warnings: Annotated[list[str] | UnsetType, Meta(description="As in the answer.")] = UNSET


AS_IN_THE_ANSWER = ("duration", "detected_language", "model", "device", "timings", "warnings")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job's answer is stored: at an address of the caller's, in a bucket, or nowhere.

    `asked`: however small it is; else only if it is too large to be given as it is. `key`: its
    name in the bucket.
    """

    asked: bool
    place: Destination | Bucket | None
    key: str


class Delivery:
    """Hands over the answers of a worker. `store`: the operator's bucket, for jobs without one.

    `limit_bytes`: the largest answer that the platform takes.
    """

    def __init__(
        self, net: Net, store: Bucket | None, limit_bytes: int, link_lifetime_s: int
    ) -> None:
        self._net = net
        self._store = store
        self._limit_bytes = limit_bytes
        self._link_lifetime_s = link_lifetime_s

    def target(self, job: Mapping[str, Any], request: Request) -> Target:
        """Where the answer of `job` would go. Raises RequestError, naming the field at fault."""
        options = request.options
        config = job.get(S3_CONFIG)
        place: Destination | Bucket | None = self._store
        if config is not None:
            place = bucket_of_job(config)
        if options.upload_url is not None:
            place = Destination(options.upload_url, options.upload_headers or {})
        if options.upload and place is None:
            raise RequestError("upload", f"true: there is no store; {WAYS_OUT}")
        asked = options.upload or options.upload_url is not None
        return Target(asked, place, key_of(str(job.get("id") or "")))

    async def deliver(self, target: Target, output: Output) -> Output:
        """What the platform is given for `output`, which is JSON.

        Raises UploadFailed, or ResultTooLarge if there is nowhere to put what is too large.
        """
        body = json.dumps(output, ensure_ascii=False, allow_nan=False).encode()
        if len(body) + len(ENVELOPE) <= self._limit_bytes and not target.asked:
            return output
        place = target.place
        if place is None:
            raise ResultTooLarge(
                f"the answer has {len(body)} bytes, and {self._limit_bytes} can be given; "
                f"{WAYS_OUT}"
            )
        cancelled = threading.Event()
        try:
            await asyncio.to_thread(self._put, place, target.key, body, cancelled)
        finally:
            cancelled.set()  # the thread holds nothing but bytes: it is told, and not waited for
        link, lifetime_s = self._link(place, target.key)
        return _summary(output, link, lifetime_s, len(body))

    def _put(
        self, place: Destination | Bucket, key: str, body: bytes, cancelled: threading.Event
    ) -> None:
        # Signing reads the whole body: it belongs in the thread.
        where = place.destination(key, body) if isinstance(place, Bucket) else place
        self._net.put(where, body, cancelled)

    def _link(self, place: Destination | Bucket, key: str) -> tuple[str, int | None]:
        if isinstance(place, Bucket):
            return place.link(key, self._link_lifetime_s), self._link_lifetime_s
        return bare(place.url), None


def _summary(output: Output, link: str, lifetime_s: int | None, size_bytes: int) -> dict[str, Any]:
    answer = output if isinstance(output, dict) else {}
    copied = {name: answer[name] for name in AS_IN_THE_ANSWER if name in answer}
    if "segments" in answer:
        copied["segments"] = len(answer["segments"])
    summary: dict[str, Any] = msgspec.to_builtins(
        Summary(result_url=link, result_bytes=size_bytes, result_expires_s=lifetime_s, **copied)
    )
    return summary
