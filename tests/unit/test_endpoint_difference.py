"""What is live and what is wanted, compared: what changes, what does not, and what is not shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sotto.endpoint.config import parse
from sotto.endpoint.deployment import DeployError, Deployment, wanted
from sotto.endpoint.difference import Change, difference

WANTED = wanted(
    parse('name = "sotto"\nimage = "me/sotto:1"\ngpu.pools = ["ADA_24", "AMPERE_16"]\n'), {}
)
LIVE = replace(WANTED, disk_gb=20, env={**WANTED.env})


def changed(live: Deployment | None = LIVE, **changes: Any) -> list[tuple[str, str, str, str]]:
    """Key, action, before and after of every change that `changes` to what is wanted make."""
    found = difference(live, replace(WANTED, **changes))
    return [(one.key, one.action, one.before, one.after) for one in found]


@pytest.mark.parametrize("kind", ["cpu", "load_balancer", "some\x1b[31mthing"])
def test_an_endpoint_of_another_kind_cannot_be_changed(kind: str) -> None:
    with pytest.raises(DeployError, match="not a queue of GPU workers") as caught:
        difference(replace(LIVE, kind=kind), WANTED)
    assert "\x1b" not in str(caught.value)


def test_what_is_equal_gives_no_change() -> None:
    assert changed() == []


@pytest.mark.parametrize("field", [f for f in Deployment.__slots__ if f not in ("name", "kind")])
def test_what_the_platform_does_not_tell_is_a_change_to_what_is_wanted(field: str) -> None:
    value = {} if field == "env" else None
    asked = replace(WANTED, disk_gb=20, cached_model="a/b:main")
    live = replace(replace(LIVE, cached_model="a/b:main"), **{field: value})
    found = difference(live, asked)
    assert [one.field for one in found] == [field]
    assert field == "env" or found[0].before == "unknown"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image": "me/sotto:2"}, ("image", "change", "me/sotto:1", "me/sotto:2")),
        ({"registry": "reg"}, ("registry", "change", "none", "reg")),
        ({"disk_gb": 30}, ("disk_gb", "change", "20 GB", "30 GB")),
        ({"timeout_s": 600.5}, ("timeout_s", "change", "300 s", "600.5 s")),
        ({"flashboot": "on"}, ("flashboot", "change", "off", "on")),
        ({"data_centers": ("EU-RO-1",)}, ("data_centers", "change", "all", "EU-RO-1")),
        ({"network_volumes": ("v",)}, ("network_volumes", "change", "none", "v")),
        ({"pools": ("AMPERE_16",)}, ("gpu.pools", "change", "ADA_24, AMPERE_16", "AMPERE_16")),
        (
            {"pools": ("AMPERE_16", "ADA_24")},
            ("gpu.pools", "change", "ADA_24, AMPERE_16", "AMPERE_16, ADA_24"),
        ),
        ({"gpu_count": 2}, ("gpu.count", "change", "1", "2")),
        ({"min_cuda": "12.4"}, ("gpu.min_cuda", "change", "any", "12.4")),
        ({"workers_min": 1}, ("workers.min", "change", "0", "1")),
        ({"workers_max": 0}, ("workers.max", "change", "3", "0")),
        ({"idle_timeout_s": 0}, ("workers.idle_timeout_s", "change", "10 s", "none")),
        ({"scaling": "request_count"}, ("scaling.kind", "change", "queue_delay", "request_count")),
        ({"scaling_value": 4.5}, ("scaling.value", "change", "4", "4.5")),
    ],
)
def test_a_change_is_told_in_the_words_of_the_file(
    changes: dict[str, Any], told: tuple[str, str, str, str]
) -> None:
    assert changed(**changes) == [told]


@pytest.mark.parametrize(
    ("live", "asked"),
    [
        ({"scaling_value": 4.099999904632568}, {"scaling_value": 4.1}),  # as 32 bits hold 4.1
        ({"data_centers": ("A-1", "B-1")}, {"data_centers": ("B-1", "A-1")}),
        ({"disk_gb": 50}, {"disk_gb": None}),
        ({"cached_model": "a/b:main"}, {"cached_model": None}),
    ],
)
def test_what_means_the_same_or_is_left_to_the_platform_is_no_change(
    live: dict[str, Any], asked: dict[str, Any]
) -> None:
    assert changed(replace(LIVE, **live), **asked) == []


def test_a_list_of_cuda_versions_that_somebody_set_by_hand_is_taken_away() -> None:
    live = replace(LIVE, allowed_cuda=("12.4", "12.5"))
    assert changed(live) == [("gpu.allowed_cuda", "change", "12.4, 12.5", "any")]


def test_of_a_new_endpoint_all_that_is_asked_for_is_told() -> None:
    found = changed(None)
    assert {action for _, action, _, _ in found} == {"add"}
    assert ("gpu.pools", "add", "", "ADA_24, AMPERE_16") in found
    keys = {key for key, *_ in found}
    assert keys.isdisjoint({"registry", "disk_gb", "data_centers", "gpu.min_cuda", "cached_model"})


def test_of_a_new_endpoint_that_scales_by_jobs_no_idle_timeout_is_told() -> None:
    found = changed(None, scaling="request_count", idle_timeout_s=0)
    keys = {key for key, *_ in found}
    assert "workers.idle_timeout_s" not in keys
    assert ("workers.min", "add", "", "0") in found


def test_variables_are_told_by_their_names_alone() -> None:
    live = replace(LIVE, env={"OLD": "sesame-1", "KEPT": "sesame-2", "OTHER": "sesame-3"})
    found = difference(live, replace(WANTED, env={"KEPT": "sesame-2", "OTHER": "x", "NEW": "y"}))
    assert found == (
        Change("env", "env.NEW", "add", "", ""),
        Change("env", "env.OLD", "remove", "", ""),
        Change("env", "env.OTHER", "change", "", ""),
    )
    assert "sesame" not in repr((found, live))


def test_what_the_platform_says_cannot_act_on_a_terminal() -> None:
    live = replace(LIVE, image="a\x1b[2Jb\r\n" + "c" * 1000, env={"X\x07": ""})
    shown = [text for row in changed(live) for text in row]
    assert all(text.isprintable() and len(text) <= 210 for text in shown)
