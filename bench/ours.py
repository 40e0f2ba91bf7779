"""Sotto, run as its worker runs it: jobs into `pipeline.transcribe`, all of them at once.

Invariant: how a job is put together out of Sotto's parts is known here and in `simulated.py` alone;
a scenario takes from Sotto what it replaces or measures by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.measure import Clock, Task
from sotto.audio.decode import decode
from sotto.audio.features import log_mel
from sotto.audio.pcm import RATE
from sotto.audio.vad import listen
from sotto.audio.windows import cut
from sotto.engine import arena
from sotto.engine.base import Engine
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.pipeline import transcribe as transcribe_job
from sotto.pipeline import vad
from sotto.request import Request, parse
from sotto.settings import Settings
from sotto.transcript.transcript import Transcript
from sotto.workshop import Workshop

ENVIRON = {"GLIBC_TUNABLES": arena.TUNABLES}
"""What the image sets for its worker that has to be there when the process starts."""
LONGEST_S = 12 * 3600.0


def task(paths: Sequence[str], **options: Any) -> Task:
    """Transcribe files all at once with the real engine."""
    return Task("bench.ours:transcribe", {"paths": list(paths), "options": options}, ENVIRON)


def transcribe(
    clock: Clock,
    paths: Sequence[str],
    options: Mapping[str, Any],
) -> list[list[dict[str, Any]]]:
    """A task: transcribe all files at once, the model being loaded; the segments of each."""
    requests = [request(path, options) for path in paths]

    async def run() -> list[Transcript]:
        workshop = Workshop(Settings(audio_roots=("/",)))
        try:
            async with workshop.open(requests[0]):
                pass
            with clock:
                return await asyncio.gather(*(job(workshop, one) for one in requests))
        finally:
            workshop.close()

    return [segments(transcript) for transcript in asyncio.run(run())]


def request(path: str | Path, options: Mapping[str, Any]) -> Request:
    """The job for a file."""
    return parse({"audio_path": str(path), **options})


async def job(workshop: Workshop, wanted: Request, batcher: Batcher | None = None) -> Transcript:
    """Run one job, by `batcher` in place of the workshop's own if given."""
    async with workshop.open(wanted) as (tools, transcript):
        if batcher is not None:
            tools = replace(tools, batcher=batcher)
        async with aclosing(transcribe_job(wanted, tools, transcript)) as made:
            async for _ in made:
                pass
        return transcript


def with_engine(
    clock: Clock,
    paths: Sequence[str],
    engine: Engine,
    options: Mapping[str, Any] = MappingProxyType({"language": "en"}),
) -> list[Transcript]:
    """Run the whole pipeline over all files at once, with an engine of the bench's own."""
    requests = [request(path, options) for path in paths]

    async def run() -> list[Transcript]:
        workshop = Workshop(Settings(audio_roots=("/",), engine="fake"))
        batcher = Batcher(engine)
        try:
            await asyncio.to_thread(workshop.warm_up)  # as a worker does before its first job
            _as_loaded()
            with clock:
                return await asyncio.gather(*(job(workshop, one, batcher) for one in requests))
        finally:
            batcher.close()
            workshop.close()

    return asyncio.run(run())


def segments(transcript: Transcript) -> list[dict[str, Any]]:
    """The segments as `score.Cue` takes them."""
    return [
        {
            "text": segment.text,
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "words": [(word.text, word.start_s, word.end_s) for word in segment.words or ()],
        }
        for segment in transcript.segments
    ]


def all_but_engine(clock: Clock, paths: Sequence[str]) -> list[float]:
    """A task: the whole pipeline with an engine that costs nothing; seconds of audio."""
    return [transcript.duration_s for transcript in with_engine(clock, paths, FakeEngine())]


STAGES = ("decode", "decode and VAD", "decode, VAD and features")


def front_end(clock: Clock, path: str, stages: str) -> int:
    """A task: these STAGES on this thread alone; how many blocks or windows came out."""
    arena.share_one()
    _as_loaded()
    with clock:
        made: Iterator[Any] = decode(Path(path), LONGEST_S)
        if stages != STAGES[0]:
            made = listen(made, vad(request(path, {})))
        if stages == STAGES[2]:
            made = (log_mel(window.pcm, 80) for window in cut(made))
        return sum(1 for _ in made)


def _as_loaded() -> None:
    """Memory comes as it does once a model is there, which a worker has before its first job."""
    with arena.loading():
        pass


def voice_ends_s(path: str | Path) -> list[float]:
    """Where somebody stops speaking, in seconds of the file, as Sotto hears it."""
    return [end / RATE for end in _voice_ends(str(path))]


def _voice_ends(path: str) -> Iterator[int]:
    for heard in listen(decode(Path(path), LONGEST_S), vad(request(path, {}))):
        yield from (speech.voice.end for speech in heard.speeches)
