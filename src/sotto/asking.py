"""What the engine is asked for each window of one job, in the light of the windows before it.

Invariant: prompt, language and coverage of a job are decided here and nowhere else; a window's
parts come back together, in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from concurrent.futures import Executor
from dataclasses import replace

from sotto.audio.features import LogMel, log_mel
from sotto.audio.windows import Window, narrowed
from sotto.engine.base import PROMPT, Ask, Decoded, Decoding, Draft, Thresholds, distrusted
from sotto.engine.batcher import Batcher
from sotto.language import VOTES, Language
from sotto.request import Request
from sotto.transcript.coverage import uncovered
from sotto.transcript.parts import Part

PROMPT_STEP = 32
"""A prompt of earlier text is cut to a multiple of this, so that such windows meet in batches."""
PROMPT_LIMIT = PROMPT // PROMPT_STEP * PROMPT_STEP
"""The longest such prompt: the greatest multiple that fits before a window's text."""
PROMPT_RESET_TEMPERATURE = 0.5
"""A text sampled above this temperature prompts nothing (faster-whisper's rule)."""
ROUNDS = 5
"""How often at most the speech that a window missed is asked for again."""


class Asker:
    """Asks for the windows of one channel, many of which may be in flight at once.

    `job`: whose turn it is when the batcher serves them; the channels of a job share one.
    """

    def __init__(
        self, request: Request, batcher: Batcher, threads: Executor, job: Hashable
    ) -> None:
        options = request.options
        given = options.language
        if given is not None and not batcher.engine.multilingual:
            given = "en"  # which is what such a model decodes, whatever it is told
        self.language = Language(given, votes=1 if options.condition_on_previous_text else VOTES)
        """The job's language; with `multilingual` that of its first window."""
        self._request = request
        self._batcher = batcher
        self._threads = threads
        self._job = job
        self._previous: asyncio.Future[list[Part]] | None = None
        self._hotwords = self._tokens(options.hotwords)
        self._prompt = self._tokens(options.initial_prompt)
        self._decoding = Decoding(
            beam_size=options.beam_size,
            patience=options.patience,
            best_of=options.best_of,
            length_penalty=options.length_penalty,
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            max_new_tokens=options.max_new_tokens,
            suppress_tokens=request.suppress_tokens,
        )
        self._thresholds = Thresholds(
            compression_ratio=options.compression_ratio_threshold,
            logprob=options.logprob_threshold,
            no_speech=options.no_speech_threshold,
        )

    def ask(self, window: Window, features: LogMel) -> asyncio.Future[list[Part]]:
        """Have the next window decoded; cancelling the future takes back what is queued."""
        self._previous = asyncio.ensure_future(self._parts(window, features, self._previous))
        return self._previous

    async def end(self, windows: int) -> None:
        """There were so many windows and there is no more."""
        await self.language.end(windows)

    async def _parts(
        self, window: Window, features: LogMel, previous: asyncio.Future[list[Part]] | None
    ) -> list[Part]:
        """The window, and then the speech that it missed, until none is left or none is found."""
        prompt: tuple[int, ...] = ()
        if previous is None:
            prompt = self._prompt
        elif self._request.options.condition_on_previous_text:
            prompt = self._continued(await asyncio.shield(previous))
        ask = self._about(features, prompt)
        decoded = await self._in_its_language(window.index, ask)
        parts = [Part(window, decoded)]
        for _ in range(ROUNDS):
            missing = uncovered(window, decoded.words) if decoded.words else []
            if not missing or self._is_cut_off(decoded.draft):
                break
            pad_s = self._request.options.vad_parameters.speech_pad_ms / 1000
            rest = narrowed(window, missing, pad_s)
            if len(rest.pcm) == len(window.pcm) and not prompt:
                break  # the same window again, which would get the same answer
            window, prompt = rest, ()
            decoded = await self._once_more(window, decoded.language)
            parts.append(Part(window, decoded))
        return parts

    def _is_cut_off(self, draft: Draft) -> bool:
        """Does the text end where the job wants it to, and not where the model does?"""
        most = self._decoding.max_new_tokens
        return most is not None and len(draft.tokens) >= most

    async def _in_its_language(self, index: int, ask: Ask) -> Decoded:
        """Decode in the job's language; while that is open, in what the window sounds like."""
        if self._request.options.multilingual:
            decoded = await self._submit(ask)
            self.language.heard(index, decoded.language, decoded.language_probability)
            return decoded
        language = await self.language.before(index)
        try:
            decoded = await self._submit(replace(ask, language=language, keep=language is None))
        except Exception:
            await self.language.end(index)  # no vote will come from here; others may wait for it
            raise
        if language is not None:
            return decoded
        language = await self.language.vote(decoded.language, decoded.language_probability)
        if language == decoded.language:
            return replace(decoded, encoded=None)
        return await self._submit(replace(ask, language=language, encoded=decoded.encoded))

    async def _once_more(self, window: Window, language: str) -> Decoded:
        """Decode missed speech; what is not believed is no speech, so that nothing is made up."""
        loop = asyncio.get_running_loop()
        mels = self._batcher.engine.mels
        features = await loop.run_in_executor(self._threads, log_mel, window.pcm, mels)
        decoded = await self._submit(replace(self._about(features), language=language))
        return decoded.silenced() if distrusted(decoded.draft, self._thresholds) else decoded

    async def _submit(self, ask: Ask) -> Decoded:
        return await asyncio.wrap_future(self._batcher.submit(self._job, ask))

    def _tokens(self, text: str | None) -> tuple[int, ...]:
        return self._batcher.engine.tokenize(text) if text and text.strip() else ()

    def _about(self, features: LogMel, prompt: tuple[int, ...] = ()) -> Ask:
        """A window's ask; the hotwords stand before its prompt, which gives way to them."""
        room = max(0, PROMPT - len(self._hotwords))
        last = prompt[-room:] if room else ()
        return Ask(
            features=features,
            prompt=(*self._hotwords, *last)[:PROMPT],
            decoding=self._decoding,
            thresholds=self._thresholds,
            temperatures=self._request.temperatures,
            translate=self._request.options.translate,
            align=not self._request.options.without_timestamps,
        )

    def _continued(self, parts: list[Part]) -> tuple[int, ...]:
        """The prompt for the window after `parts`: the text so far, cut at its front."""
        for draft in (each.decoded.draft for each in parts if not each.decoded.silent):
            too_hot = draft.temperature > PROMPT_RESET_TEMPERATURE
            self._prompt = () if too_hot else (*self._prompt, *draft.tokens)
        self._prompt = self._prompt[-PROMPT_LIMIT:]
        length = len(self._prompt) // PROMPT_STEP * PROMPT_STEP
        return self._prompt[-length:] if length else ()
