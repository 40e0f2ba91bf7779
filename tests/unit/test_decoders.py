"""Files decoded in processes of their own: the same sound, the same errors, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bench.measure import below
from tests.sound import broken_off, drained, wav
from tests.speech_data import clip

from sotto.audio import decode as decoding
from sotto.audio.decoders import STOP_S, Decoders
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable, SourceTimeout

SOON_S = 10


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with closing(Decoders()) as started:
        yield started


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """Two minutes: more than fits between a child and its reader."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav(np.zeros(120 * 16_000, np.float32)))
    return path


def children(decoders: Decoders) -> list[int]:
    return list(below(decoders.process_id))


def soon(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["en-long", "es-busy"])
def test_the_sound_is_that_of_decoding_here(decoders: Decoders, name: str) -> None:
    file = clip(name).path
    here = list(decoding.decode(file, 3600))
    there = list(decoders.decode(file, 3600))
    assert [len(block) for block in there] == [len(block) for block in here]
    assert np.array_equal(np.concatenate(there), np.concatenate(here))
    assert {block.dtype for block in there} == {np.dtype(np.float32)}
    assert decoders.count_channels(file) == decoding.count_channels(file)
    assert decoders.length_s(file) == decoding.length_s(file)


def test_a_channel_is_the_one_that_was_asked_for(decoders: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    path.write_bytes(wav(np.stack([np.full(16_000, 0.25), np.full(16_000, -0.5)], axis=1)))
    for channel, level in ((0, 0.25), (1, -0.5)):
        (block,) = decoders.decode(path, 60, channel)
        assert np.allclose(block, level, atol=1e-3)


def test_why_a_file_cannot_be_read_on_is_told_here_too(decoders: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "two"
    for content, reason in (
        (clip("en-long").path.read_bytes(), None),
        (broken_off(clip("en-long").path.read_bytes()), "Not yet implemented in FFmpeg"),
    ):
        path.write_bytes(content)
        here, there = (drained(at.decode(path, 3600))[1] for at in (decoding, decoders))
        assert there == here
        assert here is None if reason is None else here.startswith(reason)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", AudioEmpty),
        (wav(np.zeros(0, np.float32)), AudioEmpty),
        (b"no sound at all " * 1000, AudioUndecodable),
        (b"#EXTM3U\nfile:///etc/passwd\n", AudioUndecodable),
        (wav(np.zeros(3 * 16_000, np.float32)), AudioTooLong),
    ],
)
def test_errors_are_those_of_decoding_here(
    decoders: Decoders, tmp_path: Path, content: bytes, kind: type[AudioError]
) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(kind) as here:
        list(decoding.decode(path, 2))
    with pytest.raises(kind) as there:
        list(decoders.decode(path, 2))
    assert str(there.value) == str(here.value)
    assert type(there.value) is type(here.value)


def test_a_file_that_cannot_be_counted_says_why(decoders: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no sound")
    with pytest.raises(AudioUndecodable):
        decoders.count_channels(path)
    assert decoders.length_s(path) is None


def test_what_is_not_the_audios_fault_is_no_audio_error(decoders: Decoders, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        list(decoders.decode(tmp_path / "gone", 60))


def test_files_at_once_do_not_mix(decoders: Decoders) -> None:
    files = [clip(name).path for name in ("en-long", "es-long", "fr-long")] * 4
    expected = [np.concatenate(list(decoding.decode(file, 3600))) for file in files[:3]] * 4
    with ThreadPoolExecutor(len(files)) as threads:
        made = threads.map(lambda file: np.concatenate(list(decoders.decode(file, 3600))), files)
        assert all(map(np.array_equal, made, expected))


def test_a_decoder_that_dies_ends_its_own_file_alone(decoders: Decoders, long_file: Path) -> None:
    soon(lambda: not children(decoders))
    doomed = decoders.decode(long_file, 3600)
    next(doomed)
    (child,) = children(decoders)
    other = decoders.decode(long_file, 3600)
    next(other)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(AudioUndecodable, match="died"):
        list(doomed)
    assert sum(map(len, other)) == 120 * 16_000 - decoding.BLOCK_SAMPLES


def test_a_decoder_ends_when_nobody_reads_it(decoders: Decoders, long_file: Path) -> None:
    read = decoders.decode(long_file, 3600)
    next(read)
    assert children(decoders)
    read.close()
    soon(lambda: not children(decoders))


def test_a_decoder_that_is_stuck_is_left_and_ended(decoders: Decoders, tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for a volume that answers no more."""
    stuck = tmp_path / "stuck"
    os.mkfifo(stuck)
    stopped = threading.Event()
    soon(lambda: not children(decoders))
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(list, decoders.decode(stuck, 60, stopped=stopped.is_set))
        soon(lambda: len(children(decoders)) == 1)
        assert not reading.done()
        stopped.set()
        assert reading.result(SOON_S) == []
    soon(lambda: not children(decoders))


def test_a_file_that_does_not_tell_what_is_in_it_is_not_waited_for(
    decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sotto.audio.decoders.LOOK_S", 0.1)
    stuck = tmp_path / "stuck"
    os.mkfifo(stuck)
    assert decoders.length_s(stuck) is None
    with pytest.raises(SourceTimeout, match="did not tell"):
        decoders.count_channels(stuck)
    soon(lambda: not children(decoders))


def test_a_child_that_has_ended_is_not_taken_for_another(decoders: Decoders) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        decoders._kill(stranger.pid)
        assert decoders.length_s(clip("en-long").path)
        assert stranger.poll() is None
        stranger.kill()


def test_no_pipe_stays_open(decoders: Decoders, long_file: Path, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        next(decoders.decode(long_file, 3600))
        list(decoders.decode(long_file, 3600))
        with pytest.raises(RuntimeError):
            decoders.count_channels(tmp_path / "gone")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_process_that_forks_is_started_again_if_it_dies(long_file: Path) -> None:
    with closing(Decoders()) as decoders:
        reading = decoders.decode(long_file, 3600)
        next(reading)
        os.kill(decoders.process_id, signal.SIGKILL)
        assert sum(map(len, reading)) == 120 * 16_000 - decoding.BLOCK_SAMPLES
        assert decoders.length_s(long_file) == 120


def test_whoever_asks_waits_for_no_child_of_a_process_that_forks_and_has_died(
    long_file: Path,
) -> None:
    with closing(Decoders()) as decoders:
        reading = decoders.decode(long_file, 3600)
        next(reading)
        os.kill(decoders.process_id, signal.SIGKILL)
        asking = ThreadPoolExecutor(1).submit(decoders.length_s, long_file)
        assert asking.result(timeout=20) == 120
        next(reading)
        reading.close()


def test_where_no_process_can_be_started_it_is_said(
    monkeypatch: pytest.MonkeyPatch, long_file: Path
) -> None:
    monkeypatch.setattr(
        "sotto.audio.decoders.sys", SimpleNamespace(executable="/bin/false", path=[])
    )
    with closing(Decoders()) as decoders, pytest.raises(RuntimeError, match="no process"):
        decoders.length_s(long_file)


def test_the_environment_stays_here(monkeypatch: pytest.MonkeyPatch, long_file: Path) -> None:
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "a-secret")
    with closing(Decoders()) as decoders:
        reading = decoders.decode(long_file, 3600)
        next(reading)
        processes = [decoders.process_id, *children(decoders)]
        assert len(processes) == 2
        for process in processes:
            assert b"a-secret" not in Path(f"/proc/{process}/environ").read_bytes()


def test_it_ends_when_told_though_a_process_forked_from_this_one_lives_on() -> None:
    code = """
import multiprocessing, time
from sotto.audio.decoders import Decoders
decoders = Decoders()
forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
forked.start()
begun_s = time.monotonic()
decoders.close()
print(time.monotonic() - begun_s)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < STOP_S


def test_it_ends_when_its_starter_has_died_though_a_process_forked_from_that_lives_on() -> None:
    code = """
import multiprocessing, os, time
from sotto.audio.decoders import Decoders
decoders = Decoders()
forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
forked.start()
print(decoders.process_id, forked.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        forks, forked = map(int, owner.stdout.readline().split())
        owner.wait()
        try:
            soon(lambda: not Path(f"/proc/{forks}").exists())
        finally:
            os.kill(forked, signal.SIGKILL)


def test_it_does_not_outlive_the_process_that_started_it(long_file: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from sotto.audio.decoders import Decoders
decoders = Decoders()
reading = decoders.decode(Path(sys.argv[1]), 3600)
next(reading)
print(decoders.process_id, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(long_file)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        forks = int(owner.stdout.readline())
        running = [forks, *below(forks)]
        assert len(running) == 2
        owner.kill()
    soon(lambda: not any(Path(f"/proc/{process}").exists() for process in running))
