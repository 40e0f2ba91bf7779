"""One job from its bytes to its segments, with real files, real speech and the fake engine."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from bench.measure import below
from faster_whisper.audio import decode_audio
from tests.gate import Gate, ask
from tests.one_job import until
from tests.sound import broken_off, wav
from tests.speech_data import clip

from sotto.audio.decoders import Decoders
from sotto.audio.pcm import PcmBlocks
from sotto.audio.source import SourceLimits
from sotto.engine.base import Ask, Decoded
from sotto.engine.batcher import Batcher
from sotto.engine.fake import FakeEngine
from sotto.errors import AudioEmpty, AudioTooLong, AudioUndecodable, EngineError
from sotto.net import Net, NetLimits
from sotto.pipeline import MOST_CHANNELS, Tools, transcribe
from sotto.request import Request, parse
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript

HANG_S = 30
RATE = 16_000
T = TypeVar("T")

Workplace = Callable[..., Tools]


@cache
def speech(name: str, times: int = 1) -> bytes:
    """A clip as WAV, several times over."""
    return wav(np.tile(decode_audio(str(clip(name).path)), times))


@cache
def long_speech() -> bytes:
    """Ten minutes of talk."""
    return speech("en-long", 10)


def job(audio: bytes, **options: object) -> Request:
    return parse({"audio_base64": base64.b64encode(audio).decode(), **options})


async def collected(request: Request, tools: Tools) -> list[Segment]:
    transcript = Transcript()
    async with aclosing(transcribe(request, tools, transcript)) as segments:
        given = [segment async for segment in segments]
    assert transcript.segments == given
    return given


def finish(work: Coroutine[object, object, T]) -> T:
    """Run `work` in an event loop of its own; one that hangs fails, one that leaves tasks too."""

    async def bounded() -> T:
        async with asyncio.timeout(HANG_S):
            result = await work
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(bounded())


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def workplace(temp: Path) -> Iterator[Workplace]:
    """Makes the tools of jobs; afterwards its temporary folder must be empty."""
    batchers: list[Batcher] = []

    with ThreadPoolExecutor(4) as threads, closing(Decoders()) as decoders:

        def make(engine: FakeEngine | None = None, *, ahead: int = 8, max_s: float = 3600) -> Tools:
            batchers.append(Batcher(engine or FakeEngine()))
            return Tools(
                net=Net(NetLimits(1, 1, 1, 1)),
                limits=SourceLimits(10**9, (), temp),
                max_audio_s=max_s,
                decoders=decoders,
                batcher=batchers[-1],
                threads=threads,
                windows_ahead=lambda: ahead,
            )

        yield make
        for batcher in batchers:
            batcher.close()
    assert files(temp) == []


def test_speech_becomes_segments_in_order_inside_the_file(workplace: Workplace):
    segments = finish(collected(job(speech("en-long")), workplace()))
    assert len(segments) > 5
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    at_s = 0.0
    for segment in segments:
        assert at_s <= segment.start_s <= segment.end_s
        assert segment.text.strip()
        assert segment.words
        at_s = segment.end_s
    assert at_s <= clip("en-long").seconds


def test_the_same_file_gives_the_same_segments_again(workplace: Workplace):
    tools = workplace()
    first = finish(collected(job(speech("es-long")), tools))
    assert finish(collected(job(speech("es-long")), tools)) == first


def test_segments_stand_where_somebody_speaks(workplace: Workplace):
    segments = finish(collected(job(speech("ru-long")), workplace()))
    utterances = clip("ru-long").utterances
    for segment in segments:
        assert any(
            segment.start_s < said.end_s and said.start_s < segment.end_s for said in utterances
        )


def test_the_transcript_counts_what_went_through(workplace: Workplace):
    transcript = Transcript()

    async def run() -> None:
        async with aclosing(transcribe(job(speech("en-long")), workplace(), transcript)) as all_of:
            async for _ in all_of:
                pass

    finish(run())
    assert transcript.duration_s == pytest.approx(clip("en-long").seconds, abs=0.01)
    assert 0.5 * transcript.duration_s < transcript.decoded_s < transcript.duration_s
    assert transcript.language.code == "en"
    assert transcript.warnings == []
    assert {"fetch", "decode", "vad", "features", "engine", "total"} <= set(transcript.seconds())


def test_segments_come_before_the_file_has_been_read_to_its_end(workplace: Workplace):
    transcript = Transcript()

    async def run() -> float:
        async with aclosing(
            transcribe(job(long_speech()), workplace(ahead=3), transcript)
        ) as segments:
            await anext(segments)
            return transcript.duration_s

    assert finish(run()) < 300
    assert len(long_speech()) / (2 * RATE) > 500


def test_while_the_engine_stands_still_the_front_end_stops(workplace: Workplace):
    gate = Gate()
    transcript = Transcript()

    async def run() -> float:
        tools = workplace(FakeEngine(fault=gate), ahead=4)
        work = asyncio.create_task(consume(transcribe(job(long_speech()), tools, transcript)))
        await asyncio.to_thread(gate.await_call)
        known_s = -1.0
        while known_s != transcript.duration_s:
            known_s = transcript.duration_s
            await asyncio.sleep(0.3)
        gate.open()
        await work
        return known_s

    assert finish(run()) < 240
    assert transcript.duration_s > 500


async def consume(segments: AsyncGenerator[Segment, None], most: int = 10**6) -> int:
    count = 0
    async with aclosing(segments):
        async for _ in segments:
            count += 1
            if count == most:
                break
    return count


@pytest.mark.parametrize("seconds", [0.01, 1, 75])
def test_silence_gives_no_segment_and_never_reaches_the_engine(workplace: Workplace, seconds):
    engine = FakeEngine()
    silence = wav(np.zeros(int(seconds * RATE)))
    assert finish(collected(job(silence), workplace(engine))) == []
    assert engine.calls == []


def test_without_vad_every_second_reaches_the_engine(workplace: Workplace):
    transcript = Transcript()
    silence = wav(np.zeros(75 * RATE))
    request = job(silence, enable_vad=False)
    assert finish(consume(transcribe(request, workplace(), transcript)))
    assert transcript.decoded_s == pytest.approx(75)


def test_without_timestamps_a_window_is_one_segment(workplace: Workplace):
    engine = FakeEngine()
    request = job(speech("en-long"), without_timestamps=True)
    segments = finish(collected(request, workplace(engine)))
    assert len(segments) == sum(engine.calls)
    assert all(segment.words is None for segment in segments)


def test_a_translation_has_cues_in_order_inside_the_file(workplace: Workplace):
    transcript = Transcript()
    request = job(speech("fr-long"), translate=True)
    finish(consume(transcribe(request, workplace(), transcript)))
    at_s = 0.0
    assert transcript.translation
    for cue in transcript.translation:
        assert at_s <= cue.start_s <= cue.end_s <= clip("fr-long").seconds
        at_s = cue.end_s
    said = " ".join(segment.text for segment in transcript.segments)
    translated = " ".join(cue.text for cue in transcript.translation)
    assert translated.split() == said.upper().split()


# Only some of the file, and each channel by itself.


def test_of_clips_only_the_speech_inside_is_transcribed(workplace: Workplace):
    request = job(speech("en-long"), clip_timestamps="10,20,40,45")
    segments = finish(collected(request, workplace()))
    assert segments
    for segment in segments:
        assert any(
            start_s <= segment.start_s and segment.end_s <= end_s
            for start_s, end_s in [(10, 20), (40, 45)]
        )


def test_a_clip_far_beyond_the_end_is_no_failure(workplace: Workplace):
    for clips in ("1e305", "1e305,1e306"):
        request = job(speech("en-busy"), clip_timestamps=clips)
        assert finish(collected(request, workplace())) == []


@pytest.mark.parametrize("channels", ["mix", "split"])
def test_clips_that_begin_behind_the_end_of_the_audio_are_told_once(workplace, channels: str):
    transcript = Transcript()
    audio = conversation("en-dashwood", "en-young-man")
    request = job(audio, channels=channels, clip_timestamps="1,2,3600,3601,7200")
    finish(consume(transcribe(request, workplace(), transcript)))
    assert transcript.warnings == [
        "clip_timestamps: 2 of 3 clips begin behind the end of the audio "
        f"({transcript.duration_s:.1f} s)"
    ]


def test_of_a_file_that_breaks_off_the_answer_says_so(workplace: Workplace):
    transcript, audio = Transcript(), clip("en-busy").path.read_bytes()
    finish(consume(transcribe(job(broken_off(audio)), workplace(), transcript)))
    assert transcript.segments == finish(collected(job(audio), workplace()))
    (warning,) = transcript.warnings
    assert warning.startswith("audio: it cannot be read beyond 7.8 s: Not yet implemented")


@cache
def conversation(*names: str) -> bytes:
    """One clip on each channel."""
    sound = [decode_audio(str(clip(name).path)) if name else np.zeros(0) for name in names]
    longest = max(map(len, sound))
    return wav(np.stack([np.pad(one, (0, longest - len(one))) for one in sound], axis=1))


def test_channels_are_transcribed_each_by_itself_and_told_in_the_order_of_time(workplace):
    audio = conversation("en-long", "es-long")
    segments = finish(collected(job(audio, channels="split"), workplace()))
    starts_s = [segment.start_s for segment in segments]
    assert starts_s == sorted(starts_s)
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    for channel, name in enumerate(("en-long", "es-long")):
        alone = finish(collected(job(speech(name)), workplace()))
        own = [segment for segment in segments if segment.channel == channel]
        assert [s.text for s in own] == [s.text for s in alone]
        assert [s.start_s for s in own] == [s.start_s for s in alone]


def test_as_many_channels_as_may_be_are_transcribed_each_by_itself(workplace: Workplace):
    silent = [""] * (MOST_CHANNELS - 1)
    request = job(conversation(*silent, "en-busy"), channels="split")
    segments = finish(collected(request, workplace()))
    assert {segment.channel for segment in segments} == {MOST_CHANNELS - 1}


def test_a_track_without_a_channel_is_an_error_and_no_empty_answer(workplace):
    class Deaf(Decoders):
        def count_channels(self, path: Path) -> int:
            return 0

    with closing(Deaf()) as deaf:
        tools = replace(workplace(), decoders=deaf)
        with pytest.raises(AudioEmpty, match="no channel"):
            finish(collected(job(speech("en-busy"), channels="split"), tools))


@pytest.mark.parametrize(("ahead", "cut"), [(10, 10), (2, 6)])
def test_channels_share_what_a_job_may_have_cut_but_for_the_fewest(workplace, ahead, cut):
    gate = Gate()
    sound = np.tile(decode_audio(str(clip("en-long").path)), 10)
    audio = wav(np.stack([sound, sound], axis=1))

    async def run() -> int:
        tools = workplace(FakeEngine(fault=gate), ahead=ahead)
        request = job(audio, channels="split", language="en")
        work = asyncio.create_task(collected(request, tools))
        await asyncio.to_thread(gate.await_call)
        batcher, known = tools.batcher, -1
        while known != (now := batcher._waiting() + len(batcher._running)):
            known = now
            await asyncio.sleep(0.5)
        gate.open()
        await work
        return known

    assert finish(run()) == cut


def test_the_channels_of_a_job_share_its_turn(workplace: Workplace):
    tools, turns = workplace(), []
    submit = tools.batcher.submit

    def told(job: Hashable, ask: Ask) -> Future[Decoded]:
        turns.append(job)
        return submit(job, ask)

    tools.batcher.submit = told
    finish(collected(job(conversation("en-long", "es-long"), channels="split"), tools))
    finish(collected(job(speech("en-busy")), tools))
    assert len(turns) > 4
    assert len(set(turns[:-1])) == 1
    assert turns[-1] != turns[0]


def test_a_channel_on_which_nobody_speaks_is_no_failure(workplace: Workplace):
    segments = finish(collected(job(conversation("en-busy", ""), channels="split"), workplace()))
    assert {segment.channel for segment in segments} == {0}


def test_a_channel_that_fails_fails_the_job_and_leaves_nothing(workplace, temp: Path):
    def fault(asks: Sequence[Ask]) -> None:
        raise EngineError("bad channel")

    tools = workplace(FakeEngine(fault=fault))
    with pytest.raises(EngineError, match="bad channel"):
        finish(collected(job(conversation("en-long", "es-long"), channels="split"), tools))
    assert files(temp) == []


# However it ends, nothing is left.


def test_a_temporary_file_is_there_while_the_job_runs_and_gone_afterwards(workplace, temp: Path):
    async def run() -> None:
        async with aclosing(transcribe(job(speech("en-busy")), workplace(), Transcript())) as job_:
            await anext(job_)
            assert len(files(temp)) == 1

    finish(run())
    assert files(temp) == []


@pytest.mark.parametrize(
    "audio",
    [b"\0" * 5000, b"<html>404</html>", speech("en-busy")[:30], b"RIFF", b"#EXTM3U\nhttp://x/y"],
    ids=["zeros", "html", "half a header", "four bytes", "playlist"],
)
def test_bytes_that_are_no_audio_fail_and_leave_nothing(workplace, temp: Path, audio: bytes):
    engine = FakeEngine()
    with pytest.raises(AudioUndecodable):
        finish(collected(job(audio), workplace(engine)))
    assert files(temp) == []
    assert engine.calls == []


def test_a_file_that_breaks_off_is_transcribed_as_far_as_it_goes(workplace: Workplace):
    whole = speech("en-long")
    segments = finish(collected(job(whole[: len(whole) // 2]), workplace()))
    assert segments
    assert segments[-1].end_s <= clip("en-long").seconds / 2 + 0.1


def test_audio_that_is_too_long_fails_and_leaves_nothing(workplace, temp: Path):
    with pytest.raises(AudioTooLong):
        finish(collected(job(long_speech()), workplace(max_s=60)))
    assert files(temp) == []


def test_a_failing_engine_fails_the_job_and_leaves_nothing(workplace, temp: Path):
    def fault(asks: Sequence[Ask]) -> None:
        raise EngineError("broken")

    with pytest.raises(EngineError, match="broken"):
        finish(collected(job(speech("en-long")), workplace(FakeEngine(fault=fault))))
    assert files(temp) == []


def test_of_a_failed_job_no_decoder_is_left(workplace: Workplace):
    tools = workplace(FakeEngine(fault=Third()))
    for _ in range(3):
        with pytest.raises(EngineError, match="broken"):
            finish(collected(job(long_speech(), enable_vad=False), tools))

    async def gone() -> None:
        await until(lambda: not list(below(tools.decoders.process_id)))

    finish(gone())


class Third:
    """Breaks every third call, while the audio is still being decoded."""

    def __init__(self) -> None:
        self._calls = itertools.count(1)

    def __call__(self, asks: Sequence[Ask]) -> None:
        if next(self._calls) % 3 == 0:
            raise EngineError("broken")


def test_a_dead_engine_fails_the_jobs_that_wait_and_those_that_come(workplace, temp: Path):
    def fault(asks: Sequence[Ask]) -> None:
        raise SystemExit

    tools = workplace(FakeEngine(fault=fault))
    for _ in range(2):
        with pytest.raises(EngineError):
            finish(collected(job(speech("en-busy")), tools))
    assert not tools.batcher.healthy
    assert files(temp) == []


@pytest.mark.parametrize("options", [{}, {"language": "en"}, {"condition_on_previous_text": True}])
def test_a_cancelled_job_leaves_no_file_no_task_and_no_work(workplace, temp: Path, options):
    gate = Gate()
    tools = workplace(FakeEngine(fault=gate))

    async def run() -> None:
        segments = transcribe(job(long_speech(), **options), tools, Transcript())
        work = asyncio.create_task(consume(segments))
        await asyncio.to_thread(gate.await_call)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert files(temp) == []

    finish(run())
    gate.open()
    before = len(gate.calls)
    finish(collected(job(speech("en-busy"), language="ru"), tools))
    assert {one.language for call in gate.calls[before:] for one in call} == {"ru"}


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
def test_a_job_may_be_cancelled_at_any_moment(workplace, temp: Path, after_s: float):
    engine = FakeEngine(cost_s=lambda _: 0.05)
    tools = workplace(engine)

    async def run() -> None:
        work = asyncio.create_task(consume(transcribe(job(long_speech()), tools, Transcript())))
        await asyncio.sleep(after_s)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert files(temp) == []

    finish(run())
    calls = len(engine.calls)
    time.sleep(0.1)
    assert len(engine.calls) <= calls + 1


def test_a_reader_that_stops_early_leaves_nothing(workplace, temp: Path):
    engine = FakeEngine()
    tools = workplace(engine, ahead=3)
    assert finish(consume(transcribe(job(long_speech()), tools, Transcript()), most=2)) == 2
    assert files(temp) == []
    assert sum(engine.calls) < 10


# Several jobs at once.


def test_jobs_at_once_get_what_they_get_alone_and_share_calls(workplace: Workplace):
    names = ["en-long", "es-long", "fr-long", "it-long", "ru-long"]
    alone = [finish(collected(job(speech(name)), workplace())) for name in names]
    gate = Gate()

    async def run() -> list[list[Segment]]:
        tools = workplace(FakeEngine(fault=gate))
        tools.batcher.submit("busy", ask(0))
        await asyncio.to_thread(gate.await_call)
        jobs = [asyncio.create_task(collected(job(speech(name)), tools)) for name in names]
        await until(lambda: len(tools.batcher._queues) == len(names))
        gate.open()
        return await asyncio.gather(*jobs)

    assert finish(run()) == alone
    assert len(gate.rows[1]) == len(names)


def test_a_job_whose_decoder_is_stuck_is_cancelled_and_frees_its_thread(workplace, tmp_path: Path):
    stuck = tmp_path.parent / f"{tmp_path.name}-stuck"
    os.mkfifo(stuck)

    class Stuck(Decoders):
        def decode(self, path: Path, *given: object) -> PcmBlocks:
            return super().decode(stuck, *given)

    async def cancelled(tools: Tools) -> None:
        work = asyncio.create_task(collected(job(speech("en-busy")), tools))
        await until(lambda: bool(list(below(tools.decoders.process_id))))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with closing(Stuck()) as decoders, ThreadPoolExecutor(1) as threads:
        finish(cancelled(replace(workplace(), decoders=decoders, threads=threads)))
        assert threads.submit(int).result(HANG_S) == 0


@pytest.mark.parametrize("fate", ["cancelled", "failed"])
def test_two_jobs_are_undisturbed_by_a_third_that_is(workplace: Workplace, fate: str):
    alone = [finish(collected(job(speech(name)), workplace())) for name in ("en-long", "it-long")]

    def fault(asks: Sequence[Ask]) -> None:
        if fate == "failed" and any(one.language == "ru" for one in asks):
            raise EngineError("bad job")

    async def run() -> list[list[Segment]]:
        tools = workplace(FakeEngine(cost_s=lambda _: 0.02, fault=fault))
        doomed = asyncio.create_task(collected(job(speech("ru-long"), language="ru"), tools))
        others = [
            asyncio.create_task(collected(job(speech(name)), tools))
            for name in ("en-long", "it-long")
        ]
        if fate == "cancelled":
            await until(lambda: bool(tools.batcher.engine.calls))
            doomed.cancel()
        (end,) = await asyncio.gather(doomed, return_exceptions=True)
        assert isinstance(end, EngineError if fate == "failed" else asyncio.CancelledError)
        return await asyncio.gather(*others)

    assert finish(run()) == alone


def test_a_short_job_ends_while_a_long_one_still_runs(workplace: Workplace):
    async def run() -> bool:
        tools = workplace(FakeEngine(cost_s=lambda _: 0.1, batch_limit=2))
        long = asyncio.create_task(collected(job(long_speech()), tools))
        await until(lambda: len(tools.batcher.engine.calls) > 1)
        await collected(job(speech("en-busy")), tools)
        still_runs = not long.done()
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        return still_runs

    assert finish(run())
