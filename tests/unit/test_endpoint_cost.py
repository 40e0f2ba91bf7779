"""What settings cost and what changes do to that: in words, from the catalogue's prices alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.platform_state import gpu_type

from sotto.endpoint.config import parse
from sotto.endpoint.cost import UNKNOWN, Step, consequence, costs, described, dollars, spread
from sotto.endpoint.deployment import Deployment, wanted
from sotto.endpoint.difference import difference
from sotto.endpoint.prices import Api, Catalogue, Rate, Spread, catalogue

LEAST = wanted(parse('name = "sotto"\nimage = "me/sotto:1"\ngpu.pools = ["ADA_24"]\n'), {})
ONE_PRICE = Rate(Spread(0.6, 0.6), ())
NO_PRICE = Rate(None, ("ADA_24",))


class Rows(Api):
    """An API that answers one thing."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, path: str, **query: str) -> Any:
        return self.answer


def read(*rows: Any) -> Catalogue:
    return catalogue(Rows({"gpus": list(rows)}))


def told(after: Deployment, before: Deployment | None = LEAST, rate: Rate = ONE_PRICE) -> list[str]:
    """The consequences of all changes."""
    step = Step(before, after, None if before is None else ONE_PRICE, rate)
    return [consequence(change, step) for change in difference(before, after)]


# The catalogue


@pytest.mark.parametrize("answer", [None, [], {}, {"gpus": None}, {"gpus": {}}, "gpus"])
def test_no_catalogue_knows_no_price(answer: Any) -> None:
    assert catalogue(Rows(answer)).rate(["ADA_24"], []) == Rate(None, ("ADA_24",))


@pytest.mark.parametrize(
    "row",
    [
        None,
        "NVIDIA L4",
        {"id": 1},
        {"id": "a"},
        {"id": "a", "pool": None, "price": None},
        gpu_type("a", "ADA_24", None),
        gpu_type("a", "ADA_24", 0.0),
        gpu_type("a", "ADA_24", -1.0),
        gpu_type("a", "ADA_24", float("nan")),
        gpu_type("a", "ADA_24", 1e300),
        {"id": "a", "pool": "ADA_24", "price": {"serverless": "0.5"}},
        {"id": "a", "pool": "ADA_24", "price": {"serverless": True}},
        {"id": "a", "pool": "ADA_24", "price": 0.5},
    ],
)
def test_a_row_without_a_price_gives_none(row: Any) -> None:
    assert read(row).rate(["ADA_24"], []) == Rate(None, ("ADA_24",))


def test_a_worker_costs_what_the_types_of_its_pools_do() -> None:
    found = read(
        gpu_type("NVIDIA L4", "ADA_24", 0.6),
        gpu_type("NVIDIA GeForce RTX 4090", "ADA_24", 1.2),
        gpu_type("NVIDIA RTX A4000", "AMPERE_16", 0.3),
        gpu_type("NVIDIA A2", None, 0.1),
    )
    assert found.rate(["ADA_24"], []) == Rate(Spread(0.6, 1.2), ())
    assert found.rate(["ADA_24"], ["NVIDIA L4"]) == Rate(Spread(1.2, 1.2), ())
    assert found.rate(["ADA_24", "AMPERE_16"], []) == Rate(Spread(0.3, 1.2), ())
    assert found.rate(["ADA_24", "HOPPER_141"], []) == Rate(Spread(0.6, 1.2), ("HOPPER_141",))
    assert found.usd_an_hour("NVIDIA L4") == 0.6
    assert found.usd_an_hour("NVIDIA H200") is None


# Amounts


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0, "$0.00"),
        (0.00001, "less than $0.0001"),
        (0.0001, "$0.0001"),
        (0.0083333, "$0.0083"),
        (0.02, "$0.02"),
        (0.3, "$0.30"),
        (0.345, "$0.345"),
        (0.99999, "$1.00"),
        (1.0, "$1.00"),
        (1234.5, "$1,234.50"),
    ],
)
def test_an_amount_has_the_digits_that_matter(usd: float, text: str) -> None:
    assert dollars(usd) == text


def test_a_spread_of_one_amount_is_that_amount() -> None:
    assert spread(Spread(0.5, 0.5)) == "$0.50"
    assert spread(Spread(0.5, 1.5)) == "$0.50 to $1.50"
    assert spread(None) == UNKNOWN


# What settings cost


def test_an_idle_minute_costs_what_the_workers_do_that_are_always_there() -> None:
    found = costs(replace(LEAST, workers_min=2), ONE_PRICE)
    assert found.idle_minute is not None
    assert found.idle_minute.low_usd == pytest.approx(2 * 0.6 / 60)
    assert costs(LEAST, ONE_PRICE).idle_minute == Spread(0.0, 0.0)
    assert costs(LEAST, NO_PRICE).idle_minute == Spread(0.0, 0.0)
    assert costs(replace(LEAST, workers_min=1), NO_PRICE).idle_minute is None


def test_settings_are_described_with_what_each_costs() -> None:
    assert described(replace(LEAST, workers_min=1), ONE_PRICE) == [
        "a worker: $0.60 an hour, RunPod's list price",
        "an idle minute: $0.01, with 1 worker always there; $14.40 a day",
        "a worker's stay of 10 s after its last job: $0.0017",
        "at most: $1.80 an hour, with 3 workers at work",
    ]


def test_without_workers_that_stay_an_idle_minute_costs_nothing() -> None:
    found = described(LEAST, ONE_PRICE)
    assert found[1] == "an idle minute: nothing once the last worker has gone"


def test_without_any_worker_nothing_costs() -> None:
    found = described(replace(LEAST, workers_max=0), ONE_PRICE)
    assert found[-1].startswith("at most: nothing, as no worker may run")


def test_a_price_that_is_not_known_is_said_to_be_so() -> None:
    found = described(replace(LEAST, workers_min=1), NO_PRICE)
    assert all(UNKNOWN in line for line in found)
    assert "$" not in "".join(found)
    partly = described(LEAST, Rate(Spread(0.6, 0.6), ("HOPPER_141",)))
    assert partly[0].endswith("list price; unknown for HOPPER_141")


# What changes do


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"workers_min": 2},
            "an idle minute costs $0.02 ($28.80 a day), with 2 workers always there",
        ),
        ({"workers_max": 5}, "an hour with all workers at work costs $1.20 more at most"),
        ({"workers_max": 2}, "an hour with all workers at work costs $0.60 less; jobs may wait"),
        ({"workers_max": 0}, "no worker may run: jobs cost nothing and wait until they expire"),
        (
            {"idle_timeout_s": 70},
            "each stay of a worker after its last job costs up to $0.01 more (60 s more)",
        ),
        (
            {"idle_timeout_s": 4},
            "each stay of a worker after its last job costs up to $0.001 less (6 s less)",
        ),
        ({"timeout_s": 600.0}, "a job that hangs costs up to $0.10 (600 s of a worker) before"),
        ({"flashboot": "on"}, "unknown, as the catalogue has no price for it"),
        ({"disk_gb": 50}, "unknown, as the catalogue has no price for it"),
        ({"image": "me/sotto:2"}, "nothing by itself; workers are replaced"),
        ({"env": {}}, "nothing by itself; workers are replaced"),
        ({"min_cuda": "12.4"}, "nothing by itself; the fewer machines fit"),
        ({"scaling_value": 2.0}, "nothing by itself; the sooner workers start"),
        ({"network_volumes": ("v",)}, "a volume is billed by its size"),
        ({"cached_model": "a/b:main"}, "nothing for its download"),
    ],
)
def test_each_change_says_what_it_does_to_the_bill(changes: dict[str, Any], text: str) -> None:
    (found,) = told(replace(LEAST, **changes))
    assert found.startswith(text)


def test_fewer_workers_that_stay_cost_less_and_make_jobs_wait() -> None:
    before = replace(LEAST, workers_min=3)
    (found,) = told(replace(LEAST, workers_min=1), before)
    assert found.startswith("an idle minute costs $0.02 less ($28.80 a day); a job that comes")
    (more,) = told(replace(LEAST, workers_min=4), before)
    assert more == "an idle minute costs $0.01 more ($14.40 a day), with 1 worker more always there"


def test_another_gpu_costs_another_hour() -> None:
    dear = Rate(Spread(1.2, 1.8), ())
    (found,) = told(replace(LEAST, pools=("ADA_48_PRO",)), rate=dear)
    assert found == "a worker costs $1.20 to $1.80 an hour, where it was $0.60"
    (same,) = told(replace(LEAST, pools=("AMPERE_24",)))
    assert same == "a worker costs what it did, $0.60 an hour; workers are replaced"


def test_without_a_price_each_change_says_so() -> None:
    after = replace(LEAST, workers_min=1, workers_max=9, idle_timeout_s=60, timeout_s=600.0)
    assert all(UNKNOWN in text for text in told(after, rate=NO_PRICE))


def test_of_a_new_endpoint_nothing_is_said_to_be_replaced() -> None:
    found = told(LEAST, before=None)
    assert not any("replaced" in text or "more" in text or "less" in text for text in found)
    assert "a worker costs $0.60 an hour" in found
