"""Words of an alignment: punctuation goes with the word that it belongs to."""

from __future__ import annotations

import pytest

from sotto.engine.words import timed


def words(*texts: str) -> list[str]:
    """What becomes of words that are a second long each, with their number as token."""
    timings = [
        {"word": text, "tokens": [at], "start": at, "end": at + 1, "probability": 0.5}
        for at, text in enumerate(texts)
    ]
    made = timed(timings)
    assert [token for word in made for token in word.tokens] == list(range(len(texts)))
    assert all(word.start_s < word.end_s for word in made)
    return [word.text for word in made]


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([" Salut", " tout", " !", " Suivi"], [" Salut", " tout !", " Suivi"]),
        ([" Vraiment", " ?", " !", " Oui", "."], [" Vraiment ? !", " Oui."]),
        ([" «", " Bonjour", ".", " »", " dit", "-il"], [" « Bonjour. »", " dit", "-il"]),
        ([" un", " ;", " deux", " :", " trois", "…"], [" un ;", " deux :", " trois…"]),
        ([" He", " said", ' "', "no", '"'], [" He", " said", ' "no"']),
        ([" He", " said", ":", ' "', "no", '."'], [" He", " said:", ' "no."']),
        ([" well", "...", " never", "?!"], [" well...", " never?!"]),
        ([" है", "।", " हाँ"], [" है।", " हाँ"]),
        (["《", "红", "》", "好"], ["《", "红》", "好"]),
        ([" !", " one"], [" !", " one"]),
        ([], []),
    ],
)
def test_punctuation_goes_with_its_word(texts: list[str], joined: list[str]) -> None:
    assert words(*texts) == joined


@pytest.mark.parametrize("mark", [" !", "...", '?"', "»", "؟", "》"])
def test_the_time_of_a_word_is_that_without_the_mark_behind_it(mark: str) -> None:
    timings = [
        {"word": " tout", "tokens": [1], "start": 0.5, "end": 0.75, "probability": 0.9},
        {"word": mark, "tokens": [2], "start": 4.0, "end": 4.0, "probability": 0.1},
    ]
    [word] = timed(timings)
    assert (word.start_s, word.end_s, word.probability) == (0.5, 0.75, 0.9)
