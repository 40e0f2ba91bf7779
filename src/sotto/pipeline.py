"""One job, top to bottom: audio in, segments out, as they become final.

Invariant: a job holds at most `Tools.windows_ahead` windows, and whatever ends it - success, an
error, cancellation - its temporary file is gone and the engine no longer works for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

from sotto.asking import Asker
from sotto.audio.decode import decode
from sotto.audio.features import log_mel
from sotto.audio.source import Fetcher, SourceLimits, open_source
from sotto.audio.vad import VadOptions, listen, vad_options
from sotto.audio.windows import Window, cut
from sotto.decoding import Featured, in_order
from sotto.engine.batcher import Batcher
from sotto.request import Request
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Tools:
    """What jobs work with, the same for all jobs in flight.

    `threads` run the front ends. `windows_ahead`: windows of one job that may be cut and not yet
    decoded; it bounds a job's memory.
    """

    net: Fetcher
    limits: SourceLimits
    max_audio_s: float
    batcher: Batcher
    threads: Executor
    windows_ahead: int


async def transcribe(
    request: Request, tools: Tools, transcript: Transcript
) -> AsyncGenerator[Segment, None]:
    """One job, top to bottom.

    Yields segments with file times; what else there is to say about the job gathers in
    `transcript`. Raises SottoError.
    """
    watch = transcript.meter.watch
    async with open_source(request.audio, tools.net, tools.limits) as file:
        transcript.meter.lap("fetch")
        pcm = watch("decode", transcript.measure(decode(file, tools.max_audio_s)))
        speech = watch("vad", listen(pcm, vad(request)))
        windows = cut(speech, keep_silence=not request.options.enable_vad)
        featured = watch("features", features(windows, tools.batcher.engine.mels))
        asker = Asker(request, tools.batcher, tools.threads)
        decoded = in_order(featured, asker, tools.threads, tools.windows_ahead, transcript.meter)
        async with aclosing(decoded):
            async for parts in decoded:
                for segment in transcript.add(parts, asker.language):
                    yield segment
        for segment in transcript.finish():
            yield segment
        transcript.meter.lap("engine")


def features(windows: Iterable[Window], mels: int) -> Iterator[Featured]:
    """Each window with its log-mel spectrogram, float32 (mels, frames)."""
    for window in windows:
        yield window, log_mel(window.pcm, mels)


def vad(request: Request) -> VadOptions:
    """The request's VAD parameters, in samples."""
    given = request.options.vad_parameters
    return vad_options(
        threshold=given.threshold,
        neg_threshold=given.neg_threshold,
        min_speech_duration_ms=given.min_speech_duration_ms,
        max_speech_duration_s=given.max_speech_duration_s,
        min_silence_duration_ms=given.min_silence_duration_ms,
        speech_pad_ms=given.speech_pad_ms,
    )
