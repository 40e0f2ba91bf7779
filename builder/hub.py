"""A repository of the model hub in, what is to be fetched from it out.

Invariant: what comes out is fixed by a commit, whatever branch or tag was asked for, and names only
files that make a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import requests
from builder.layout import Kind, LayoutError, kind_of, needed
from msgspec import Meta
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from sotto.models.catalogue import Model, ModelFile, Sha256
from sotto.models.fetch import FetchError, Hub
from sotto.models.record import UNREADABLE
from sotto.models.sources import (
    CONNECT_S,
    READ_S,
    RETRIES,
    RETRY_WAIT_S,
    SourceFailed,
    refusal,
    request_headers,
    root_cause,
)

PASSING = (429, 500, 502, 503, 504)
MODEL_TYPE = "whisper"
LONGEST_LICENCE = 80
UNKNOWN_LICENCE = "unknown"


class _Stored(msgspec.Struct):
    sha256: Sha256


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None
    lfs: _Stored | None = None


class _Repository(msgspec.Struct, rename="camel"):
    """The part of the hub's answer that matters here."""

    sha: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$")]
    siblings: tuple[_File, ...]
    gated: bool | str | None = False
    card_data: dict[str, Any] | None = None
    config: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a repository has for us: the files to fetch, and what they are."""

    model: Model
    kind: Kind


def look_up(repository: str, revision: str, name: str, hub: Hub) -> Offer:
    """What `repository` holds at `revision` (a commit, branch or tag), to be called `name`.

    Raises FetchError: the hub cannot be reached, or refuses; nothing is there; it is no Whisper
    model.
    """
    found = _ask(repository, revision, hub)
    if found.gated and hub.token is None:
        raise FetchError(f"{repository}: is gated; {refusal(401, None)}")
    model_type = (found.config or {}).get("model_type", MODEL_TYPE)
    if model_type != MODEL_TYPE:
        raise FetchError(f"{repository}: is a model of type {model_type!r}; Whisper is needed")
    files = {file.rfilename: file for file in found.siblings}
    try:
        kind = kind_of(files)
        wanted = needed(files, kind)
    except LayoutError as error:
        raise FetchError(f"{repository}: {error}") from error
    model = Model(
        name=name,
        repository=repository,
        revision=found.sha,
        licence=_licence(found.card_data or {}),
        files=tuple(_wanted(files[file]) for file in wanted),
    )
    return Offer(model, kind)


def _ask(repository: str, revision: str, hub: Hub) -> _Repository:
    endpoint = hub.endpoint.rstrip("/")
    url = f"{endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    try:
        with _session() as session:
            response = session.get(
                url, headers=request_headers(hub.token), timeout=(CONNECT_S, READ_S)
            )
    except requests.RequestException as error:
        raise FetchError(
            f"{repository}: {endpoint} cannot be asked: {root_cause(error)}"
        ) from error
    except SourceFailed as error:
        raise FetchError(f"{repository}: {endpoint}: {error}") from error
    if not response.ok:
        raise FetchError(f"{repository}: {_told(response, revision, hub)}")
    try:
        return msgspec.json.decode(response.content, type=_Repository)
    except UNREADABLE as error:
        raise FetchError(f"{repository}: {endpoint} answers as no hub does: {error}") from error


def _session() -> requests.Session:
    again = Retry(
        RETRIES,
        backoff_factor=RETRY_WAIT_S,
        status_forcelist=PASSING,
        # A hub may say "in an hour"; then the error serves better.
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session


def _told(response: requests.Response, revision: str, hub: Hub) -> str:
    """What a refusal means; the hub answers 401 for what is not there, too."""
    status = response.status_code
    if response.headers.get("X-Error-Code") == "RevisionNotFound":
        return f"has no revision {revision!r}"
    if status == requests.codes.not_found:
        return f"is not on {hub.endpoint}, or has no revision {revision!r}"
    if status == requests.codes.unauthorized and hub.token is None:
        return f"is not on {hub.endpoint}, or private; then it {refusal(status, None)}"
    if status in {requests.codes.unauthorized, requests.codes.forbidden}:
        return f"{hub.endpoint} {refusal(status, hub.token)}"
    return f"{hub.endpoint} answers {status} {response.reason}"


def _licence(card: Mapping[str, Any]) -> str:
    """The licence that the repository's card names, in one short line."""
    licence = card.get("license")
    if licence == "other":
        licence = card.get("license_name") or licence
    if not isinstance(licence, str):
        return UNKNOWN_LICENCE
    return " ".join(licence.split())[:LONGEST_LICENCE] or UNKNOWN_LICENCE


def _wanted(file: _File) -> ModelFile:
    return ModelFile(file.rfilename, file.lfs.sha256 if file.lfs else None, file.size or None)
