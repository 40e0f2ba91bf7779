"""A deployment to the API's bodies, by the API's own schema, and its answers back, however odd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.platform_state import State, faults

from sotto.endpoint.api import ApiError
from sotto.endpoint.config import Endpoint, parse
from sotto.endpoint.deployment import DeployError, Deployment, wanted
from sotto.endpoint.difference import difference
from sotto.endpoint.wire import BODY_FIELDS, create_body, endpoints, live, update_body

LEAST = 'name = "sotto"\nimage = "me/sotto:1"\ngpu.pools = ["ADA_24"]\n'
WHOLE = """
name = "sotto"
image = "me/sotto:1"
registry = "reg1"
disk_gb = 30
timeout_s = 60.5
flashboot = "priority"
data_centers = ["EU-RO-1"]
network_volumes = ["vol1"]
gpu = {pools = ["ADA_24", "AMPERE_16"], excluded_types = ["NVIDIA L4"], min_cuda = "12.4"}
workers = {min = 1, max = 5, idle_timeout_s = 20}
scaling = {kind = "queue_delay", value = 2.5}
env = {SOTTO_MODEL = "tiny"}
secrets = {SOTTO_HUB_TOKEN = "hub"}
"""
BY_COUNT = LEAST + 'scaling = {kind = "request_count", value = 3}\n'


def deployment(text: str = LEAST, **environ: str) -> Deployment:
    return wanted(parse(text, to_deploy=True), environ)


def sent_and_told(body: dict[str, Any]) -> dict[str, Any]:
    """What the API makes of a create."""
    return State().add_endpoint(**body)


# Answers that are not what they should be


@pytest.mark.parametrize(
    "answer", [None, [], "endpoints", 1, {}, {"endpoints": None}, {"endpoints": {}}]
)
def test_an_answer_without_a_list_is_an_error(answer: Any) -> None:
    with pytest.raises(ApiError, match="no list of endpoints"):
        endpoints(answer)


@pytest.mark.parametrize(
    "row",
    [
        None,
        1,
        [],
        {},
        {"id": "a"},
        {"name": "a"},
        {"id": None, "name": "a"},
        {"id": "a", "name": None},
        {"id": "../pods/x", "name": "a"},
        {"id": "a/b", "name": "a"},
        {"id": "", "name": "a"},
        {"id": "x" * 101, "name": "a"},
    ],
)
def test_what_has_no_id_or_no_name_is_no_endpoint(row: Any) -> None:
    assert endpoints({"endpoints": [row]}) == []


NOTHING = {"id": "a", "name": "sotto"}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.text(max_size=3)), max_size=3),
)


@settings(deadline=None)
@given(st.data())
def test_an_endpoint_is_read_as_far_as_it_goes(data: st.DataObject) -> None:
    told = sent_and_told(create_body(deployment(WHOLE)))
    for name in [*told, "cpu", "unheard_of"]:
        fate = data.draw(st.sampled_from(["keep", "drop", "odd"]))
        if fate == "odd":
            told[name] = data.draw(ODD)
        elif fate == "drop":
            told.pop(name, None)
    for table in ("gpu", "workers", "scaling"):
        if isinstance(told.get(table), dict):
            told[table] = {name: data.draw(ODD) for name in told[table]}
    found = live({**told, **NOTHING})
    assert found is not None
    try:
        assert isinstance(difference(found.deployment, deployment(WHOLE)), tuple)
    except DeployError:
        assert found.deployment.kind != "queue"


def test_an_endpoint_of_which_nothing_is_told_differs_in_all_that_matters() -> None:
    found = live(NOTHING)
    assert found is not None
    keys = {change.key for change in difference(found.deployment, deployment())}
    assert {"image", "timeout_s", "gpu.pools", "workers.min", "scaling.kind"} <= keys


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"type": "QUEUE"}, "queue"),
        ({"type": None}, "queue"),
        ({}, "queue"),
        ({"type": "LOAD_BALANCER"}, "load_balancer"),
        ({"type": "QUEUE", "gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 4}]}, "cpu"),
    ],
)
def test_what_kind_an_endpoint_is_of(told: dict[str, Any], kind: str) -> None:
    found = live({**NOTHING, **told})
    assert found is not None
    assert found.deployment.kind == kind


def test_the_mark_of_flashboot_is_no_part_of_the_name() -> None:
    found = live({"id": "a", "name": "sotto -fb"})
    assert found is not None
    assert found.deployment.name == "sotto"


# Bodies


@pytest.mark.parametrize("text", [LEAST, WHOLE, BY_COUNT])
def test_a_create_is_as_the_api_wants_it_and_comes_back_as_it_was(text: str) -> None:
    asked = deployment(text)
    body = create_body(asked)
    assert faults("CreateEndpointRequest", body) == []
    found = live(sent_and_told(body))
    assert found is not None
    assert difference(found.deployment, asked) == ()


def test_a_create_says_nothing_that_was_not_asked_for() -> None:
    assert create_body(deployment()) == {
        "name": "sotto",
        "type": "QUEUE",
        "image": "me/sotto:1",
        "timeout": 300_000,
        "flashboot": "OFF",
        "gpu": {"pools": ["ADA_24"], "count": 1},
        "workers": {"min": 0, "max": 3, "idleTimeout": 10},
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4.0},
        "env": {"SOTTO_JOB_TIMEOUT_S": "285"},
    }


def test_an_idle_timeout_is_never_sent_where_the_request_count_scales() -> None:
    assert create_body(deployment(BY_COUNT))["workers"] == {"min": 0, "max": 3}
    assert create_body(deployment(BY_COUNT))["scaling"] == {
        "type": "REQUEST_COUNT",
        "requestCount": 3,
    }
    assert update_body(deployment(BY_COUNT), {"workers_min"}) == {"workers": {"min": 0, "max": 3}}


@pytest.mark.parametrize("field", BODY_FIELDS)
@pytest.mark.parametrize("text", [LEAST, WHOLE, BY_COUNT])
def test_an_update_of_any_field_is_as_the_api_wants_it(text: str, field: str) -> None:
    asked = replace(deployment(text), disk_gb=30)
    assert faults("UpdateEndpointRequest", update_body(asked, {field})) == []


def test_an_update_of_everything_is_as_the_api_wants_it() -> None:
    body = update_body(replace(deployment(), disk_gb=5), set(BODY_FIELDS))
    assert faults("UpdateEndpointRequest", body) == []


def test_exclusions_go_with_their_pools_and_a_floor_takes_a_list_away() -> None:
    asked = deployment(WHOLE)
    assert update_body(asked, {"pools"}) == {
        "gpu": {"pools": ["ADA_24", "AMPERE_16"], "excludedTypes": ["NVIDIA L4"]}
    }
    assert update_body(asked, {"min_cuda"}) == {
        "gpu": {"minCudaVersion": "12.4", "allowedCudaVersions": []}
    }
    assert update_body(deployment(), {"min_cuda"})["gpu"]["minCudaVersion"] == ""


def test_a_second_gpu_that_somebody_set_by_hand_is_taken_away() -> None:
    found = live(sent_and_told({**create_body(deployment()), "gpu": {"pools": ["A"], "count": 2}}))
    assert found is not None
    changes = difference(found.deployment, deployment(LEAST.replace("ADA_24", "A1")))
    assert ("gpu.count", "2", "1") in [(one.key, one.before, one.after) for one in changes]
    assert update_body(deployment(), {"gpu_count"}) == {"gpu": {"count": 1}}


def test_a_cached_model_is_no_part_of_a_body() -> None:
    asked = deployment(f'{LEAST}cached_model = "org/model"\n')
    assert asked.cached_model == "org/model:main"
    assert update_body(asked, {"cached_model"}) == {}
    assert "org/model" not in str(create_body(asked))


@settings(deadline=None)
@given(st.data())
def test_any_file_makes_a_body_that_the_api_takes(data: st.DataObject) -> None:
    by_count = data.draw(st.booleans())
    value = data.draw(st.integers(1, 1_000_000) if by_count else st.floats(0.5, 1e6))
    idle = None if by_count else data.draw(st.none() | st.integers(1, 3600))
    most = data.draw(st.integers(0, 1000))
    endpoint = Endpoint(
        name="sotto",
        image="me/sotto:1",
        timeout_s=data.draw(st.floats(20, 604_800)),
        flashboot=data.draw(st.sampled_from(["off", "on", "priority"])),
        env=data.draw(st.dictionaries(st.from_regex(r"\A[A-Z]{1,5}\Z"), st.text(max_size=5))),
    )
    asked = replace(
        wanted(endpoint, {}),
        pools=("ADA_24",),
        workers_min=data.draw(st.integers(0, most)),
        workers_max=most,
        idle_timeout_s=idle or (0 if by_count else 10),
        scaling="request_count" if by_count else "queue_delay",
        scaling_value=float(value),
    )
    assert faults("CreateEndpointRequest", create_body(asked)) == []
    assert faults("UpdateEndpointRequest", update_body(asked, set(BODY_FIELDS) - {"disk_gb"})) == []


# The environment of the workers


def test_a_worker_stops_a_job_before_the_platform_does() -> None:
    assert deployment(f"{LEAST}timeout_s = 600\n").env == {"SOTTO_JOB_TIMEOUT_S": "585"}
    own = deployment(f'{LEAST}env.SOTTO_JOB_TIMEOUT_S = "100"\n')
    assert own.env == {"SOTTO_JOB_TIMEOUT_S": "100"}


def test_secrets_are_sent_as_references_and_variables_as_they_are_here() -> None:
    text = f'env_from = ["B"]\n{LEAST}[secrets]\nA = "name-1"\n[env]\nC = "c"\n'
    asked = deployment(text, B="sesame")
    assert asked.env == {
        "SOTTO_JOB_TIMEOUT_S": "285",
        "A": "{{ RUNPOD_SECRET_name-1 }}",
        "B": "sesame",
        "C": "c",
    }
    assert "sesame" not in repr(asked)


def test_variables_that_are_not_set_here_are_all_told() -> None:
    with pytest.raises(DeployError) as caught:
        deployment(f'env_from = ["A", "B", "C"]\n{LEAST}', B="b", C="")
    assert (
        str(caught.value) == "env_from: A: not set here; set it\nenv_from: C: not set here; set it"
    )
