"""How a model will run, decided from its header and the device."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.model_files import put_model
from tests.unit.test_engines import OPTIONS

from sotto.engine.devices import CUDA, Batching
from sotto.errors import EngineError, OutOfMemory
from sotto.models.compute import Device
from sotto.models.memory import need_bytes, weights_bytes
from sotto.models.shapes import SHAPES
from sotto.plan import Plan, plan

CPU = Device("cpu", frozenset({"int8", "int8_float32", "float32"}))
GPU = Device("cuda", frozenset({"float16", "int8_float16", "float32"}), "8.6")
LARGE = SHAPES["large-v3"]


def planned(
    folder: Path, device: Device = GPU, budget: int | None = None, **changes: object
) -> Plan:
    return plan("mine", folder, replace(OPTIONS, **changes), device, budget)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return put_model(tmp_path / "large", LARGE)


@pytest.mark.parametrize("data", [b"", b"x", b"<html>not found</html>"])
def test_weights_that_cannot_be_read_are_told_by_the_models_name(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(EngineError, match=r"^model 'mine' cannot be loaded: model.bin: \w+"):
        planned(tmp_path)


def test_weights_that_are_gone_are_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.bin: No such file or directory$"):
        planned(tmp_path)


def test_a_compute_type_that_the_device_lacks_is_told(large: Path) -> None:
    with pytest.raises(EngineError, match="'bfloat16' does not work on this cuda device"):
        planned(large, compute_type="bfloat16")


def test_a_model_that_can_never_fit_is_told_with_need_budget_and_the_ways_out(
    large: Path,
) -> None:
    budget = need_bytes(LARGE, "int8_float16", encode=1, decode=1) - 1
    with pytest.raises(OutOfMemory) as caught:
        planned(large, budget=budget)
    assert str(caught.value) == (
        f"model: 'mine' needs {(budget + 1) / 1e9:.3f} GB on the cuda device of compute capability "
        f"8.6 in int8_float16, and models may have {budget / 1e9:.3f} GB there; use a smaller "
        "model or compute type, or a larger device, or raise SOTTO_MODEL_MEMORY_BYTES"
    )


@pytest.mark.parametrize("budget", [0, -1])
def test_no_memory_at_all_is_too_little(large: Path, budget: int) -> None:
    with pytest.raises(OutOfMemory, match=r"models may have -?0\.000 GB"):
        planned(large, budget=budget)


def test_a_model_that_fits_with_small_calls_alone_gets_all_there_is(large: Path) -> None:
    budget = need_bytes(LARGE, "int8_float16", encode=1, decode=1)
    found = planned(large, budget=budget)
    assert (found.compute_type, found.memory_bytes) == ("int8_float16", budget)


def test_on_a_gpu_with_room_it_is_float16_in_full_calls(large: Path) -> None:
    need = need_bytes(LARGE, "float16", threads=CUDA.threads)
    assert planned(large) == Plan("cuda", "float16", CUDA, need)
    assert planned(large, budget=need) == Plan("cuda", "float16", CUDA, need)


def test_where_memory_is_short_of_all_calls_at_once_there_are_fewer(large: Path) -> None:
    budget = need_bytes(LARGE, "float16", threads=CUDA.threads) - 1
    one = replace(CUDA, threads=1)
    need = need_bytes(LARGE, "float16")
    assert planned(large, budget=budget) == Plan("cuda", "float16", one, need)
    assert planned(large, budget=need) == Plan("cuda", "float16", one, need)
    on_cpu = need_bytes(LARGE, "int8", encode=1, decode=1, threads=1)
    assert planned(put_model(large, LARGE, "int8"), CPU, on_cpu).batching.threads == 1


def test_on_a_cpu_where_memory_is_short_fewer_texts_are_sampled_before_there_are_fewer_calls(
    tmp_path: Path,
) -> None:
    folder = put_model(tmp_path, LARGE, "int8")
    need = partial(need_bytes, LARGE, "int8", encode=1, decode=1)
    for sample in range(1, 6):
        found = planned(folder, CPU, need(sample=sample, threads=2), model_workers=2)
        assert found.batching == Batching(2, encode=1, decode=1, sample=sample)
    assert need(sample=5) > 1.8 * need(sample=1)


def test_the_number_of_calls_that_the_operator_sets_is_kept(large: Path) -> None:
    found = planned(large, budget=need_bytes(LARGE, "float16"), model_workers=2)
    assert found.batching.threads == 2


def test_on_a_gpu_without_room_for_float16_it_is_int8_float16(large: Path) -> None:
    found = planned(large, budget=need_bytes(LARGE, "float16") - 1)
    one = replace(CUDA, threads=1)
    assert found == Plan("cuda", "int8_float16", one, need_bytes(LARGE, "int8_float16"))


def test_on_a_cpu_weights_in_another_type_are_counted_as_they_are_stored(tmp_path: Path) -> None:
    stored = weights_bytes(LARGE, "float16")
    assert stored > need_bytes(LARGE, "int8", encode=1, decode=1)
    with pytest.raises(OutOfMemory, match=f"needs {stored / 1e9:.3f} GB"):
        planned(put_model(tmp_path / "half", LARGE), CPU, stored - 1)
    assert planned(put_model(tmp_path / "half", LARGE), CPU, stored).memory_bytes == stored
    small = need_bytes(LARGE, "int8", encode=1, decode=1)
    assert planned(put_model(tmp_path / "int8", LARGE, "int8"), CPU, small).memory_bytes == small


def test_a_model_that_is_baked_in_int8_stays_so(tmp_path: Path) -> None:
    assert planned(put_model(tmp_path / "a", LARGE, "int8_float16")).compute_type == "int8_float16"
    assert planned(put_model(tmp_path / "b", LARGE, "int8"), CPU).compute_type == "int8"


def test_on_a_cpu_every_core_has_a_call_of_its_own(large: Path) -> None:
    found = planned(large, CPU)
    threads = len(os.sched_getaffinity(0))
    assert found.compute_type == "int8"
    assert found.batching == Batching(threads, encode=1, decode=1, sample=5)
    need = need_bytes(LARGE, "int8", encode=1, decode=1, sample=5, threads=threads)
    assert found.memory_bytes == max(need, weights_bytes(LARGE, "float16"))


def test_what_the_operator_sets_is_what_is_counted(large: Path) -> None:
    found = planned(large, model_workers=3, encode_batch=2, decode_batch=5)
    assert found.batching == Batching(3, 2, 5, 5)
    assert found.memory_bytes == need_bytes(LARGE, "float16", encode=2, decode=5, threads=3)
