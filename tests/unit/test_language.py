"""The language of one job."""

from __future__ import annotations

import asyncio

from sotto.language import Language


def test_a_given_language_asks_nobody() -> None:
    language = Language("es")
    assert asyncio.run(language.before(7)) == "es"
    assert language.probability == 1.0


def test_a_window_that_is_sure_decides_alone() -> None:
    async def run() -> tuple[str, str | None]:
        language = Language(None)
        return await language.vote("fr", 0.9), await language.before(1)

    assert asyncio.run(run()) == ("fr", "fr")


def test_windows_that_are_unsure_vote_and_all_learn_the_decision() -> None:
    async def run() -> tuple[list[str], Language]:
        language = Language(None)

        async def window(index: int, code: str, probability: float) -> str:
            known = await language.before(index)
            return known or await language.vote(code, probability)

        heard = [("en", 0.3), ("it", 0.2), ("it", 0.25), ("en", 0.9)]
        answers = await asyncio.gather(*(window(i, *each) for i, each in enumerate(heard)))
        return answers, language

    answers, language = asyncio.run(run())
    assert answers == ["it"] * 4
    assert language.probability == 0.25


def test_a_short_job_is_decided_by_the_windows_that_it_has() -> None:
    async def run() -> str:
        language = Language(None)
        vote = asyncio.create_task(language.vote("ru", 0.2))
        await asyncio.sleep(0)
        await language.end(1)
        return await vote

    assert asyncio.run(run()) == "ru"


def test_where_windows_need_not_agree_the_first_in_the_file_is_told() -> None:
    language = Language(None)
    language.heard(3, "de", 0.8)
    language.heard(0, "nl", 0.7)
    language.heard(1, "en", 0.9)
    assert (language.code, language.probability) == ("nl", 0.7)
