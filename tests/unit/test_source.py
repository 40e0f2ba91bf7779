from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.file_server import FileServer, drip, drip_headers, hang, status, whole

from sotto.audio.source import (
    Audio,
    EmbeddedAudio,
    PathAudio,
    SourceLimits,
    UrlAudio,
    open_source,
)
from sotto.errors import (
    AudioEmpty,
    InternalError,
    RequestError,
    SottoError,
    SourceForbidden,
    SourceTooLarge,
    SourceUnreachable,
)
from sotto.net import Net, NetLimits

BODY = b"RIFF" + bytes(100_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))
    with FileServer() as server:
        yield server


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    root.mkdir()
    return root


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    folder = tmp_path / "temp"
    folder.mkdir()
    return folder


def net(**changes: float) -> Net:
    values = {"connect_timeout_s": 5, "read_timeout_s": 5, "fetch_timeout_s": 20}
    return Net(NetLimits(**(values | changes), max_bytes=10**6))  # type: ignore[arg-type]


def limits(temp: Path, *roots: Path) -> SourceLimits:
    return SourceLimits(max_audio_bytes=10**6, audio_roots=roots, temp_root=temp)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


async def read(audio: Audio, limits: SourceLimits, **changes: float) -> tuple[Path, bytes]:
    async with open_source(audio, net(**changes), limits) as file:
        return file, file.read_bytes()


def refused(audio: Audio, limits: SourceLimits, kind: type[SottoError]) -> str:
    with pytest.raises(kind) as caught:
        run(read(audio, limits))
    assert type(caught.value) is kind
    if isinstance(caught.value, RequestError):
        assert caught.value.field == "audio_path"
    return str(caught.value)


def lying_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


# Temporary files


@pytest.mark.parametrize("audio", [EmbeddedAudio(BODY), UrlAudio("")])
def test_the_audio_lies_in_a_private_file_and_is_gone_afterwards(
    temp: Path, server: FileServer, audio: Audio
) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    if isinstance(audio, UrlAudio):
        audio = UrlAudio(server.url("/a.wav"), (("X-Key", "k"),))

    async def look() -> None:
        async with open_source(audio, net(), limits(temp)) as file:
            assert file.read_bytes() == BODY
            assert [file] == lying_in(temp)
            assert file.name.startswith("sotto-")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    run(look())
    assert lying_in(temp) == []
    assert all(headers["X-Key"] == "k" for _, headers in server.requests)


@pytest.mark.parametrize("audio", [EmbeddedAudio(BODY), UrlAudio("https://host.example/a.wav")])
def test_a_folder_that_takes_no_file_is_told_and_logged_by_its_name(
    temp: Path, caplog: pytest.LogCaptureFixture, audio: Audio
) -> None:
    with pytest.raises(InternalError) as caught:
        run(read(audio, limits(temp / "lost")))
    told = f"SOTTO_TEMP_DIR: no audio can be written to {temp / 'lost'}: No such file or directory"
    assert str(caught.value) == "this worker cannot write audio; its log has the reason"
    assert caplog.messages == [told]


def test_a_system_without_a_temporary_folder_is_told(
    temp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(temp / "lost"))
    nowhere = SourceLimits(max_audio_bytes=10**6, audio_roots=(), temp_root=None)
    with pytest.raises(InternalError):
        run(read(EmbeddedAudio(BODY), nowhere))
    (told,) = caplog.messages
    assert told.startswith("SOTTO_TEMP_DIR: no audio can be written to the system's temporary")


def test_a_failing_job_leaves_no_file(temp: Path) -> None:
    async def fail() -> None:
        async with open_source(EmbeddedAudio(BODY), net(), limits(temp)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail())
    assert lying_in(temp) == []


def test_a_file_that_the_job_removed_is_no_error(temp: Path) -> None:
    async def remove() -> None:
        async with open_source(EmbeddedAudio(BODY), net(), limits(temp)) as file:
            file.unlink()

    run(remove())


@pytest.mark.parametrize("answer", [status(404), status(500), whole(BODY, break_after=9)])
def test_a_failed_download_leaves_no_file(temp: Path, server: FileServer, answer: Any) -> None:
    server.answers["/a.wav"] = [answer]
    refused(UrlAudio(server.url("/a.wav")), limits(temp), SourceUnreachable)
    assert lying_in(temp) == []


def test_a_download_beyond_the_limit_leaves_no_file(temp: Path, server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(bytes(2 * 10**6), length=None)]
    refused(UrlAudio(server.url("/a.wav")), limits(temp), SourceTooLarge)
    assert lying_in(temp) == []


@pytest.mark.parametrize("slow", [hang(), drip(BODY, 0.01), drip_headers(0.01)])
def test_a_job_cancelled_during_its_download_leaves_neither_file_nor_thread(
    temp: Path, server: FileServer, slow: Any
) -> None:
    server.answers["/a.wav"] = [slow]

    async def cancel() -> None:
        job = asyncio.create_task(read(UrlAudio(server.url("/a.wav")), limits(temp)))
        await asyncio.to_thread(server.asked.wait, 10)
        assert len(lying_in(temp)) == 1
        job.cancel()
        await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert lying_in(temp) == []

    run(cancel())
    assert "sotto-watch" not in {thread.name for thread in threading.enumerate()}


def test_a_job_cancelled_while_it_uses_the_file_leaves_none(temp: Path) -> None:
    async def cancel() -> None:
        using = asyncio.Event()

        async def use() -> None:
            async with open_source(EmbeddedAudio(BODY), net(), limits(temp)):
                using.set()
                await asyncio.sleep(60)

        job = asyncio.create_task(use())
        await using.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    run(cancel())
    assert lying_in(temp) == []


def test_the_event_loop_goes_on_during_a_download(temp: Path, server: FileServer) -> None:
    server.answers["/a.wav"] = [drip(b"RIFF" * 10, 0.01)]

    async def count() -> int:
        job = asyncio.create_task(read(UrlAudio(server.url("/a.wav")), limits(temp)))
        ticks = 0
        while not job.done():
            ticks += 1
            await asyncio.sleep(0.01)
        assert (await job)[1] == b"RIFF" * 10
        return ticks

    assert run(count()) > 10


def test_many_jobs_at_once_have_a_file_each(temp: Path) -> None:
    async def many() -> None:
        jobs = (read(EmbeddedAudio(bytes([n]) * 1000), limits(temp)) for n in range(1, 21))
        found = await asyncio.gather(*jobs)
        assert len({file for file, _ in found}) == 20
        assert [data[0] for _, data in found] == list(range(1, 21))

    run(many())
    assert lying_in(temp) == []


def test_embedded_audio_has_the_same_limits(temp: Path) -> None:
    assert "1000001 bytes" in refused(EmbeddedAudio(bytes(10**6 + 1)), limits(temp), SourceTooLarge)
    refused(EmbeddedAudio(b""), limits(temp), AudioEmpty)
    assert lying_in(temp) == []


def test_secrets_are_not_in_a_repr() -> None:
    shown = repr((UrlAudio("http://h/?sig=s3cret", (("K", "s3cret"),)), EmbeddedAudio(b"s3cret")))
    assert "s3cret" not in shown


# Paths on a volume


def test_a_file_on_the_volume_is_used_where_it_lies(temp: Path, volume: Path) -> None:
    path = volume / "ü ö.wav"
    path.write_bytes(BODY)
    file, data = run(read(PathAudio(str(path)), limits(temp, volume)))
    assert file == path
    assert data == BODY
    assert path.exists()
    assert lying_in(temp) == []


def test_a_link_within_the_roots_is_followed(temp: Path, volume: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "real.wav").write_bytes(BODY)
    (volume / "link.wav").symlink_to(other / "real.wav")
    file, _ = run(read(PathAudio(str(volume / "link.wav")), limits(temp, volume, other)))
    assert file == other / "real.wav"


def test_a_root_that_is_a_link_is_followed(temp: Path, volume: Path, tmp_path: Path) -> None:
    (volume / "a.wav").write_bytes(BODY)
    (tmp_path / "alias").symlink_to(volume)
    _, data = run(read(PathAudio(f"{tmp_path}/alias/a.wav"), limits(temp, tmp_path / "alias")))
    assert data == BODY


def test_what_lies_outside_is_refused_alike_whether_it_exists_or_not(
    temp: Path, volume: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.wav").write_bytes(BODY)
    (tmp_path / "volume-two").mkdir()
    (tmp_path / "volume-two" / "a.wav").write_bytes(BODY)
    (volume / "link.wav").symlink_to(tmp_path / "secret.wav")
    (volume / "dangling.wav").symlink_to(tmp_path / "missing.wav")
    (volume / "up").symlink_to(tmp_path)
    for name in (
        f"{volume}/link.wav",
        f"{volume}/dangling.wav",
        f"{volume}/../secret.wav",
        f"{volume}/../missing.wav",
        f"{volume}/up/secret.wav",
        f"{tmp_path}/secret.wav",
        f"{tmp_path}/missing.wav",
        f"{tmp_path}/volume-two/a.wav",
        "/etc/passwd",
        "/",
        "secret.wav",
        "",
        "~/a.wav",
        f"file://{volume}/a.wav",
    ):
        message = refused(PathAudio(name), limits(temp, volume), RequestError)
        assert message == f"audio_path: {name!r} is not below {volume}"


@pytest.mark.parametrize("name", ["{}/a\0.wav", "\0", "{}/\ud800.wav"])
def test_what_cannot_be_a_path_is_refused(temp: Path, volume: Path, name: str) -> None:
    message = refused(PathAudio(name.format(volume)), limits(temp, volume), RequestError)
    assert "is not a path" in message
    message.encode()


def test_a_path_longer_than_any_is_refused_unresolved(temp: Path, volume: Path) -> None:
    message = refused(PathAudio("/a" * 5_000_000), limits(temp, volume), RequestError)
    assert message == "audio_path: longer than 4096 characters: no path is"


@pytest.mark.parametrize("name", ["{}/missing.wav", "{}/a.wav/b.wav", "{}/" + "a" * 300, "{}/loop"])
def test_what_is_not_there_is_unreachable(temp: Path, volume: Path, name: str) -> None:
    (volume / "a.wav").write_bytes(BODY)
    (volume / "loop").symlink_to(volume / "loop")
    refused(PathAudio(name.format(volume)), limits(temp, volume), SourceUnreachable)


def test_what_is_not_a_file_is_refused(temp: Path, volume: Path) -> None:
    (volume / "folder").mkdir()
    os.mkfifo(volume / "pipe")
    for name in ("folder", "pipe", "", "."):
        message = refused(PathAudio(f"{volume}/{name}"), limits(temp, volume), RequestError)
        assert "not a regular file" in message
    refused(PathAudio("/dev/zero"), limits(temp, Path("/dev")), RequestError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_forbidden(temp: Path, volume: Path) -> None:
    path = volume / "a.wav"
    path.write_bytes(BODY)
    path.chmod(0)
    refused(PathAudio(str(path)), limits(temp, volume), SourceForbidden)


def test_a_file_on_the_volume_has_the_same_limits(temp: Path, volume: Path) -> None:
    (volume / "big.wav").write_bytes(bytes(10**6 + 1))
    (volume / "empty.wav").touch()
    refused(PathAudio(f"{volume}/big.wav"), limits(temp, volume), SourceTooLarge)
    refused(PathAudio(f"{volume}/empty.wav"), limits(temp, volume), AudioEmpty)
    assert (volume / "big.wav").exists()


def test_without_roots_no_path_is_read(temp: Path, volume: Path) -> None:
    (volume / "a.wav").write_bytes(BODY)
    refused(PathAudio(f"{volume}/a.wav"), limits(temp), RequestError)
