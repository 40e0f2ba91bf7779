"""What RunPod's API holds, and how a request changes it: endpoints, workers, pods, the catalogue.

Invariant: nothing is kept or answered that platform_schema.json does not allow, but for what a test
itself puts in.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads(Path(__file__).with_name("platform_schema.json").read_text(encoding="utf-8"))
AT = "2026-06-01T12:00:00Z"
IN_A_RELEASE = frozenset({"image", "args", "disk", "env", "ports", "registry", "gpu"})
ACTIONS = {
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "TERMINATED": [],
}
AFTER = {"start": "STARTING", "stop": "EXITED", "restart": "RUNNING"}
STATUSES = ("running", "idle", "initializing", "throttled", "unhealthy")

Answer = tuple[int, Any]


class Refused(Exception):
    """The API does not do that."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def faults(name: str, value: object) -> list[str]:
    """How `value` breaks the shape called `name`, in words."""
    shape = {**SCHEMA, "$ref": f"#/$defs/{name}"}
    errors = Draft202012Validator(shape).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


def gpu_type(id_: str, pool: str | None, usd_an_hour: float | None, **changes: Any) -> dict:
    """A row of the catalogue. The prices of tests are nobody's."""
    price = {"secure": 1.0, "community": 0.5}
    if usd_an_hour is not None:
        price["serverless"] = usd_an_hour
    return {
        "id": id_,
        "name": id_.removeprefix("NVIDIA "),
        "pool": pool,
        "manufacturer": "NVIDIA",
        "memory": 24,
        "secure": True,
        "community": True,
        "price": price,
        "maxCount": {"secure": 8, "community": 4},
        **changes,
    }


class State:
    """`endpoints` and `pods` by id, `workers`, `releases`, `jobs` and `models` by endpoint."""

    def __init__(self) -> None:
        self.endpoints: dict[str, dict] = {}
        self.workers: dict[str, list[dict]] = defaultdict(list)
        self.releases: dict[str, list[dict]] = defaultdict(list)
        self.jobs: dict[str, dict[str, int]] = {}
        """The jobs of `/health`, as far as they are not 0."""
        self.models: dict[str, list[str]] = defaultdict(list)
        """The cached models, which only GraphQL tells."""
        self.polls_until_ready = 1
        """How often a new worker is seen to initialize before it is idle."""
        self.pods: dict[str, dict] = {}
        self.gpus: list[dict] = [
            gpu_type("NVIDIA L4", "ADA_24", 0.6),
            gpu_type("NVIDIA GeForce RTX 4090", "ADA_24", 1.2),
            gpu_type("NVIDIA RTX A4000", "AMPERE_16", 0.3),
            gpu_type("NVIDIA L40S", "ADA_48_PRO", 1.8),
            gpu_type("NVIDIA A2", None, None),
        ]
        self.url = ""
        self._made = 0

    def act(self, method: str, path: str, query: str, body: Any) -> Answer:
        """Carry a request out. Raises Refused."""
        for wanted, pattern, route in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and wanted == method:
                return route(self, *found.groups(), *([body] if method in "POST PATCH" else []))
        raise Refused(404, "resource not found")

    # Endpoints

    def add_endpoint(self, **changes: Any) -> dict:
        """An endpoint that has been there before: what a POST makes of `changes`."""
        least = {"name": "sotto", "image": "me/sotto:1", "type": "QUEUE"}
        scaling = {"type": "QUEUE_DELAY", "queueDelay": 4}
        gpu = {"pools": ["ADA_24"]}
        return self._create({**least, "scaling": scaling, "gpu": gpu, **changes})[1]

    def _create(self, body: Any) -> Answer:
        self._check("CreateEndpointRequest", body)
        if ("gpu" in body) == ("cpu" in body):
            raise Refused(400, "exactly one of gpu and cpu is needed")
        self._made += 1
        id_ = f"endpoint{self._made}"
        endpoint = {
            "id": id_,
            "requestUrls": self._urls(id_),
            "args": "",
            "disk": 20,
            "ports": [],
            "env": {},
            "registry": None,
            "workers": {},
            "dataCenterIds": [],
            "networkVolumes": [],
            "timeout": 300_000,
            "flashboot": "OFF",
            "createdAt": AT,
        }
        changed = self._changed(endpoint, {"workers": {}, **body})
        self.endpoints[id_] = changed
        self._release(id_, [])
        return 201, copy.deepcopy(changed)

    def _changed(self, endpoint: dict, body: dict) -> dict:
        """The endpoint with what `body` says."""
        after = copy.deepcopy(endpoint) | copy.deepcopy(body)
        if "gpu" in body:
            after["gpu"] = self._gpu(endpoint.get("gpu") or {}, body["gpu"])
        workers = {"min": 0, "max": 3, **endpoint.get("workers", {}), **body.get("workers", {})}
        by_count = after["type"] == "QUEUE" and after["scaling"]["type"] == "REQUEST_COUNT"
        if by_count and "idleTimeout" in body.get("workers", {}):
            raise Refused(400, "workers.idleTimeout does not apply to a request-count scaler")
        workers.setdefault("idleTimeout", 10)
        if by_count:
            del workers["idleTimeout"]
        after["workers"] = workers
        return after

    def _gpu(self, before: dict, given: dict) -> dict:
        after = {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None, **before, **given}
        if "pools" in given and "excludedTypes" not in given:
            after.pop("excludedTypes", None)
        after["minCudaVersion"] = after["minCudaVersion"] or None
        if after["allowedCudaVersions"] and after["minCudaVersion"]:
            raise Refused(400, "allowedCudaVersions and minCudaVersion exclude each other")
        types = {row["id"] for row in self.gpus if row["pool"] in after["pools"]}
        if not types.issuperset(after.get("excludedTypes", ())):
            raise Refused(400, "excludedTypes: not a GPU type of these pools")
        return after

    def _list(self) -> Answer:
        return 200, {"endpoints": list(self.endpoints.values())}

    def _one(self, id_: str) -> Answer:
        return 200, self._known(id_)

    def _update(self, id_: str, body: Any) -> Answer:
        before = self._known(id_)
        self._check("UpdateEndpointRequest", body)
        after = self._changed(before, body)
        diff = [
            {"field": name, "old": before.get(name), "new": after.get(name)}
            for name in body
            if before.get(name) != after.get(name)
        ]
        self.endpoints[id_] = after
        if any(entry["field"] in IN_A_RELEASE for entry in diff):
            self._release(id_, diff)
        return 200, after

    def _delete(self, id_: str) -> Answer:
        self._known(id_)
        del self.endpoints[id_]
        self.workers.pop(id_, None)
        return 204, None

    def _known(self, id_: str) -> dict:
        if id_ not in self.endpoints:
            raise Refused(404, "resource not found")
        return self.endpoints[id_]

    def _check(self, name: str, body: Any) -> None:
        wrong = faults(name, body)
        if wrong:
            raise Refused(422, "; ".join(wrong))

    def _urls(self, id_: str) -> dict[str, str]:
        base = f"{self.url or 'https://api.runpod.ai'}/v2/{id_}"
        paths = {"run": "run", "runSync": "runsync", "purgeQueue": "purge-queue"}
        paths |= {name: name for name in ("health",)}
        paths |= {name: f"{name}/{{job_id}}" for name in ("status", "stream", "cancel", "retry")}
        return {name: f"{base}/{path}" for name, path in paths.items()}

    # Workers and releases

    def worker(self, id_: str, status: str, **changes: Any) -> dict:
        """A worker of an endpoint, put there by a test."""
        version = self._version(id_)
        made = {
            "id": f"{id_}-worker{len(self.workers[id_]) + 1}",
            "status": status,
            "gpuCount": 1,
            "isStale": False,
            "version": version,
            "gpuTypeId": "NVIDIA L4",
            **changes,
        }
        self.workers[id_].append(made)
        return made

    def _release(self, id_: str, diff: list[dict]) -> None:
        """A new version; the workers that are always there are started anew."""
        made = {
            "id": f"release{self._version(id_) + 1}",
            "version": self._version(id_) + 1,
            "source": "MANUAL",
            "createdAt": AT,
            "workerCount": 0,
            "diff": diff,
        }
        self.releases[id_].insert(0, made)
        self.workers[id_] = []
        for _ in range(self.endpoints[id_]["workers"]["min"]):
            self.worker(id_, "INITIALIZING", polls=self.polls_until_ready)

    def _version(self, id_: str) -> int:
        return len(self.releases[id_])

    def _workers(self, id_: str) -> Answer:
        self._known(id_)
        shown = []
        for one in self.workers[id_]:
            if one["status"] == "INITIALIZING" and "polls" in one:
                one["polls"] -= 1
                one["status"] = "INITIALIZING" if one["polls"] >= 0 else "IDLE"
            shown.append({name: value for name, value in one.items() if name != "polls"})
        summary = self._summary(id_) | {"total": len(shown)}
        return 200, {"workers": shown, "summary": summary, "endpointVersion": self._version(id_)}

    def _summary(self, id_: str) -> dict[str, int]:
        found = [one["status"].lower() for one in self.workers[id_]]
        return {status: found.count(status) for status in STATUSES}

    def _releases(self, id_: str) -> Answer:
        self._known(id_)
        workers = self.workers[id_]
        latest = [one for one in workers if not one["isStale"]]
        rollout = {
            "inProgress": len(latest) < len(workers),
            "workersOnLatest": len(latest),
            "workersTotal": len(workers),
            "percentOnLatest": 100 * len(latest) // len(workers) if workers else 0,
        }
        version = self._version(id_)
        listed = {"endpointVersion": version, "rollout": rollout, "releases": self.releases[id_]}
        return 200, listed

    def _health(self, id_: str) -> Answer:
        self._known(id_)
        states = ("completed", "failed", "inProgress", "inQueue", "retried")
        jobs = dict.fromkeys(states, 0) | self.jobs.get(id_, {})
        workers = self._summary(id_)
        return 200, {"jobs": jobs, "workers": workers | {"ready": workers["idle"]}}

    # The catalogue

    def _catalogue(self) -> Answer:
        return 200, {"gpus": self.gpus}

    # Pods

    def add_pod(self, id_: str, **changes: Any) -> dict:
        """A pod that runs, put there by a test."""
        pod = {
            "id": id_,
            "name": id_,
            "status": "RUNNING",
            "image": "me/pod:1",
            "args": "",
            "disk": 50,
            "mounts": {},
            "ports": [],
            "env": {},
            "registry": None,
            "gpu": {"id": "NVIDIA L4", "count": 1},
            "cloud": "SECURE",
            "dataCenterId": "US-KS-2",
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": 0.5,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": {"uptime": 3600},
            "createdAt": AT,
            "startedAt": AT,
            **changes,
        }
        pod.setdefault("actions", ACTIONS[pod["status"]])
        self.pods[id_] = pod
        return pod

    def _pods(self) -> Answer:
        return 200, {"pods": [pod for pod in self.pods.values() if "cluster" not in pod]}

    def _pod(self, id_: str) -> Answer:
        if id_ not in self.pods:
            raise Refused(404, "resource not found")
        return 200, self.pods[id_]

    def _pod_action(self, id_: str, body: Any) -> Answer:
        pod = self._pod(id_)[1]
        self._check("PodActionRequest", body)
        action = body["action"]
        if action not in pod["actions"]:
            raise Refused(409, f"a pod that is {pod['status']} cannot {action}")
        if pod["locked"] and action != "start":
            raise Refused(409, "the pod is locked")
        if action == "terminate":
            del self.pods[id_]
            return 204, None
        pod["status"] = AFTER[action]
        pod["actions"] = ACTIONS[pod["status"]]
        if action == "stop":
            pod["cost"], pod["runtime"] = 0.0, None
        return 200, pod

    # GraphQL

    def _graphql(self, body: Any) -> Answer:
        try:
            if "saveEndpoint" in body["query"]:
                found = {"saveEndpoint": self._save(body["variables"]["input"])}
            else:
                found = {"myself": {"endpoints": [self._row(id_) for id_ in self.endpoints]}}
        except Refused as refused:
            return 200, {"errors": [{"message": str(refused)}], "data": None}
        return 200, {"data": found}

    def _row(self, id_: str) -> dict:
        """An endpoint as GraphQL tells it."""
        endpoint = self.endpoints[id_]
        gpu, workers, scaling = endpoint["gpu"], endpoint["workers"], endpoint["scaling"]
        excluded = [f"-{type_}" for type_ in gpu.get("excludedTypes", ())]
        volumes = endpoint["networkVolumes"]
        return {
            "id": id_,
            "name": endpoint["name"],
            "templateId": f"template-of-{id_}",
            "gpuIds": ",".join([*gpu["pools"], *excluded]),
            "gpuCount": gpu["count"],
            "instanceIds": None,
            "workersMin": workers["min"],
            "workersMax": workers["max"],
            "locations": ",".join(endpoint["dataCenterIds"]) or None,
            "networkVolumeId": volumes[0] if volumes else None,
            "networkVolumeIds": [{"networkVolumeId": volume} for volume in volumes],
            "idleTimeout": workers.get("idleTimeout"),
            "scalerType": scaling["type"],
            "scalerValue": scaling.get("queueDelay", scaling.get("requestCount")),
            "executionTimeoutMs": endpoint["timeout"],
            "minCudaVersion": gpu["minCudaVersion"],
            "flashBootType": endpoint["flashboot"],
            "modelReferences": list(self.models[id_]),
        }

    def _save(self, given: dict) -> dict:
        """Replace an endpoint: what is not given again is gone."""
        id_ = given["id"]
        endpoint = self._known(id_)
        if given.get("templateId") != f"template-of-{id_}":
            raise Refused(400, "the template is not that of the endpoint")
        ids = [part for part in (given.get("gpuIds") or "").split(",") if part]
        endpoint["name"] = given["name"]
        endpoint["gpu"] = {
            "pools": [part for part in ids if not part.startswith("-")],
            "excludedTypes": [part[1:] for part in ids if part.startswith("-")],
            "count": given.get("gpuCount") or 1,
            "allowedCudaVersions": [],
            "minCudaVersion": given.get("minCudaVersion"),
        }
        by_count = given.get("scalerType") == "REQUEST_COUNT"
        endpoint["scaling"] = {
            "type": given.get("scalerType") or "QUEUE_DELAY",
            "requestCount" if by_count else "queueDelay": given.get("scalerValue") or 4,
        }
        endpoint["workers"] = {
            "min": given.get("workersMin") or 0,
            "max": given.get("workersMax", 3),
            **({} if by_count else {"idleTimeout": given.get("idleTimeout") or 5}),
        }
        endpoint["dataCenterIds"] = [x for x in (given.get("locations") or "").split(",") if x]
        volumes = given.get("networkVolumeIds") or []
        endpoint["networkVolumes"] = [volume["networkVolumeId"] for volume in volumes]
        endpoint["timeout"] = given.get("executionTimeoutMs") or 600_000
        endpoint["flashboot"] = given.get("flashBootType") or "OFF"
        self.models[id_] = list(given.get("modelReferences") or [])
        return self._row(id_)


ID = r"([A-Za-z0-9_-]+)"
ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/v2/serverless", State._list),
    ("POST", "/v2/serverless", State._create),
    ("GET", f"/v2/serverless/{ID}", State._one),
    ("PATCH", f"/v2/serverless/{ID}", State._update),
    ("DELETE", f"/v2/serverless/{ID}", State._delete),
    ("GET", f"/v2/serverless/{ID}/workers", State._workers),
    ("GET", f"/v2/serverless/{ID}/releases", State._releases),
    ("GET", "/v2/catalog/gpus", State._catalogue),
    ("GET", "/v2/pods", State._pods),
    ("GET", f"/v2/pods/{ID}", State._pod),
    ("POST", f"/v2/pods/{ID}/action", State._pod_action),
    ("POST", "/graphql", State._graphql),
    ("GET", f"/v2/{ID}/health", State._health),
]
