"""An endpoint made what its file says, on a platform that loses answers: never two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.platform_api import PlatformApi
from tests.platform_state import faults

from sotto.endpoint import plan, told
from sotto.endpoint.api import Api, ApiError
from sotto.endpoint.apply import LOOKS_S, Account, Applying
from sotto.endpoint.config import parse
from sotto.endpoint.deployment import DeployError, Deployment, wanted
from sotto.endpoint.waiting import Waiting

ENDPOINTS = "/v2/serverless"
FILE = """
name = "sotto"
image = "me/sotto:1"
gpu.pools = ["ADA_24"]
env = {SOTTO_MODEL = "tiny"}
"""
MODEL = 'cached_model = "org/model"\n'


@pytest.fixture
def platform() -> Iterator[PlatformApi]:
    with PlatformApi() as platform:
        yield platform


@pytest.fixture
def api(platform: PlatformApi) -> Iterator[Api]:
    with Api(platform.key, platform.url, pause=lambda _: None) as api:
        yield api


def asked(text: str = FILE) -> Deployment:
    return wanted(parse(text, to_deploy=True), {})


def apply(api: Api, text: str = FILE, pause: Callable[[float], None] = lambda _: None) -> str:
    """Apply a file as the command does. Gives back the id."""
    target = asked(text)
    made = plan.make(api, target)
    account = Account(target.name)
    return Applying(api, account, pause).converge(target, made.live.id if made.live else None)


def changes(platform: PlatformApi) -> list[str]:
    """The methods of the requests that changed, or would have changed, something."""
    asked_for = [(method, body) for method, _, body in platform.requests if method != "GET"]
    return [method for method, body in asked_for if "query Endpoints" not in str(body)]


# Answers that are lost


def test_a_create_whose_answer_is_lost_is_found_again_by_its_name(
    platform: PlatformApi, api: Api
) -> None:
    platform.hang("POST", ENDPOINTS)
    assert apply(api) == "endpoint1"
    assert list(platform.endpoints) == ["endpoint1"]
    assert changes(platform) == ["POST"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_create_that_failed_in_the_api_is_looked_for_and_not_repeated(
    platform: PlatformApi, api: Api, status: int
) -> None:
    platform.fail("POST", ENDPOINTS, status, body={"detail": "down"})
    pauses: list[float] = []
    with pytest.raises(DeployError) as caught:
        apply(api, pause=pauses.append)
    assert str(caught.value) == (
        "there is no 'sotto' 15 s after its creation was sent, which was not confirmed: "
        f"POST /v2/serverless: the API fails ({status}): down; try again later"
    )
    assert changes(platform) == ["POST"]
    assert pauses == list(LOOKS_S)


def test_a_created_endpoint_that_appears_late_is_found(platform: PlatformApi, api: Api) -> None:
    platform.drop("POST", ENDPOINTS)
    looks = iter(LOOKS_S)

    def pause(_: float) -> None:
        if next(looks, None) == 4.0:
            platform.add_endpoint(env={"SOTTO_MODEL": "tiny", "SOTTO_JOB_TIMEOUT_S": "285"})

    assert apply(api, pause=pause) == "endpoint1"
    assert changes(platform) == ["POST"]


@pytest.mark.parametrize("answer", [None, {}, [], {"id": None, "name": "sotto"}, b"<html>"])
def test_a_create_with_a_senseless_answer_is_looked_for(
    platform: PlatformApi, api: Api, answer: Any
) -> None:
    body = b"null" if answer is None else answer
    platform.fail("POST", ENDPOINTS, 201, body=body)
    with pytest.raises(DeployError, match="which was not confirmed"):
        apply(api)
    assert changes(platform) == ["POST"]


def test_a_create_that_was_not_taken_is_sent_again(platform: PlatformApi, api: Api) -> None:
    platform.fail("POST", ENDPOINTS, 429, times=2)
    assert apply(api) == "endpoint1"
    assert list(platform.endpoints) == ["endpoint1"]


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_create_that_is_refused_leaves_nothing(
    platform: PlatformApi, api: Api, status: int
) -> None:
    platform.fail("POST", ENDPOINTS, status)
    with pytest.raises(ApiError):
        apply(api)
    assert platform.endpoints == {}


def test_nothing_is_created_where_it_is_not_known_what_is_there(
    platform: PlatformApi, api: Api
) -> None:
    for trouble in (
        {"status": 503, "times": 4},
        {"status": 200, "body": {}},
        {"status": 200, "body": {"endpoints": None}},
    ):
        platform.fail("GET", ENDPOINTS, **trouble)
        with pytest.raises(ApiError):
            apply(api)
    assert changes(platform) == []


def test_an_update_whose_answer_is_lost_is_seen_to_be_in_force(
    platform: PlatformApi, api: Api
) -> None:
    platform.add_endpoint(image="me/sotto:0")
    platform.hang("PATCH", ENDPOINTS, times=4)
    assert apply(api) == "endpoint1"
    assert platform.endpoints["endpoint1"]["image"] == "me/sotto:1"


def test_an_update_that_the_api_never_takes_is_told(platform: PlatformApi, api: Api) -> None:
    platform.add_endpoint(image="me/sotto:0")
    platform.drop("PATCH", ENDPOINTS, times=100)
    with pytest.raises(ApiError, match=r"PATCH /v2/serverless/endpoint1: .* broke the connection"):
        apply(api)


def test_an_update_that_does_not_last_is_told(
    platform: PlatformApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = platform.add_endpoint(image="me/sotto:0")
    platform.fail("PATCH", ENDPOINTS, 200, times=2, body=made)
    with pytest.raises(DeployError) as caught:
        apply(api)
    assert str(caught.value) == (
        "RunPod took the update but keeps something else: image is me/sotto:0, not me/sotto:1; "
        "env.SOTTO_JOB_TIMEOUT_S; env.SOTTO_MODEL"
    )


# Several of the name


def test_several_endpoints_of_the_name_are_refused_and_listed(
    platform: PlatformApi, api: Api
) -> None:
    platform.add_endpoint()
    platform.add_endpoint(name="sotto -fb")
    platform.add_endpoint(name="sotto-2")
    with pytest.raises(DeployError, match="2 endpoints are called 'sotto': endpoint1, endpoint2;"):
        apply(api)
    assert changes(platform) == []


def test_an_endpoint_that_somebody_else_made_meanwhile_is_told(
    platform: PlatformApi, api: Api
) -> None:
    target = asked()
    assert plan.make(api, target).live is None
    platform.add_endpoint()
    with pytest.raises(DeployError, match="2 endpoints are called 'sotto'"):
        Applying(api, Account("sotto")).converge(target, None)


def test_an_endpoint_of_another_kind_is_left_alone(platform: PlatformApi, api: Api) -> None:
    scaling = {"type": "REQUEST_COUNT", "requestCount": 1}
    platform.add_endpoint(type="LOAD_BALANCER", scaling=scaling)
    with pytest.raises(DeployError, match="not a queue of GPU workers \\(it is load_balancer\\)"):
        apply(api)
    assert changes(platform) == []


# What is made


def test_a_second_apply_changes_nothing(platform: PlatformApi, api: Api) -> None:
    assert apply(api, f"{MODEL}{FILE}") == "endpoint1"
    sent = changes(platform)
    assert sent == ["POST", "POST"]  # the endpoint, then its model by GraphQL
    assert apply(api, f"{MODEL}{FILE}") == "endpoint1"
    assert changes(platform) == sent


def test_only_what_changed_is_sent(platform: PlatformApi, api: Api) -> None:
    apply(api)
    apply(api, f"{FILE}workers.max = 5\n")
    method, path, body = next(one for one in platform.requests if one[0] == "PATCH")
    assert (method, path) == ("PATCH", f"{ENDPOINTS}/endpoint1")
    assert body == {"workers": {"min": 0, "max": 5, "idleTimeout": 10}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'scaling = {kind = "request_count", value = 3}\n'),
        ('scaling = {kind = "request_count", value = 3}\n', ""),
        ('gpu.min_cuda = "12.4"\n', ""),
        ('gpu.excluded_types = ["NVIDIA L4"]\n', ""),
        ('data_centers = ["EU-RO-1"]\n', ""),
        ('registry = "reg1"\n', ""),
        ('network_volumes = ["v1"]\n', 'network_volumes = ["v2"]\n'),
        ('flashboot = "on"\n', ""),
    ],
)
def test_what_a_file_no_longer_says_is_taken_back(
    platform: PlatformApi, api: Api, before: str, after: str
) -> None:
    apply(api, f"{before}{FILE}" if "scaling" not in before else f"{FILE}{before}")
    target = f"{after}{FILE}" if "scaling" not in after else f"{FILE}{after}"
    apply(api, target)
    assert plan.make(api, asked(target)).changes == ()
    assert faults("ListEndpointsResponse", {"endpoints": list(platform.endpoints.values())}) == []


def test_variables_that_are_no_longer_there_are_removed(platform: PlatformApi, api: Api) -> None:
    platform.add_endpoint(env={"OLD": "sesame"})
    apply(api)
    env = platform.endpoints["endpoint1"]["env"]
    assert env == {"SOTTO_MODEL": "tiny", "SOTTO_JOB_TIMEOUT_S": "285"}


def test_a_list_of_cuda_versions_gives_way_to_a_lowest_one(platform: PlatformApi, api: Api) -> None:
    gpu = {"pools": ["ADA_24"], "allowedCudaVersions": ["12.4"]}
    platform.add_endpoint(gpu=gpu)
    apply(api, f'gpu.min_cuda = "12.6"\n{FILE}')
    live = platform.endpoints["endpoint1"]["gpu"]
    assert (live["allowedCudaVersions"], live["minCudaVersion"]) == ([], "12.6")


# The cached model, by GraphQL


def test_graphql_is_asked_for_a_cached_model_alone(platform: PlatformApi, api: Api) -> None:
    apply(api)
    assert ("POST", "/graphql") not in platform.calls()


def test_a_model_is_cached_and_nothing_else_changes_with_it(
    platform: PlatformApi, api: Api
) -> None:
    more = (
        'flashboot = "on"\ndata_centers = ["EU-RO-1"]\nnetwork_volumes = ["v1"]\ntimeout_s = 60\n'
        'gpu.excluded_types = ["NVIDIA L4"]\ngpu.min_cuda = "12.4"\n'
    )
    apply(api, f"{more}{FILE}")
    before = {**platform.endpoints["endpoint1"]}
    apply(api, f"{MODEL}{more}{FILE}")
    assert platform.models["endpoint1"] == ["https://huggingface.co/org/model:main"]
    assert platform.endpoints["endpoint1"] == before
    apply(api, f'cached_model = "org/model:v2"\n{more}{FILE}')
    assert platform.models["endpoint1"] == ["https://huggingface.co/org/model:v2"]
    apply(api, f'cached_model = ""\n{more}{FILE}')
    assert platform.models["endpoint1"] == []


def test_a_model_that_the_file_does_not_mention_stays(platform: PlatformApi, api: Api) -> None:
    apply(api, f"{MODEL}{FILE}")
    apply(api, f"{FILE}workers.max = 1\n")
    assert platform.models["endpoint1"] == ["https://huggingface.co/org/model:main"]


@pytest.mark.parametrize(
    ("answer", "told_of"),
    [
        ({"errors": [{"message": "no\x1b access"}]}, "is refused: no access"),
        ({"errors": ["what"]}, "is refused: no reason given"),
        ({"data": None}, "the answer has no data"),
        ([], "the answer has no data"),
        ({"data": {"myself": None}}, "it does not tell of the endpoint endpoint1"),
        (
            {"data": {"myself": {"endpoints": [None, {"id": 1}]}}},
            "it does not tell of the endpoint",
        ),
    ],
)
def test_what_graphql_refuses_is_told(
    platform: PlatformApi, api: Api, answer: Any, told_of: str
) -> None:
    platform.add_endpoint()
    platform.fail("POST", "/graphql", 200, body=answer)
    with pytest.raises(ApiError) as caught:
        apply(api, f"{MODEL}{FILE}")
    assert str(caught.value).startswith(f"POST /graphql: {told_of}")


# The plan


def test_a_plan_changes_nothing(platform: PlatformApi, api: Api) -> None:
    platform.add_endpoint(image="me/sotto:0")
    assert plan.make(api, asked(f"{MODEL}{FILE}")).changes
    assert changes(platform) == []


def test_a_plan_without_a_catalogue_says_that_prices_are_unknown(
    platform: PlatformApi, api: Api
) -> None:
    platform.fail("GET", "/v2/catalog", 403)
    lines = list(told.lines(plan.make(api, asked(f"{FILE}workers.min = 1\n"))))
    assert any(line.startswith("Note: prices are unknown: GET /v2/catalog/gpus:") for line in lines)
    assert not any("$" in line for line in lines)


def test_a_plan_names_pools_that_nobody_knows_and_images_without_a_tag(
    platform: PlatformApi, api: Api
) -> None:
    text = FILE.replace("ADA_24", "ADA_25").replace("sotto:1", "sotto:latest")
    notes = plan.make(api, asked(text)).notes
    assert [note.split(": ")[0] for note in notes] == ["gpu.pools", "image"]
    assert "ADA_24" in notes[0]


def test_a_worker_with_two_gpus_costs_two(platform: PlatformApi, api: Api) -> None:
    platform.add_endpoint(gpu={"pools": ["AMPERE_16"], "count": 2})
    text = FILE.replace("ADA_24", "AMPERE_16")
    found = dict(plan.make(api, asked(text)).changes)
    (cost,) = [text for change, text in found.items() if change.key == "gpu.count"]
    assert cost == "a worker costs $0.30 an hour, where it was $0.60"


# Waiting


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def pause(self, seconds: float) -> None:
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


def waiting(api: Api, said: list[str]) -> Waiting:
    clock = Clock()
    return Waiting(api, api, said.append, clock.pause, clock.read)


def test_each_state_is_told_once_until_the_workers_are_ready(
    platform: PlatformApi, api: Api
) -> None:
    platform.polls_until_ready = 3
    id_ = apply(api, f"{FILE}workers = {{min = 2, max = 3}}\n")
    said: list[str] = []
    state = waiting(api, said).until_it_answers(id_, 2, 60)
    assert state == "2 of 2 workers ready; workers: 2 idle"
    assert said == ["   0 s  0 of 2 workers ready; workers: 2 initializing"]


def test_workers_of_an_older_release_do_not_count(platform: PlatformApi, api: Api) -> None:
    id_ = apply(api)
    platform.worker(id_, "IDLE", isStale=True)
    platform.worker(id_, "UNHEALTHY")
    platform.worker(id_, "RUNNING")
    platform.worker(id_, "SOMETHING\x1b")
    said: list[str] = []
    assert waiting(api, said).until_it_answers(id_, 1, 60).startswith("1 of 1 workers ready")
    with pytest.raises(DeployError) as caught:
        waiting(api, said).until_it_answers(id_, 2, 60)
    assert (
        "is there as the file says, but after 60 s 1 of 2 workers ready; workers: 1 running, "
        in (str(caught.value))
    )
    assert "\x1b" not in str(caught.value)


def test_an_endpoint_that_does_not_answer_yet_is_waited_for(
    platform: PlatformApi, api: Api
) -> None:
    id_ = apply(api)
    platform.fail("GET", f"/v2/{id_}/health", 404, times=3)
    platform.fail("GET", f"/v2/{id_}/health", 200, body=[])
    said: list[str] = []
    assert waiting(api, said).until_it_answers(id_, 0, 60).startswith("it answers; a worker starts")
    assert len(said) == 2
    assert said[0].startswith(
        "   0 s  it does not answer yet (GET /v2/endpoint1/health: there is no"
    )
    assert said[1].startswith(
        "   6 s  it does not answer yet (GET /v2/endpoint1/health: the answer"
    )


def test_a_key_that_may_not_ask_for_health_ends_the_wait(platform: PlatformApi, api: Api) -> None:
    id_ = apply(api)
    platform.fail("GET", f"/v2/{id_}/health", 401)
    with pytest.raises(ApiError, match="the API key is not accepted"):
        waiting(api, []).until_it_answers(id_, 0, 60)


@pytest.mark.parametrize("answer", [{}, {"workers": None}, {"workers": [None, 1, {}]}, []])
def test_workers_that_are_not_told_are_none(platform: PlatformApi, api: Api, answer: Any) -> None:
    id_ = apply(api)
    platform.fail("GET", f"{ENDPOINTS}/{id_}/workers", 200, times=100, body=answer)
    with pytest.raises(DeployError, match="0 of 1 workers ready"):
        waiting(api, []).until_it_answers(id_, 1, 10)
