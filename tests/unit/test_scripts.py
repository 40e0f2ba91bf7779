"""Words of languages that are written without spaces."""

from __future__ import annotations

import pytest

from sotto.engine.base import TimedWord
from sotto.transcript.scripts import characters, joined, width


def words(*texts: str) -> list[TimedWord]:
    return [TimedWord(text, (i,), float(i), i + 1.0, 1 - i / 100) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("language", "pieces", "expected"),
    [
        (
            "ja",
            ["きょ", "う", "は", "2", "0", "2", "6", "年", "です", "。"],
            "きょ う は 2026 年 です。",
        ),
        ("ja", ["シ", "ャ", "ツ"], "シャ ツ"),
        ("ja", ["コ", "ー", "ヒ", "ー"], "コー ヒー"),
        ("ja", ["「", "はい", "」"], "「はい」"),
        ("zh", ["今天", "天气", "，", "很", "好", "。"], "今天 天气， 很 好。"),
        ("zh", ["用", "Wh", "isper", "吧"], "用 Whisper 吧"),
        ("th", ["เ", "ท", "ี", "่", "ย", "ว"], "เที่ ย ว"),
        ("lo", ["ເ", "ວ", "ລ", "າ"], "ເວ ລາ"),
        ("my", ["ဟုတ်", "တယ်", "။"], "ဟုတ် တယ်။"),
        ("km", ["ស", "្", "រ", "ី", "។"], "ស្រី។"),
        ("bo", ["བ", "ོ", "ད", "་", "ས", "ྐ", "ད", "།"], "བོད་ སྐད།"),
        ("en", [" He", " said", "."], " He| said|."),
    ],
)
def test_what_cannot_stand_alone_joins_its_neighbour(
    language: str, pieces: list[str], expected: str
) -> None:
    separator = "|" if language == "en" else " "
    assert separator.join(word.text for word in joined(words(*pieces), language)) == expected


def test_joining_keeps_all_text_tokens_and_time() -> None:
    before = words("コ", "ー", "ヒ", "ー", "。")
    after = joined(before, "ja")
    assert "".join(w.text for w in after) == "".join(w.text for w in before)
    assert [t for w in after for t in w.tokens] == [0, 1, 2, 3, 4]
    assert (after[0].start_s, after[-1].end_s) == (0.0, 5.0)
    assert all(0 <= w.probability <= 1 for w in after)


def test_no_words_stay_no_words() -> None:
    assert joined([], "ja") == []


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("字幕", 4), ("ก็", 1), ("é", 1), ("ｱ", 1)]
)
def test_a_wide_character_takes_two_columns_and_a_mark_none(text: str, columns: int) -> None:
    assert width(text) == columns


def test_a_consonant_that_stands_below_another_stays_with_it() -> None:
    assert characters("ဗုဒ္ဓ") == ["ဗု", "ဒ္ဓ"]
    assert characters(" ខ្មែរ") == [" ខ្មែ", "រ"]
