"""What is asked of the engine for each window: prompt, language, and what a window missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import pytest
from tests.gate import Gate, ask, number
from tests.one_job import collected, finish, ordered, until, windows

from sotto.asking import ROUNDS
from sotto.audio.pcm import RATE
from sotto.engine.base import Ask, Decoded, Decoding, Draft, TimedWord
from sotto.engine.fake import FakeEngine
from sotto.errors import AudioUndecodable, EngineError
from sotto.ordering import Featured
from sotto.transcript.parts import Part


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


def test_a_model_that_knows_only_english_is_asked_for_english_whatever_is_given(decode):
    gate = Gate()
    gate.open()
    results, _ = decode(windows(2), FakeEngine(fault=gate, multilingual=False), language="fr")
    assert {one.language for call in gate.calls for one in call} == {"en"}
    assert {result.language for _, result in results} == {"en"}


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
        results = ordered(windows(3, 3000), batcher, threads, condition_on_previous_text=True)
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
        [parts] = finish(collected(ordered(items, start(engine), threads, **options)))
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


def test_speech_behind_the_most_tokens_that_a_job_wants_is_not_asked_for_again(asked_again):
    parts, asks = asked_again(EndsEarly(), 20, max_new_tokens=EndsEarly.most)
    assert len(parts) == len(asks) == 1
    parts, _ = asked_again(EndsEarly(), 20, max_new_tokens=EndsEarly.most + 1)
    assert len(parts) == 4


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


def test_a_window_whose_words_are_all_beside_its_voice_is_not_asked_for_again(asked_again):
    """It would be the same window, with the same words to be said once more."""
    parts, asks = asked_again(Early(), 20)
    assert len(parts) == len(asks) == 1


def test_a_window_whose_words_are_all_beside_its_voice_is_asked_for_without_its_prompt(asked_again):
    parts, asks = asked_again(Early(), 20, initial_prompt="Norland Park")
    assert len(parts) == len(asks) == 2
    assert [bool(one.prompt) for one in asks] == [True, False]


class Early(EndsEarly):
    """Hears its one word before anybody speaks."""

    def _decode(self, ask: Ask) -> Decoded:
        decoded = EndsEarly._decode(self, ask)
        return replace(decoded, words=(TimedWord(" you", (1,), 0.0, 0.0, 0.9),))
