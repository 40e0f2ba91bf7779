"""The engine without weights: what it says depends on the window and the ask alone."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gate import DECODING

from sotto.engine.base import Ask, Decoded, Engine, Thresholds
from sotto.engine.fake import WORD_S, FakeEngine
from sotto.errors import EngineError


def ask(seed: int, frames: int = 1000, **changes: object) -> Ask:
    features = np.random.default_rng(seed).random((80, frames), np.float32)
    values: dict[str, object] = {"temperatures": (0.0, 0.2), **changes}
    return Ask(features, DECODING, Thresholds(2.4, -1.0, 0.6), **values)


def alone(engine: Engine, one: Ask) -> Decoded:
    (result,) = engine.decode([one])
    assert isinstance(result, Decoded)
    return result


def test_a_window_gives_the_same_alone_and_among_others():
    engine = FakeEngine()
    asks = [ask(seed) for seed in range(5)]
    assert engine.decode(asks) == [alone(FakeEngine(), one) for one in asks]


def test_different_windows_give_different_words():
    assert len({alone(FakeEngine(), ask(seed)).draft.text for seed in range(8)}) > 1


@pytest.mark.parametrize(("frames", "words"), [(0, 0), (1, 0), (39, 0), (40, 1), (3000, 75)])
def test_it_says_a_word_for_every_stretch_of_time(frames: int, words: int):
    result = alone(FakeEngine(), ask(1, frames))
    assert len(result.words) == words
    assert len(result.draft.tokens) == words


def test_words_follow_each_other_inside_the_window_and_make_up_the_text():
    result = alone(FakeEngine(), ask(1))
    assert "".join(word.text for word in result.words) == result.draft.text
    assert [w.start_s for w in result.words] == [pytest.approx(i * WORD_S) for i in range(25)]
    assert all(word.end_s <= 10.0 + 1e-6 for word in result.words)
    assert "." in result.draft.text


def test_language_is_the_given_one_or_english():
    assert alone(FakeEngine(), ask(1, language="ru")).language == "ru"
    assert alone(FakeEngine(), ask(1)).language == "en"


def test_words_and_translation_come_only_when_asked_for():
    plain = alone(FakeEngine(), ask(1, align=False))
    assert (plain.words, plain.translation) == (None, None)
    assert alone(FakeEngine(), ask(1, translate=True)).translation == plain.draft.text.upper()


def test_a_distrusted_window_comes_back_with_one_more_draft_until_no_temperature_is_left():
    engine = FakeEngine(distrust=lambda _: True)
    (again,) = engine.decode([ask(1)])
    assert isinstance(again, Ask)
    assert [draft.temperature for draft in again.drafts] == [0.0]
    assert alone(engine, again).draft.temperature == 0.2


def test_a_fault_fails_the_call_before_anything_is_decoded():
    def fault(rows):
        raise EngineError(f"{len(rows)} rows")

    engine = FakeEngine(fault=fault)
    with pytest.raises(EngineError, match="3 rows"):
        engine.decode([ask(1)] * 3)
    assert engine.calls == [3]


def test_the_cost_is_that_of_the_rows():
    asked: list[int] = []
    engine = FakeEngine(cost_s=lambda rows: asked.append(rows) or 0.0)
    engine.decode([ask(1)] * 4)
    assert asked == [4]


def test_a_prompt_has_the_same_tokens_every_time():
    engine = FakeEngine()
    assert engine.tokenize("Norland Park") == engine.tokenize(" Norland  Park ")
    assert len(engine.tokenize("Norland Park")) == 2
    assert engine.tokenize("") == ()


def test_a_kept_draft_is_not_lost_in_the_next_ask():
    engine = FakeEngine(distrust=lambda _: True)
    start = ask(1, temperatures=(0.0, 0.2, 0.4))
    (second,) = engine.decode([start])
    (third,) = engine.decode([second])
    assert [draft.temperature for draft in third.drafts] == [0.0, 0.2]
    assert third.features is start.features


def test_close_is_seen():
    engine = FakeEngine()
    assert not engine.closed.is_set()
    engine.close()
    assert engine.closed.is_set()
