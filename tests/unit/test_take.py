"""Jobs out of the platform's answer, each by itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto.worker import take
from sotto.worker.take import Unreadable

GOOD = '{"id": "good", "input": {"audio": "a ] } \\" { ["}}'
DIGITS = "7" * 5000
LISTS = "[" * 3000 + "]" * 3000


def jobs_in(answer: bytes) -> list[Any]:
    return asyncio.run(take.jobs_in(answer))


def ids(answer: str) -> list[Any]:
    return [job.get("id") for job in jobs_in(answer.encode())]


@pytest.mark.parametrize("answer", [b"", b" \n"])
def test_an_empty_answer_holds_no_job(answer: bytes) -> None:
    assert jobs_in(answer) == []


def test_a_job_without_an_input_is_given_out_to_be_answered() -> None:
    assert jobs_in(b'{"id": "x"}') == jobs_in(b'[{"id": "x"}]') == [{"id": "x"}]


@pytest.mark.parametrize(
    "answer", ["<html>", '[{"id": "x", ', '{"id": "x"', "]", '"', "[[", DIGITS]
)
def test_what_is_no_json_holds_no_job_and_is_logged(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert jobs_in(answer.encode()) == []
    assert "is no JSON" in caplog.text


@pytest.mark.parametrize("bad_id", ['"a\\q"', '"a\x01"', '"\udcff"'])
def test_an_id_that_cannot_be_read_costs_no_other_job(bad_id: str) -> None:
    bad = f'{{"id": {bad_id}, "input": {{}}}}'
    answer = f"[{bad},{GOOD}]".encode(errors="surrogateescape")
    bad_job, good = jobs_in(answer)
    assert isinstance(bad_job, Unreadable)
    assert good == json.loads(GOOD)


@pytest.mark.parametrize("value", [DIGITS, LISTS, '{"a":' * 2000 + "1" + "}" * 2000, "nope", "01"])
@pytest.mark.parametrize(
    "bad",
    [
        '{"id": "bad", "input": {"beam_size": VALUE}}',
        '{"input": {"id": "victim", "audio": VALUE}, "id": "bad"}',
        '{"input": [{"id": "victim"}, VALUE, "id"], "x": "id", "id" : "bad", "y": ":"}',
        '{"i": "id", "id": "b\\u0061d", "input": VALUE}',
    ],
)
def test_a_job_that_cannot_be_read_costs_no_other_and_keeps_its_id(bad: str, value: str) -> None:
    bad = bad.replace("VALUE", value)
    alone, *_ = jobs_in(bad.encode())
    assert isinstance(alone, Unreadable)
    assert alone == {"id": "bad"}
    assert alone.reason
    assert ids(f"[{GOOD},{bad} , {GOOD}]") == ["good", "bad", "good"]
    first, _, last = jobs_in(f" [{GOOD},{bad},{GOOD}]".encode())
    assert first == last == json.loads(GOOD)


@pytest.mark.parametrize("bad", ['{"input": VALUE}', '{"input": {"id": "x"}, "y": VALUE}'])
def test_a_job_that_cannot_be_read_and_has_no_id_is_nobodys(bad: str) -> None:
    assert ids(f"[{bad.replace('VALUE', DIGITS)},{GOOD}]") == [None, "good"]


def test_jobs_go_on_while_an_answer_is_read_piece_by_piece() -> None:
    async def run() -> tuple[list[Any], int]:
        reading = asyncio.create_task(take.jobs_in(f'[{{"n": {DIGITS}}}]'.encode()))
        steps = 0
        while not reading.done():
            steps += 1
            await asyncio.sleep(0)
        return reading.result(), steps

    found, steps = asyncio.run(run())
    assert isinstance(found[0], Unreadable)
    assert steps > 1


def test_jobs_that_come_too_late_to_be_read_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        reading = asyncio.create_task(take.jobs_in(f'[{{"n": {DIGITS}}}]'.encode()))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    asyncio.run(run())
    assert "left to the platform" in caplog.text


jobs = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.text(max_size=5) | st.integers(0, 9) | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    ),
    max_size=4,
)


@given(st.lists(jobs, max_size=4), jobs)
def test_neighbours_of_any_shape_are_read_as_they_are(neighbours: list[Any], other: Any) -> None:
    texts = [json.dumps(job) for job in [*neighbours, other]]
    answer = f'[{",".join([*texts[:-1], json.dumps({"id": "bad"})[:-1]])}, "n": {DIGITS}}}]'
    found = jobs_in(answer.encode())
    assert found == [*neighbours, {"id": "bad"}]
    assert isinstance(found[-1], Unreadable)
