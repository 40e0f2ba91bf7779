"""One item made in advance: same items, same errors, one thread at a time, no deadlock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sotto.ahead import ahead


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_the_items_are_the_same_in_the_same_order(threads: ThreadPoolExecutor) -> None:
    assert list(ahead(iter(range(1000)), threads)) == list(range(1000))


def test_nothing_in_nothing_out(threads: ThreadPoolExecutor) -> None:
    assert list(ahead(iter(()), threads)) == []


def test_the_next_item_is_made_while_this_one_is_worked_on(threads: ThreadPoolExecutor) -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    made = ahead(items(), threads)
    assert next(made) == 1
    assert second.wait(10)
    assert list(made) == [2]


def test_no_more_than_one_item_is_made_in_advance(threads: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 100):
            begun.append(number)
            yield number

    made = ahead(items(), threads)
    assert next(made) == 1
    threads.submit(int).result(10)  # the thread is free again, so what it had to make is made
    assert begun == [1, 2]
    made.close()


def test_an_error_comes_in_its_turn(threads: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    made = ahead(items(), threads)
    assert next(made) == 1
    with pytest.raises(ValueError, match="broken"):
        next(made)


def test_a_pool_whose_threads_all_wait_for_it_goes_on(threads: ThreadPoolExecutor) -> None:
    job = threads.submit(lambda: list(ahead(iter(range(100)), threads)))
    assert job.result(10) == list(range(100))


def test_closing_waits_for_what_is_being_made(threads: ThreadPoolExecutor) -> None:
    begun, go_on = threading.Event(), threading.Event()
    left = []

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        go_on.wait(10)
        left.append(True)
        yield 2

    made = ahead(items(), threads)
    assert next(made) == 1
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    made.close()
    assert left == [True]
