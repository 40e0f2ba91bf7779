"""Texts in, token ids out, and back: everything that the engine asks of the tokenizer.

Invariant: one tokenizer for each language and task, made when first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from sotto.engine.base import PROMPT, Ask
from sotto.engine.words import split_words
from sotto.languages import WITHOUT_SPACES
from sotto.models.shapes import TOKENS

BROKEN = "\ufffd"
"""What the tokenizer reads where bytes make no character."""
PLAIN = (*range(33, 127), *range(161, 173), *range(174, 256))
BYTES = {chr(byte): byte for byte in PLAIN} | {
    chr(256 + number): byte
    for number, byte in enumerate(byte for byte in range(256) if byte not in PLAIN)
}
"""The byte that each character of a token stands for: GPT-2's table, in which all can be seen."""
PROMPT_CHARACTERS = 20_000
"""The end of a prompt, in which its last 223 tokens lie: none has as many as 80 characters.

To tokenize nine million takes ten seconds, in which no other job would be answered.
"""


class Tokens:
    """The tokenizer of one model."""

    def __init__(self, tokenizer: Any, *, multilingual: bool) -> None:
        self._plain = tokenizer
        self._multilingual = multilingual
        self._known: dict[tuple[str, str], Tokenizer] = {}

    def of(self, language: str = "en", task: str = "transcribe") -> Tokenizer:
        """faster-whisper's tokenizer for a language and a task; texts are the same in all."""
        known = self._known.get((language, task))
        if known is None:
            known = Tokenizer(self._plain, self._multilingual, task, language)
            if language in WITHOUT_SPACES:
                known.split_to_word_tokens = known.split_tokens_on_unicode
            else:
                known.split_to_word_tokens = partial(split_words, known)
            self._known[language, task] = known
        return known

    def of_prompt(self, text: str) -> tuple[int, ...]:
        """Tokens of a prompt, the last 223 of them: no more fits before a window's text.

        Those that are no text are left out: `<|startoftranscript|>` in a prompt would begin the
        transcript there, with the rest of the prompt as its first words.
        """
        tokens = self.of().encode(" " + text.strip()[-PROMPT_CHARACTERS:])
        return tuple(self.of_text(tuple(tokens))[-PROMPT:])

    def knows(self, language: str) -> bool:
        """Has the model a token for this language? Else a text would begin without any."""
        return self._plain.token_to_id(f"<|{language}|>") is not None

    def before(self, ask: Ask, language: str, task: str) -> list[int]:
        """All that stands before a window's text: its prompt, language and task."""
        tokenizer = self.of(language, task)
        prompt = [tokenizer.sot_prev, *ask.prompt] if ask.prompt else []
        return [*prompt, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def text(self, tokens: tuple[int, ...]) -> str:
        """The text of tokens, whatever its language; bytes that make no character are left out."""
        return self._decoded(tokens).replace(BROKEN, "")

    def of_text(self, tokens: tuple[int, ...]) -> list[int]:
        """Those of the tokens that are text.

        Not those whose bytes make no character: the alignment would lose all words behind them.
        """
        end = self.of().eot
        found = [token for token in tokens if token < end]
        return self._whole(found) if BROKEN in self._decoded(found) else found

    def _whole(self, tokens: Sequence[int]) -> list[int]:
        """The tokens without those that hold a byte which makes no character."""
        pieces = [bytes(map(BYTES.__getitem__, self._plain.id_to_token(t))) for t in tokens]
        broken = _broken(b"".join(pieces))
        whole, end = [], 0
        for token, piece in zip(tokens, pieces, strict=True):
            start, end = end, end + len(piece)
            if broken.isdisjoint(range(start, end)):
                whole.append(token)
        return whole

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self.of().decode(list(tokens)))

    def suppressed(self, tokens: tuple[int, ...]) -> list[int]:
        """The tokens never to be produced; -1 stands for all that are no speech."""
        return [t for t in get_suppressed_tokens(self.of(), list(tokens)) if t is not None]


def _broken(text: bytes) -> set[int]:
    """Where in the text the bytes are that make no character."""
    broken: set[int] = set()
    at = 0
    while at < len(text):
        try:
            text[at:].decode()
            break
        except UnicodeDecodeError as error:
            broken.update(range(at + error.start, at + error.end))
            at += error.end
    return broken


def max_length(prompt: int, new_tokens: int | None) -> int:
    """`max_length` for `generate` such that it produces `new_tokens` at most; None: all that fit.

    CTranslate2 allows the lesser of `max_length / 2` and `max_length` less the `prompt`'s tokens,
    the last of which it does not count. One position is kept for the end of text, which the
    alignment puts behind what was generated.
    """
    room = TOKENS - prompt - 1
    wanted = min(new_tokens or room, room)
    return max(2 * wanted, wanted + prompt - 1)
