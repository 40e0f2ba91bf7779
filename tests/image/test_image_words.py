"""What the images make of real speech: from a person's desk, and as workers of an endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from tests.image.engine import Engine
from tests.image.worker import HARDENED, Work, at_work
from tests.model.conftest import running
from tests.model.test_transcribe import plain, text
from tests.speech_data import clip, clips
from tests.unit.test_decode import record

from sotto.engine import whisper
from sotto.engine.devices import CPU
from sotto.gateway.job import State

MUXERS = {"mp3": ("mp3", "libmp3lame"), "m4a": ("ipod", "aac"), "mp4": ("mp4", "aac")}
SPOKEN = clip("en-dashwood")
WORSE_BY = 0.005
"""The word error rate that the image's small model may add."""


@pytest.mark.parametrize("options", [(), HARDENED], ids=["plain", "hardened"])
def test_the_filed_job_prints_what_was_said(
    engine: Engine, image: str, options: tuple[str, ...]
) -> None:
    done = engine.run(image, options=options)
    assert done.code == 0, done.told
    assert "Dashwood" in done.out
    assert "model base on cpu" in done.out


def test_a_job_of_ones_own_fails_with_its_reason(engine: Engine, cpu: str) -> None:
    job = json.dumps({"input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}})
    done = engine.run(cpu, "python", "-u", "handler.py", "--test_input", job)
    assert done.code == 1
    assert "audio_undecodable: " in done.told
    assert "Traceback" not in done.told


def test_speech_is_understood_from_every_kind_of_file(
    engine: Engine, cpu: str, tmp_path: Path
) -> None:
    files = {"ogg": SPOKEN.path.read_bytes(), **{name: as_file(tmp_path, name) for name in MUXERS}}

    async def main() -> dict[str, str]:
        async with at_work(engine, cpu) as work:
            heard = await asyncio.gather(*(said(work, file) for file in files.values()))
        return dict(zip(files, heard, strict=True))

    for name, words in asyncio.run(main()).items():
        assert jiwer.wer(plain(SPOKEN.text), plain(words)) <= 0.1, name


def test_the_baked_model_hears_as_well_as_the_one_it_was_made_from(
    engine: Engine,
    cpu: str,
    weights: Path,
    tmp_path: Path,
    measured: Callable[[str], None],
) -> None:
    sounds = [each.path.read_bytes() for each in clips()]

    async def main() -> list[str]:
        async with at_work(engine, cpu) as work:
            return list(await asyncio.gather(*(said(work, each) for each in sounds)))

    original = whisper.load("base", weights / "base", "cpu", "float32", replace(CPU, threads=2))
    try:
        with running(original, tmp_path) as transcribe_all:
            unquantised = [text(transcribe_all(each)[0]) for each in clips()]
    finally:
        original.close()
    spoken = [plain(each.text) for each in clips()]
    baked = [plain(heard) for heard in asyncio.run(main())]
    worse_by = jiwer.wer(spoken, baked) - jiwer.wer(spoken, [plain(one) for one in unquantised])
    measured(f"word error rate of the image less that of float32: {worse_by:+.4f}")
    assert worse_by <= WORSE_BY


async def said(work: Work, audio: bytes) -> str:
    """What a job with this audio file answers."""
    job = await work.end({"audio_base64": base64.b64encode(audio).decode()})
    assert job.state is State.COMPLETED, job.error
    transcription: str = job.output["transcription"]
    return transcription


def as_file(folder: Path, kind: str) -> bytes:
    """The clip in another kind of file; an mp4 has a picture too."""
    pcm = (decode_audio(str(SPOKEN.path), 16_000) * 32_767).astype(np.int16).reshape(1, -1)
    return record(
        folder / f"clip.{kind}", pcm, 16_000, video=kind == "mp4", kind=MUXERS[kind]
    ).read_bytes()
