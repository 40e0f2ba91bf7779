"""Whisper on CTranslate2: encode once, then detect, generate, translate and align.

Invariant: the only importer of ctranslate2, and the only caller of faster-whisper's alignment; what
either raises leaves here as EngineError or OutOfMemory.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from sotto.engine import arena
from sotto.engine.base import (
    Ask,
    Decoded,
    Decoding,
    Draft,
    TimedWord,
    best,
    distrusted,
    is_repetitive,
    is_silence,
)
from sotto.engine.devices import Batching
from sotto.engine.failures import is_short_of_memory, loaded, translated
from sotto.engine.noise import noise
from sotto.engine.repetition import compression_ratio
from sotto.engine.searches import searches
from sotto.engine.tokens import Tokens, max_length
from sotto.engine.words import timed
from sotto.errors import EngineError
from sotto.models import weights
from sotto.models.catalogue import WEIGHTS, known
from sotto.models.shapes import FRAMES

UNLOAD_S = 5.0
"""How long CTranslate2 may take to notice that no call is active; a moment, as a rule."""
SHORTEST = 2
"""Frames below which there is nothing to align; times beyond the window's end are harmless."""


def cuda_devices() -> int:
    """How many GPUs CTranslate2 sees; 0 too when there is no driver."""
    return int(ctranslate2.get_cuda_device_count())


def compute_types(device: str) -> set[str]:
    """Number formats in which `device` can hold weights."""
    return set(ctranslate2.get_supported_compute_types(device))


def load(name: str, folder: Path, device: str, compute_type: str, batching: Batching) -> Whisper:
    """Load a verified model folder; nothing is downloaded. Raises EngineError, OutOfMemory."""
    if not (folder / "tokenizer.json").is_file():
        raise EngineError(f"model '{name}': {folder.name} has no tokenizer.json")
    with loaded(f"model '{name}' cannot be loaded"), arena.loading():
        vocabulary = weights.read(folder / WEIGHTS).shape.vocabulary
        model = WhisperModel(
            str(folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=1,
            num_workers=batching.threads,
            local_files_only=True,
        )
    return Whisper(name, model, batching, vocabulary)


class Whisper:
    """The engine that serves; see Engine."""

    def __init__(self, name: str, model: WhisperModel, batching: Batching, vocabulary: int) -> None:
        self.model = name
        self.device: str = model.model.device
        self.mels: int = model.model.n_mels
        listed = known(name)
        # A model may keep the vocabulary of all languages and yet be made for one alone.
        english = listed is not None and listed.languages == "english"
        self.multilingual: bool = model.model.is_multilingual and not english
        self.vocabulary = vocabulary
        self.batch_limit = batching.decode
        self.threads = batching.threads
        self._batching = batching
        self._sample = batching.sample
        self._whisper = model
        self._ct2: Any = model.model
        self._tokens = Tokens(model.hf_tokenizer, multilingual=model.model.is_multilingual)

    def knows(self, language: str) -> bool:
        """A model that knows only English is told nothing; see Engine."""
        return not self.multilingual or self._tokens.knows(language)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Tokens of a prompt, the last of them that fit before a window's text."""
        return self._tokens.of_prompt(text)

    def warm_up(self) -> None:
        """Decode noise, encoded at its own length; see Engine.warm_up."""
        ask = noise(self.mels, self._tokens.of().eot)
        with translated("the warm-up failed"):
            encoded = self._ct2.encode(_storage(ask.features[None]))
            self._decode([replace(ask, encoded=self._saved(encoded, 0))])

    def close(self) -> None:
        """Free the device's memory, once CTranslate2 has noticed that its last call is over.

        It does nothing while a call counts as active, as one does for a moment after its result.
        """
        until = time.monotonic() + UNLOAD_S
        self._ct2.unload_model()
        while self._ct2.model_is_loaded and time.monotonic() < until:
            time.sleep(0.01)
            self._ct2.unload_model()

    def decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        """One encoder pass for all that is wanted of these windows."""
        self._tidy()
        with translated("decoding failed"):
            return self._decode(asks)

    def _decode(self, asks: Sequence[Ask]) -> list[Decoded | Ask]:
        encoded = self._encode(asks)
        languages = self._languages(asks, encoded)
        found = self._search(asks, encoded, languages, "transcribe")
        results: dict[int, Decoded | Ask] = {}
        kept: dict[int, Draft] = {}
        for row, (ask, one) in enumerate(zip(asks, found, strict=True)):
            draft = self._draft(ask, one)
            if not distrusted(draft, ask.thresholds):
                kept[row] = draft
            elif ask.is_last_try:
                kept[row] = best((*ask.drafts, draft), ask.thresholds)
            else:
                # A language that was heard is heard again: given, it would pass for certain.
                results[row] = replace(
                    ask, drafts=(*ask.drafts, draft), encoded=self._saved(encoded, row)
                )
        words = self._align(asks, encoded, languages, kept) if asks[0].align else {}
        translations = self._translate(asks, encoded, languages, kept) if asks[0].translate else {}
        for row, draft in kept.items():
            decoded = Decoded(
                draft,
                words.get(row),
                translations.get(row),
                *languages[row],
                silent=False,
                encoded=self._saved(encoded, row) if asks[row].keep else None,
            )
            silent = is_silence(draft, asks[row].thresholds)
            results[row] = decoded.silenced() if silent else decoded
        return [results[row] for row in range(len(asks))]

    def _encode(self, asks: Sequence[Ask]) -> Any:
        """Encoder output of all rows: (rows, 1500, width), on the device where one call does it."""
        size = self._batching.encode
        done: list[Any] = [ask.encoded for ask in asks]
        todo = [row for row, output in enumerate(done) if output is None]
        if len(todo) == len(asks) <= size:
            return self._encoded(asks)
        for at in range(0, len(todo), size):
            rows = todo[at : at + size]
            output = _array(self._encoded([asks[row] for row in rows], to_cpu=True))
            for row, values in zip(rows, output, strict=True):
                done[row] = values
        return _storage(np.stack(done))

    def _encoded(self, asks: Sequence[Ask], *, to_cpu: bool = False) -> Any:
        """One `encode` call."""
        features = np.stack([_padded(ask.features) for ask in asks])
        return self._ct2.encode(_storage(features), to_cpu=to_cpu)

    def _saved(self, encoded: Any, row: int) -> NDArray[np.float32] | None:
        """A row to keep for next time; on a GPU it is encoded anew, its memory is worth more."""
        return None if self.device == "cuda" else np.array(_array(encoded)[row])

    def _languages(self, asks: Sequence[Ask], encoded: Any) -> list[tuple[str, float]]:
        """Language and its probability for each row; a given language has probability 1."""
        if not self.multilingual:
            return [("en", 1.0)] * len(asks)
        is_open = any(ask.language is None for ask in asks)
        found = self._ct2.detect_language(encoded) if is_open else []
        languages = []
        for row, ask in enumerate(asks):
            if ask.language is not None:
                languages.append((ask.language, 1.0))
            else:
                token, probability = found[row][0]
                languages.append((token[2:-2], float(probability)))
        return languages

    def _search(
        self,
        asks: Sequence[Ask],
        encoded: Any,
        languages: Sequence[tuple[str, float]],
        task: str,
    ) -> list[Any]:
        """The best text of each row. Raises EngineError if rows do not come back one for one."""
        prompts = [
            self._tokens.before(a, language, task)
            for a, (language, _) in zip(asks, languages, strict=True)
        ]
        found = self._found(asks, encoded, prompts)
        if any(len(results) != len(asks) for results in found):
            raise EngineError(f"{len(asks)} windows were decoded, {len(found[0])} came back")
        return [max(tries, key=lambda one: one.scores[0]) for tries in zip(*found, strict=True)]

    def _found(
        self, asks: Sequence[Ask], encoded: Any, prompts: Sequence[Sequence[int]]
    ) -> list[list[Any]]:
        """What each search found for the rows; where memory ends, fewer texts are sampled at once.

        For good, as with the windows of a call; see Batcher.
        """
        ask = asks[0]
        while True:
            together = max(1, self._sample // len(asks))
            try:
                return [
                    self._generate(encoded, prompts, ask.decoding, search)
                    for search in searches(ask.decoding, ask.temperature, together)
                ]
            except (RuntimeError, MemoryError) as error:
                texts = min(together, ask.decoding.best_of)
                if ask.temperature == 0 or texts == 1 or not is_short_of_memory(error):
                    raise
            # Out of the handler, since the error holds the failed call's memory.
            self._sample = min(self._sample, len(asks) * texts // 2)

    def _generate(
        self,
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        search: dict[str, Any],
    ) -> list[Any]:
        """One `generate` call: what was found for each row, the best first."""
        self._tidy()
        return list(
            self._ct2.generate(
                encoded,
                prompts,
                length_penalty=decoding.length_penalty,
                repetition_penalty=decoding.repetition_penalty,
                no_repeat_ngram_size=decoding.no_repeat_ngram_size,
                max_length=max_length(len(prompts[0]), decoding.max_new_tokens),
                suppress_blank=True,
                suppress_tokens=self._tokens.suppressed(decoding.suppress_tokens),
                return_scores=True,
                return_no_speech_prob=True,
                **search,
            )
        )

    def _draft(self, ask: Ask, result: Any) -> Draft:
        tokens = tuple(result.sequences_ids[0])
        text = self._tokens.text(tokens)
        # generate's score is divided by length ** penalty; the average counts end-of-text too.
        total = result.scores[0] * len(tokens) ** ask.decoding.length_penalty
        return Draft(
            tokens=tokens,
            text=text,
            temperature=ask.temperature,
            avg_logprob=float(total / (len(tokens) + 1)),
            no_speech_prob=float(result.no_speech_prob),
            compression_ratio=compression_ratio(text.strip()),
        )

    def _translate(
        self,
        asks: Sequence[Ask],
        encoded: Any,
        languages: Sequence[tuple[str, float]],
        kept: dict[int, Draft],
    ) -> dict[int, str]:
        """English texts. A window that is tried again is translated when its text is believed.

        Translations that repeat themselves are tried again here, those of one temperature together.
        """
        if not self.multilingual:
            return {row: draft.text for row, draft in kept.items()}
        drafts: dict[int, list[Draft]] = {row: [] for row in kept}
        tries = {row: asks[row] for row in kept if not is_silence(kept[row], asks[row].thresholds)}
        while tries:
            now = next(iter(tries.values())).temperature
            rows = [row for row, ask in tries.items() if ask.temperature == now]
            if any(drafts.values()) and self.device == "cuda":
                called: Sequence[int] = rows
                some = self._encode([asks[row] for row in rows])
            else:
                called, some = self._rows(encoded, rows, len(asks))
            called_asks = [tries.get(row, tries[rows[0]]) for row in called]
            found = self._search(called_asks, some, [languages[row] for row in called], "translate")
            for row, result in zip(called, found, strict=True):
                if row not in rows:
                    continue
                ask = tries.pop(row)
                drafts[row].append(self._draft(ask, result))
                if is_repetitive(drafts[row][-1], ask.thresholds) and not ask.is_last_try:
                    tries[row] = replace(ask, drafts=(*ask.drafts, drafts[row][-1]))
        return {
            row: best(drafts[row], asks[row].thresholds).text if drafts[row] else "" for row in kept
        }

    def _align(
        self,
        asks: Sequence[Ask],
        encoded: Any,
        languages: Sequence[tuple[str, float]],
        kept: dict[int, Draft],
    ) -> dict[int, tuple[TimedWord, ...]]:
        """Words with times. `align` takes one start sequence a call, so one call a language.

        On a CPU one call a window: together they are no faster, and take 80 MB more.
        """
        groups: dict[Hashable, list[int]] = defaultdict(list)
        words: dict[int, tuple[TimedWord, ...]] = dict.fromkeys(kept, ())
        for row in kept:
            if kept[row].tokens:
                groups[languages[row][0] if self.device == "cuda" else row].append(row)
        for rows in groups.values():
            called, some = self._rows(encoded, rows, len(asks))
            texts = [self._tokens.of_text(kept[r].tokens) if r in kept else [] for r in called]
            frames = [max(SHORTEST, asks[row].features.shape[1]) for row in called]
            tokenizer = self._tokens.of(languages[rows[0]][0])
            aligned = self._whisper.find_alignment(tokenizer, texts, some, frames)
            for row, timings in zip(called, aligned, strict=True):
                if row in rows:
                    words[row] = timed(timings)
        return words

    def _tidy(self) -> None:
        """Give back what the last step left in holes; the next does not fit them, and adds some."""
        if self.device == "cpu":
            arena.give_back()

    def _rows(self, encoded: Any, rows: Sequence[int], count: int) -> tuple[Sequence[int], Any]:
        """The rows to call with for the sake of `rows`, and their encoder output.

        Encoder output on a GPU has no selection of rows, so there all `count` rows are called.
        """
        if len(rows) == count or self.device == "cuda":
            return range(count), encoded
        return rows, _storage(_array(encoded)[list(rows)])


def _padded(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(features, ((0, 0), (0, FRAMES - features.shape[1])))


def _array(values: Any) -> NDArray[np.floating[Any]]:
    """Values on the CPU as numpy has them; it knows no bfloat16, which CTranslate2 takes back."""
    if values.dtype == ctranslate2.DataType.bfloat16:
        values = values.to(ctranslate2.DataType.float32)
    return np.asarray(values)


def _storage(values: NDArray[np.floating[Any]]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(values))
