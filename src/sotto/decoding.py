"""One job's windows through the engine: several in flight, results in file order.

Invariant: whatever ends the iteration, no window of the job stays queued and no thread stays busy
with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor

from sotto.audio.features import LogMel
from sotto.audio.windows import Window
from sotto.engine.base import Ask, Decoded, Decoding, Draft, Thresholds
from sotto.engine.batcher import Batcher
from sotto.meter import Meter
from sotto.request import Request

PROMPT_STEP = 32
"""A prompt of earlier text is cut to a multiple of this, so that such windows meet in batches."""
PROMPT_LIMIT = 192
"""The longest such prompt: the greatest multiple that fits before a window's text."""
PROMPT_RESET_TEMPERATURE = 0.5
"""A text sampled above this temperature prompts nothing (faster-whisper's rule)."""

Featured = tuple[Window, LogMel]


class Asker:
    """Asks the engine for the windows of one job, each in the light of those before it."""

    def __init__(self, request: Request, batcher: Batcher, meter: Meter) -> None:
        options = request.options
        self.meter = meter
        self._request = request
        self._batcher = batcher
        self._job = object()
        self._first: asyncio.Future[Decoded] | None = None
        self._previous: asyncio.Future[Decoded] | None = None
        self._history: tuple[int, ...] = ()
        if options.initial_prompt and options.initial_prompt.strip():
            self._history = batcher.engine.tokenize(options.initial_prompt)
        self._decoding = Decoding(
            beam_size=options.beam_size,
            patience=options.patience,
            best_of=options.best_of,
            length_penalty=options.length_penalty,
            suppress_tokens=request.suppress_tokens,
        )
        self._thresholds = Thresholds(
            compression_ratio=options.compression_ratio_threshold,
            logprob=options.logprob_threshold,
            no_speech=options.no_speech_threshold,
        )

    def ask(self, features: LogMel) -> asyncio.Future[Decoded]:
        """Have the next window decoded; the future's cancellation takes it back."""
        first, previous = self._first, self._previous
        answer = asyncio.ensure_future(self._answer(features, first, previous))
        self._first = first or answer
        self._previous = answer
        return answer

    async def _answer(
        self,
        features: LogMel,
        first: asyncio.Future[Decoded] | None,
        previous: asyncio.Future[Decoded] | None,
    ) -> Decoded:
        language = self._request.options.language
        prompt: tuple[int, ...] = ()
        if first is None:
            prompt = self._history
        elif language is None:
            language = (await asyncio.shield(first)).language
        if previous is not None and self._request.options.condition_on_previous_text:
            prompt = self._continued((await asyncio.shield(previous)).draft)
        ask = Ask(
            features=features,
            decoding=self._decoding,
            thresholds=self._thresholds,
            temperatures=self._request.temperatures,
            prompt=prompt,
            language=language,
            translate=self._request.options.translate,
            align=not self._request.options.without_timestamps,
        )
        return await asyncio.wrap_future(self._batcher.submit(self._job, ask))

    def _continued(self, draft: Draft) -> tuple[int, ...]:
        """The prompt for the window after `draft`: the text so far, cut at its front."""
        if draft.temperature > PROMPT_RESET_TEMPERATURE:
            self._history = ()
        else:
            self._history = (*self._history, *draft.tokens)[-PROMPT_LIMIT:]
        length = len(self._history) // PROMPT_STEP * PROMPT_STEP
        return self._history[len(self._history) - length :]


async def in_order(
    windows: Iterator[Featured], asker: Asker, threads: Executor, ahead: int
) -> AsyncGenerator[tuple[Window, Decoded], None]:
    """Decode `windows`, at most `ahead` of them cut and not yet given back, in file order.

    An error in a window, or in what makes the windows, is raised when its turn comes.
    """
    queue: asyncio.Queue[tuple[Window, asyncio.Future[Decoded]] | Exception | None]
    queue = asyncio.Queue(maxsize=max(1, ahead - 1))
    asked: set[asyncio.Future[Decoded]] = set()
    feeder = asyncio.create_task(_feed(windows, asker, threads, queue, asked))
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            window, answer = item
            yield window, await answer
            asked.discard(answer)
    finally:
        feeder.cancel()
        for answer in asked:
            answer.cancel()
        await asyncio.gather(feeder, *asked, return_exceptions=True)


async def _feed(
    windows: Iterator[Featured],
    asker: Asker,
    threads: Executor,
    queue: asyncio.Queue[tuple[Window, asyncio.Future[Decoded]] | Exception | None],
    asked: set[asyncio.Future[Decoded]],
) -> None:
    """Pull windows in a thread, ask for each at once, queue the answers to come."""
    loop = asyncio.get_running_loop()
    pulled: asyncio.Future[Featured | None] | None = None
    try:
        while True:
            pulled = loop.run_in_executor(threads, next, windows, None)
            item = await asyncio.shield(pulled)
            if item is None:
                break
            window, features = item
            answer = asker.ask(features)
            asked.add(answer)
            await queue.put((window, answer))
        await queue.put(None)
    except Exception as error:
        await queue.put(error)
    finally:
        if pulled is not None and not pulled.done():
            asker.meter.stop()
            await asyncio.wait([pulled])
