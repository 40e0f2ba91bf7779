"""One job's windows: several in flight, in file order, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, TypeVar

import numpy as np
import pytest
from tests.gate import HANG_S, Gate, ask, features, number

from sotto.asking import ROUNDS, Asker
from sotto.audio.pcm import RATE, Span
from sotto.audio.windows import Window
from sotto.decoding import Featured, in_order
from sotto.engine.base import Ask, Decoded, Decoding, Draft, TimedWord
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.errors import AudioUndecodable, EngineError, Overloaded
from sotto.meter import Meter
from sotto.request import Request, parse
from sotto.transcript.segments import Part

T = TypeVar("T")


def request(**options: object) -> Request:
    return parse({"audio_base64": "UklGRg==", "language": "en", **options})


def windows(count: int, frames: int = 200) -> Iterator[Featured]:
    """Windows of a file that is spoken without a pause."""
    for index in range(count):
        samples = frames * 160
        piece = Span(index * samples, (index + 1) * samples)
        pcm = np.zeros(samples, np.float32)
        yield Window(index, (piece,), (piece,), pcm), features(index, frames)


def decoding(
    items: Iterator[Featured],
    batcher: Batcher,
    threads: ThreadPoolExecutor,
    *,
    meter: Meter | None = None,
    ahead: int = 8,
    **options: object,
) -> AsyncGenerator[list[Part], None]:
    """The windows `items` of a job with these options, decoded in order."""
    asker = Asker(request(**options), batcher, threads, object())
    return in_order(items, asker, threads, lambda: ahead, meter or Meter())


def finish(job: Coroutine[object, object, T]) -> T:
    """Run `job` in an event loop of its own; one that hangs fails."""

    async def bounded() -> T:
        async with asyncio.timeout(HANG_S):
            return await job

    return asyncio.run(bounded())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def start() -> Iterator[Callable[..., Batcher]]:
    """Makes batchers that are closed after the test."""
    started: list[Batcher] = []

    def make(engine: FakeEngine, **options: int) -> Batcher:
        started.append(Batcher(engine, **options))
        return started[-1]

    yield make
    for batcher in started:
        batcher.close()


@pytest.fixture
def decode(threads, start):
    """Runs windows through an engine; gives what came out, and the error that ended it."""

    def run(
        items: Iterable[Featured], engine: FakeEngine, ahead: int = 8, **options: object
    ) -> tuple[list[tuple[int, Decoded]], BaseException | None]:
        results: list[tuple[int, Decoded]] = []

        async def consume() -> None:
            async with aclosing(
                decoding(iter(items), start(engine), threads, ahead=ahead, **options)
            ) as decoded:
                async for (part,) in decoded:
                    results.append((part.window.index, part.decoded))
            assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            finish(consume())
        except Exception as error:
            return results, error
        return results, None

    return run


def order(results: Sequence[tuple[int, Decoded]]) -> list[int]:
    return [index for index, _ in results]


def test_no_windows_give_no_results_and_no_call(decode):
    engine = FakeEngine()
    assert decode([], engine) == ([], None)
    assert engine.calls == []


def test_results_are_those_of_the_windows_alone(decode):
    results, _ = decode(windows(20), FakeEngine())
    assert order(results) == list(range(20))
    for index, result in results:
        assert result == FakeEngine().decode([ask(index, language="en")])[0]


def test_a_job_in_which_nobody_speaks_leaves_the_thread_to_others(threads, start):
    """One thread for both: the silent job ends only once the other one has its words."""
    spoken = threading.Event()

    def silence() -> Iterator[Featured | None]:
        while not spoken.is_set():
            yield None

    async def both() -> list[list[Part]]:
        batcher = start(FakeEngine())
        silent = asyncio.create_task(collected(decoding(silence(), batcher, threads)))
        await asyncio.sleep(0)
        heard = await collected(decoding(windows(3), batcher, threads))
        spoken.set()
        assert await silent == []
        return heard

    assert [part.window.index for (part,) in finish(both())] == [0, 1, 2]


def test_a_job_that_waits_for_a_thread_is_cancelled_at_once(threads, start):
    held = threading.Event()
    pulled = []

    def counted() -> Iterator[Featured]:
        for one in windows(3):
            pulled.append(one)
            yield one

    async def cancelled() -> None:
        job = asyncio.create_task(collected(decoding(counted(), start(FakeEngine()), threads)))
        await asyncio.sleep(0.05)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    threads.submit(held.wait, HANG_S)
    try:
        finish(cancelled())
        assert not held.is_set()
    finally:
        held.set()
    threads.submit(int).result(HANG_S)
    assert pulled == []


async def collected(decoded: AsyncGenerator[list[Part], None]) -> list[list[Part]]:
    async with aclosing(decoded):
        return [parts async for parts in decoded]


def test_file_order_is_kept_though_windows_finish_out_of_order(decode):
    last_is_done = threading.Event()

    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) == 0:
            assert last_is_done.wait(HANG_S)
        if number(asks[0]) == 3:
            last_is_done.set()

    results, _ = decode(windows(4), FakeEngine(threads=2, batch_limit=1, fault=fault))
    assert order(results) == [0, 1, 2, 3]


def test_windows_of_a_job_meet_in_a_call(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate, cost_s=lambda _: 0.02)
    decode(windows(30), engine, ahead=16)
    assert max(engine.calls) == 8


def test_a_detected_language_is_that_of_the_first_window_for_all_others(decode):
    gate = Gate()
    gate.open()
    decode(windows(6), FakeEngine(fault=gate), language=None)
    asked = {number(one): one.language for call in gate.calls for one in call}
    assert asked == {0: None, 1: "en", 2: "en", 3: "en", 4: "en", 5: "en"}
    assert gate.rows[0] == [0]


def test_a_given_language_is_asked_for_in_every_window_from_the_start(decode):
    gate = Gate()
    gate.open()
    results, _ = decode(windows(6), FakeEngine(fault=gate), language="ru")
    assert {one.language for call in gate.calls for one in call} == {"ru"}
    assert {result.language for _, result in results} == {"ru"}


def test_an_initial_prompt_stands_before_the_first_window_only(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate)
    decode(windows(4), engine, initial_prompt="Norland Park, Sussex")
    prompts = {number(one): one.prompt for call in gate.calls for one in call}
    assert prompts == {0: engine.tokenize("Norland Park, Sussex"), 1: (), 2: (), 3: ()}


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_a_blank_initial_prompt_is_none(decode, prompt: str):
    gate = Gate()
    gate.open()
    decode(windows(1), FakeEngine(fault=gate), initial_prompt=prompt)
    assert gate.calls[0][0].prompt == ()


def test_options_reach_the_engine(decode):
    gate = Gate()
    gate.open()
    decode(
        windows(1),
        FakeEngine(fault=gate),
        beam_size=2,
        patience=1.5,
        best_of=3,
        length_penalty=0.5,
        suppress_tokens="5,7",
        temperature=0.5,
        temperature_increment_on_fallback=0.25,
        compression_ratio_threshold=3,
        logprob_threshold=-2,
        no_speech_threshold=0.5,
        translate=True,
        without_timestamps=True,
    )
    ((one,),) = gate.calls
    assert (one.decoding.beam_size, one.decoding.patience, one.decoding.best_of) == (2, 1.5, 3)
    assert (one.decoding.length_penalty, one.decoding.suppress_tokens) == (0.5, (5, 7))
    assert one.temperatures == (0.5, 0.75, 1.0)
    assert (one.thresholds.compression_ratio, one.thresholds.logprob) == (3, -2)
    assert one.thresholds.no_speech == 0.5
    assert (one.translate, one.align) == (True, False)


def test_hotwords_stand_before_every_window_and_before_its_prompt(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate)
    decode(windows(3), engine, hotwords="Norland Dashwood", initial_prompt="Sussex is green")
    hot, prompt = engine.tokenize("Norland Dashwood"), engine.tokenize("Sussex is green")
    prompts = {number(one): one.prompt for call in gate.calls for one in call}
    assert prompts == {0: hot + prompt, 1: hot, 2: hot}


def test_hotwords_and_prompt_together_never_take_more_than_their_room(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate)
    decode(windows(1), engine, hotwords="hot " * 100, initial_prompt="word " * 199 + "last")
    ((one,),) = gate.calls
    assert len(one.prompt) == 223
    assert one.prompt[:100] == engine.tokenize("hot " * 100)
    assert one.prompt[-1:] == engine.tokenize("last")


# Text before the window as its prompt.


def test_conditioning_sends_one_window_at_a_time_with_the_text_before_it(decode):
    gate = Gate()
    gate.open()
    results, _ = decode(
        windows(6, frames=3000),
        FakeEngine(fault=gate),
        condition_on_previous_text=True,
    )
    assert gate.rows == [[0], [1], [2], [3], [4], [5]]
    said: tuple[int, ...] = ()
    for (only,), (_, result) in zip(gate.calls, results, strict=True):
        assert only.prompt == said[len(said) - len(only.prompt) :]
        said += result.draft.tokens
    assert [len(only.prompt) for (only,) in gate.calls] == [0, 64, 128, 192, 192, 192]


def test_conditioning_goes_on_from_the_initial_prompt(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate)
    prompt = "word " * 40
    results, _ = decode(
        windows(2, frames=1200), engine, condition_on_previous_text=True, initial_prompt=prompt
    )
    first, second = (only for (only,) in gate.calls)
    assert first.prompt == engine.tokenize(prompt)
    history = engine.tokenize(prompt) + results[0][1].draft.tokens
    assert len(history) == 70
    assert second.prompt == history[-64:]


def test_a_text_that_was_sampled_hot_prompts_nothing(decode):
    gate = Gate()
    gate.open()
    engine = FakeEngine(fault=gate, distrust=lambda one: number(one) == 1)
    decode(windows(4, frames=3000), engine, condition_on_previous_text=True)
    prompts = {number(one): len(one.prompt) for call in gate.calls for one in call}
    assert prompts == {0: 0, 1: 64, 2: 0, 3: 64}


@pytest.mark.parametrize("temperatures", [{}, {"temperature": 0.6}])
def test_what_was_silenced_neither_prompts_nor_ends_the_prompt(decode, temperatures):
    gate = Gate()
    gate.open()
    engine = Silences(fault=gate)
    decode(windows(3, frames=3000), engine, condition_on_previous_text=True, **temperatures)
    assert [len(only.prompt) for (only,) in gate.calls if number(only) == 2] == [64]


class Silences(FakeEngine):
    """Hears nobody speak in window 1, after it has tried at all temperatures."""

    def _decode(self, ask: Ask) -> Decoded:
        decoded = super()._decode(ask)
        heard = 1.0 if number(ask) == 1 else 0.0
        decoded = replace(decoded, draft=replace(decoded.draft, temperature=heard))
        return decoded.silenced() if heard else decoded


def test_conditioned_windows_of_two_jobs_still_meet_in_a_call(threads, start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate))

    async def job() -> None:
        results = decoding(windows(3, 3000), batcher, threads, condition_on_previous_text=True)
        async with aclosing(results):
            assert len([parts async for parts in results]) == 3

    async def both() -> None:
        batcher.submit("busy", ask(99))
        await asyncio.to_thread(gate.await_call)
        jobs = [asyncio.create_task(job()) for _ in range(2)]
        await until(lambda: len(batcher._queues) == 2)
        gate.let(1)
        await asyncio.to_thread(gate.await_call)
        gate.open()
        await asyncio.gather(*jobs)

    finish(both())
    assert gate.rows[1] == [0, 0]


# A language that the first window is not sure of.


@dataclass(slots=True)
class Unsure(FakeEngine):
    """Hears in each window the language, and how surely, that `heard` has for its number.

    What it keeps of a window is its number; `encoded` tells which windows came without.
    """

    heard: dict[int, tuple[str, float]] = field(default_factory=dict)
    encoded: list[int] = field(default_factory=list)

    def _decode(self, one: Ask) -> Decoded | Ask:
        decoded = FakeEngine._decode(self, one)
        assert isinstance(decoded, Decoded)
        if one.encoded is None:
            self.encoded.append(number(one))
        else:
            assert one.encoded == number(one)
        if one.language is not None:
            return decoded
        language, probability = self.heard[number(one)]
        kept = number(one) if one.keep else None
        return replace(decoded, language=language, language_probability=probability, encoded=kept)


def test_unsure_windows_vote_and_all_get_the_language_of_the_most(decode):
    heard = {0: ("pt", 0.4), 1: ("es", 0.3), 2: ("es", 0.3)}
    results, error = decode(windows(6), Unsure(heard=heard), language=None)
    assert error is None
    assert [result.language for _, result in results] == ["es"] * 6


def test_a_window_whose_guess_is_outvoted_is_encoded_once_and_its_encoding_let_go(decode):
    engine = Unsure(heard={0: ("pt", 0.4), 1: ("es", 0.3), 2: ("es", 0.3)})
    results, _ = decode(windows(4), engine, language=None)
    assert sorted(engine.encoded) == [0, 1, 2, 3]
    assert sum(engine.calls) == 5  # the first window in both languages
    assert [result.encoded for _, result in results] == [None] * 4


def test_a_sure_window_decides_for_those_before_it(decode):
    heard = {0: ("pt", 0.4), 1: ("es", 0.9)}
    results, _ = decode(windows(6), Unsure(heard=heard), language=None)
    assert [result.language for _, result in results] == ["es"] * 6


@pytest.mark.parametrize("count", [1, 2])
def test_a_short_job_decides_with_the_windows_it_has(decode, count: int):
    heard = {0: ("pt", 0.4), 1: ("es", 0.3)}
    results, error = decode(windows(count), Unsure(heard=heard), language=None)
    assert error is None
    assert [result.language for _, result in results] == ["pt"] * count


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_voting_works_when_few_windows_may_be_in_flight(decode, ahead: int):
    heard = {0: ("pt", 0.4), 1: ("es", 0.3), 2: ("es", 0.3)}
    results, error = decode(windows(9), Unsure(heard=heard), ahead=ahead, language=None)
    assert error is None
    assert [result.language for _, result in results] == ["es"] * 9


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_bad_window_among_the_voters_fails_the_job_and_does_not_hang_it(decode, bad: int):
    def fault(asks: Sequence[Ask]) -> None:
        if any(number(one) == bad for one in asks):
            raise EngineError("bad voter")

    heard = dict.fromkeys(range(3), ("pt", 0.1))
    _, error = decode(windows(9), Unsure(heard=heard, fault=fault), language=None)
    assert str(error) == "bad voter"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_file_that_breaks_off_among_the_voters_fails_the_job_and_does_not_hang_it(decode, count):
    def broken() -> Iterator[Featured]:
        yield from windows(count)
        raise AudioUndecodable("the file breaks off")

    heard = dict.fromkeys(range(3), ("pt", 0.1))
    _, error = decode(broken(), Unsure(heard=heard), language=None)
    assert isinstance(error, AudioUndecodable)


# Errors.


def test_an_error_in_a_window_is_raised_when_its_turn_comes(decode):
    def fault(asks: Sequence[Ask]) -> None:
        if any(number(one) == 3 for one in asks):
            raise EngineError("window 3 is bad")

    results, error = decode(windows(8), FakeEngine(fault=fault))
    assert order(results) == [0, 1, 2]
    assert isinstance(error, EngineError)


def test_an_error_in_the_first_window_is_the_jobs_error(decode):
    def fault(asks: Sequence[Ask]) -> None:
        raise EngineError(f"bad window {number(asks[0])}")

    results, error = decode(windows(8), FakeEngine(fault=fault), language=None)
    assert results == []
    assert str(error) == "bad window 0"


def test_an_error_in_the_front_end_is_raised_behind_the_windows_before_it(decode):
    def broken() -> Iterator[Featured]:
        yield from windows(3)
        raise AudioUndecodable("the file breaks off")

    results, error = decode(broken(), FakeEngine())
    assert order(results) == [0, 1, 2]
    assert isinstance(error, AudioUndecodable)


def test_an_engine_that_has_died_is_the_jobs_error(decode):
    def fault(asks: Sequence[Ask]) -> None:
        if number(asks[0]) >= 2:
            raise SystemExit

    results, error = decode(windows(8), FakeEngine(fault=fault, batch_limit=1))
    assert order(results) == [0, 1]
    assert isinstance(error, EngineError)


def test_an_overloaded_engine_is_the_jobs_error(threads, start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate), max_waiting=2)
    results: list[int] = []

    async def job() -> None:
        batcher.submit("busy", ask(99))
        await asyncio.to_thread(gate.await_call)
        asyncio.get_running_loop().call_later(0.2, gate.open)
        async with aclosing(decoding(windows(8), batcher, threads)) as decoded:
            async for (part,) in decoded:
                results.append(part.window.index)

    with pytest.raises(Overloaded):
        finish(job())
    assert results == [0, 1]


# Bounds, and how it ends.


@pytest.mark.parametrize("ahead", [3, 4, 16])
@pytest.mark.parametrize("engine_s", [0.0, 0.005], ids=["slow consumer", "slow engine"])
def test_never_more_windows_are_held_than_allowed(threads, start, ahead: int, engine_s: float):
    engine = FakeEngine(batch_limit=1, cost_s=lambda _: engine_s)
    pulled = given = most = 0

    def counted() -> Iterator[Featured]:
        nonlocal pulled, most
        for item in windows(60):
            pulled += 1
            most = max(most, pulled - given)
            yield item

    async def job() -> None:
        nonlocal given
        results = decoding(counted(), start(engine), threads, ahead=ahead)
        async with aclosing(results):
            async for _ in results:
                given += 1
                await asyncio.sleep(0.002)

    finish(job())
    assert given == 60
    assert 1 < most <= ahead


def test_a_bound_that_changes_acts_from_the_next_window_on(threads, start):
    pulled = given = 0
    held = []

    def counted() -> Iterator[Featured]:
        nonlocal pulled
        for item in windows(60):
            pulled += 1
            held.append(pulled - given)
            yield item

    async def job() -> None:
        nonlocal given
        asker = Asker(request(), start(FakeEngine(batch_limit=1)), threads, "job")
        results = in_order(counted(), asker, threads, lambda: 4 if given < 20 else 12, Meter())
        async with aclosing(results):
            async for _ in results:
                given += 1
                await asyncio.sleep(0.002)

    finish(job())
    assert 1 < max(held[:20]) <= 4 < max(held) <= 12


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_smallest_bounds_still_work(decode, ahead: int):
    results, error = decode(windows(12), FakeEngine(), ahead=ahead)
    assert (order(results), error) == (list(range(12)), None)


class Slow:
    """An endless front end that takes its time over each window, and says where it stands."""

    def __init__(self, meter: Meter) -> None:
        self.count = 0
        self.windows = meter.watch("features", self._endless())

    def _endless(self) -> Iterator[Featured]:
        for index in itertools.count():
            self.count += 1
            time.sleep(0.01)
            yield from itertools.islice(windows(index + 1), index, index + 1)


async def consume(results: AsyncGenerator[list[Part], None], most: int) -> None:
    async with aclosing(results):
        async for parts in results:
            if parts[0].window.index + 1 == most:
                return


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in threads
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("options", [{}, {"language": None}, {"condition_on_previous_text": True}])
def test_cancelling_takes_back_queued_windows_and_frees_the_thread(threads, start, options):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate))
    meter = Meter()
    slow = Slow(meter)

    async def scenario() -> None:
        results = decoding(slow.windows, batcher, threads, meter=meter, ahead=1000, **options)
        job = asyncio.create_task(consume(results, most=1000))
        await asyncio.to_thread(gate.await_call)
        await until(lambda: slow.count >= 10)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(scenario())
    stood = slow.count
    threads.submit(lambda: None).result(HANG_S)
    assert slow.count == stood
    gate.open()
    batcher.submit("probe", ask(999)).result(HANG_S)
    assert gate.rows == [[0], [999]]


def test_a_consumer_that_leaves_early_leaves_nothing_behind(threads, start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate, batch_limit=2))
    meter = Meter()
    slow = Slow(meter)

    async def scenario() -> None:
        gate.let(1)
        await consume(decoding(slow.windows, batcher, threads, meter=meter, ahead=1000), most=1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    finish(scenario())
    stood = slow.count
    threads.submit(lambda: None).result(HANG_S)
    assert slow.count == stood
    gate.open()
    batcher.submit("probe", ask(999)).result(HANG_S)
    assert gate.rows[-1] == [999]
    assert len(gate.rows) <= 3


def test_cancelling_one_job_does_not_disturb_another(start):
    gate = Gate()
    batcher = start(FakeEngine(fault=gate))
    meter = Meter()

    async def scenario(pool: ThreadPoolExecutor) -> list[int]:
        doomed = decoding(Slow(meter).windows, batcher, pool, meter=meter)
        job = asyncio.create_task(consume(doomed, most=1000))
        await asyncio.to_thread(gate.await_call)
        results: list[int] = []

        async def other() -> None:
            async with aclosing(decoding(windows(10), batcher, pool, language="es")) as decoded:
                async for (part,) in decoded:
                    results.append(part.window.index)

        beside = asyncio.create_task(other())
        await asyncio.sleep(0.05)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        gate.open()
        await beside
        return results

    with ThreadPoolExecutor(2) as pool:
        assert finish(scenario(pool)) == list(range(10))


# What a window missed.


class EndsEarly(FakeEngine):
    """Says one word a second, and no more than `most` of them in a window.

    `doubts`: which asks, by their number, it is unsure of; those that it has got are in `asked`.
    """

    most = 5
    doubts = frozenset()
    asked: ClassVar[list[Ask]] = []

    def _decode(self, ask: Ask) -> Decoded:
        self.asked.append(ask)
        count = min(self.most, ask.features.shape[1] // 100)
        words = tuple(TimedWord(f" word{at}", (at,), at, at + 1.0, 0.9) for at in range(count))
        logprob = -3.0 if len(self.asked) in self.doubts else -0.2
        draft = Draft(tuple(range(count)), " word" * count, 0.0, logprob, 0.01, 1.2)
        return Decoded(draft, words, None, "en", 1.0, silent=False)


@pytest.fixture
def asked_again(threads, start):
    """Runs one window of so many seconds, spoken without a pause; its parts, and the asks."""

    def run(engine: EndsEarly, seconds: int, **options: object) -> tuple[list[Part], list[Ask]]:
        engine.asked.clear()
        items = windows(1, 100 * seconds)
        [parts] = finish(collected(decoding(items, start(engine), threads, **options)))
        return parts, list(engine.asked)

    return run


def covered(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """From which second to which each part speaks; one that is asked again begins in its pad."""
    return [
        (round(part.window.voices[0].start / RATE), round(part.window.voices[-1].end / RATE))
        for part in parts
    ]


def test_the_rest_of_a_window_is_asked_for_until_all_is_covered(asked_again):
    parts, asks = asked_again(EndsEarly(), 20)
    assert covered(parts) == [(0, 20), (5, 20), (10, 20), (15, 20)]
    asked_s = [one.features.shape[1] / 100 for one in asks]
    assert asked_s == pytest.approx([20, 15, 10, 5], abs=1)  # each with its pad
    assert len({one.language for one in asks}) == 1


def test_the_rest_is_not_asked_for_without_end(asked_again):
    engine = EndsEarly()
    engine.most = 2
    parts, asks = asked_again(engine, 30)
    assert len(parts) == len(asks) == 1 + ROUNDS
    assert covered(parts)[:3] == [(0, 30), (2, 30), (4, 30)]


def test_nothing_is_made_up_of_a_rest_that_is_doubtful(asked_again):
    engine = EndsEarly()
    engine.doubts = frozenset({2})
    parts, asks = asked_again(engine, 20)
    assert len(asks) == 2
    assert [part.decoded.silent for part in parts] == [False, True]
    assert parts[1].decoded.words == ()


def test_a_window_without_a_word_is_not_asked_for_again(asked_again):
    engine = EndsEarly()
    engine.most = 0
    parts, asks = asked_again(engine, 20)
    assert len(parts) == len(asks) == 1


def test_the_options_of_a_search_reach_the_engine(asked_again):
    given = {
        "beam_size": 3,
        "patience": 1.5,
        "best_of": 2,
        "length_penalty": 0.5,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 4,
        "max_new_tokens": 77,
    }
    _, asks = asked_again(EndsEarly(), 20, suppress_tokens=[5, 3], **given)
    assert len(asks) > 1
    for one in asks:
        assert {name: getattr(one.decoding, name) for name in given} == given
        assert one.decoding.suppress_tokens == (3, 5)
    assert set(given) | {"suppress_tokens"} == {field.name for field in fields(Decoding)}
