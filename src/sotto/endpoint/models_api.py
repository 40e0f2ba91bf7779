"""An endpoint's cached model, which REST neither tells nor takes: the one use of GraphQL.

Invariant: `saveEndpoint` replaces an endpoint whole, so all that GraphQL tells of it is read right
before and sent back with it.
"""

from __future__ import annotations

from typing import Any

from sotto.endpoint.api import Api, ApiError

GRAPHQL = "/graphql"
HUB = "https://huggingface.co/"
KEPT = (
    "id",
    "name",
    "templateId",
    "gpuIds",
    "gpuCount",
    "instanceIds",
    "workersMin",
    "workersMax",
    "locations",
    "networkVolumeId",
    "idleTimeout",
    "scalerType",
    "scalerValue",
    "executionTimeoutMs",
    "minCudaVersion",
    "flashBootType",
)
FIELDS = " ".join((*KEPT, "networkVolumeIds { networkVolumeId }", "modelReferences"))
QUERY = f"query Endpoints {{ myself {{ endpoints {{ {FIELDS} }} }} }}"
MUTATION = (
    "mutation SaveEndpoint($input: EndpointInput!) "
    f"{{ saveEndpoint(input: $input) {{ {FIELDS} }} }}"
)


def cached_model(api: Api, id_: str) -> str:
    """The repository and revision that an endpoint has cached, "" for none. Raises ApiError."""
    return _told(_row(api, id_))


def cache_model(api: Api, id_: str, model: str) -> None:
    """Have `model`, a repository and its revision, cached for an endpoint; "" for none.

    Raises ApiError.
    """
    row = _row(api, id_)
    volumes = row.get("networkVolumeIds")
    given = {
        **{name: row.get(name) for name in KEPT},
        "networkVolumeIds": volumes if isinstance(volumes, list) else [],
        "modelReferences": [HUB + model] if model else [],
    }
    data = _asked(api, {"query": MUTATION, "variables": {"input": given}})
    saved = data.get("saveEndpoint")
    if not isinstance(saved, dict):
        raise ApiError(f"POST {GRAPHQL}: the answer does not tell what was saved")


def _row(api: Api, id_: str) -> dict[str, Any]:
    """An endpoint as GraphQL tells it."""
    myself = _asked(api, {"query": QUERY}).get("myself")
    rows = myself.get("endpoints") if isinstance(myself, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("id") == id_:
            return row
    raise ApiError(f"POST {GRAPHQL}: it does not tell of the endpoint {id_}")


def _told(row: dict[str, Any]) -> str:
    references = row.get("modelReferences")
    texts = [one for one in (references if isinstance(references, list) else ()) if one]
    return ", ".join(str(one).removeprefix(HUB) for one in texts)


def _asked(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    """The data that a query or a mutation gives; both may be repeated."""
    answer = api.post(GRAPHQL, body, is_repeatable=True)
    told = answer if isinstance(answer, dict) else {}
    errors = told.get("errors")
    if isinstance(errors, list) and errors:
        first = errors[0] if isinstance(errors[0], dict) else {}
        reason = api.shown(str(first.get("message") or "no reason given"))
        raise ApiError(f"POST {GRAPHQL}: is refused: {reason}")
    data = told.get("data")
    if not isinstance(data, dict):
        raise ApiError(f"POST {GRAPHQL}: the answer has no data")
    return data
