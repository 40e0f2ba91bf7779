"""One job, top to bottom: audio in, segments out, as they become final.

Invariant: a job holds at most `Tools.windows_ahead` windows, or the fewest that its channels need,
and whatever ends it - success, an error, cancellation - its temporary file is gone and the engine
no longer works for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from sotto.asking import Asker
from sotto.audio.decoders import Decoders
from sotto.audio.features import log_mel
from sotto.audio.pcm import RATE, PcmBlocks, Span
from sotto.audio.source import Fetcher, SourceLimits, open_source
from sotto.audio.vad import VadOptions, listen, vad_options
from sotto.audio.windows import Window, cut_stepwise
from sotto.engine.batcher import Batcher
from sotto.errors import AudioEmpty, RequestError
from sotto.merging import merged
from sotto.ordering import Featured, in_order
from sotto.request import Request
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript

MOST_CHANNELS = 8
"""Channels of one audio that are transcribed one by one; each costs as much as a job."""
LATEST_S = 1e9
"""Nothing is said later than this: where a clip that lies beyond it begins and ends."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What jobs work with, the same for all jobs in flight.

    `decoders` decode, and `threads` run the rest of the front ends. `windows_ahead`: windows of one
    job that may be cut and not yet decoded, as things are; it bounds memory, and channels share it.
    """

    net: Fetcher
    limits: SourceLimits
    max_audio_s: float
    decoders: Decoders
    batcher: Batcher
    threads: Executor
    windows_ahead: Callable[[], int]


async def transcribe(
    request: Request, tools: Tools, transcript: Transcript
) -> AsyncGenerator[Segment, None]:
    """One job, top to bottom.

    Yields segments with file times; what else there is to say about the job gathers in
    `transcript`. Raises SottoError.
    """
    async with open_source(request.audio, tools.net, tools.limits) as path:
        transcript.laps.end("fetch")
        transcript.length_s = await asyncio.to_thread(tools.decoders.length_s, path)
        channels = await channels_of(path, request, tools.decoders)
        shared = replace(tools, windows_ahead=lambda: tools.windows_ahead() // len(channels))
        spoken = [
            transcribe_channel(path, channel, request, shared, transcript) for channel in channels
        ]
        async with aclosing(merged(spoken)) as segments:
            async for segment in segments:
                yield transcript.keep(segment)
        transcript.finish(clips(request))
        transcript.laps.end("engine")


async def transcribe_channel(
    path: Path, channel: int | None, request: Request, tools: Tools, transcript: Transcript
) -> AsyncGenerator[Segment, None]:
    """One channel of a job, or all of them mixed, top to bottom."""
    asker = Asker(request, tools.batcher, tools.threads, job=transcript)
    track = transcript.track(channel, asker.language)
    watch = track.meter.watch
    stopped = track.meter.is_stopped
    with let_go(tools.decoders.decode(path, tools.max_audio_s, channel, stopped)) as blocks:
        pcm = watch("decode", track.measure(blocks))
        speech = watch("vad", listen(pcm, vad(request)))
        windows = cut_stepwise(
            speech, keep_silence=not request.options.enable_vad, clips=clips(request)
        )
        featured = watch("features", features(windows, tools.batcher.engine.mels))
        decoded = in_order(featured, asker, tools.threads, tools.windows_ahead, track.meter.stop)
        async with aclosing(decoded):
            async for parts in decoded:
                for segment in track.add(parts):
                    yield segment
        for segment in track.finish():
            yield segment


@contextmanager
def let_go(blocks: PcmBlocks) -> Iterator[PcmBlocks]:
    """Have the decoder end with the job, also one that fails: errors hold on to what they passed.

    A thread that is still at work on a block lets go of it by itself.
    """
    try:
        yield blocks
    finally:
        with suppress(ValueError):  # a thread is at work in it
            blocks.close()


async def channels_of(path: Path, request: Request, decoders: Decoders) -> Sequence[int | None]:
    """The channels to transcribe, each by itself; None stands for all of them mixed.

    Raises RequestError if there are too many, AudioEmpty if there is none.
    """
    if request.options.channels == "mix":
        return [None]
    count = await asyncio.to_thread(decoders.count_channels, path)
    if count == 0:
        raise AudioEmpty("the audio track has no channel")
    if count > MOST_CHANNELS:
        raise RequestError(
            "channels",
            f"'split': the audio has {count}, and at most {MOST_CHANNELS} are split",
        )
    return range(count)


def features(windows: Iterable[Window | None], mels: int) -> Iterator[Featured | None]:
    """Each window with its log-mel spectrogram, float32 (mels, frames)."""
    for window in windows:
        yield None if window is None else (window, log_mel(window.pcm, mels))


def clips(request: Request) -> list[Span]:
    """The stretches to transcribe, in samples; none means all."""
    return [
        Span(*(round(min(edge_s, LATEST_S) * RATE) for edge_s in (clip.start_s, clip.end_s)))
        for clip in request.clips
    ]


def vad(request: Request) -> VadOptions:
    """The request's VAD parameters, in samples."""
    return vad_options(**msgspec.structs.asdict(request.options.vad_parameters))
