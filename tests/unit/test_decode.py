from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from faster_whisper.audio import decode_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.file_server import FileServer, whole
from tests.sound import broken_off, drained

from sotto.audio import decode as decoding
from sotto.audio import media
from sotto.audio.decode import BLOCK_SAMPLES, decode, length_s
from sotto.audio.media import FORMATS
from sotto.audio.pcm import RATE
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable

FORMAT_OF = {
    "clip.wav": ("wav", "pcm_s16le"),
    "clip.mp3": ("mp3", "libmp3lame"),
    "clip.opus": ("ogg", "libopus"),
    "clip.m4a": ("ipod", "aac"),
    "clip.flac": ("flac", "flac"),
    "clip.webm": ("webm", "libopus"),
    "clip.aiff": ("aiff", "pcm_s16be"),
    "clip.wma": ("asf", "wmav2"),
    "clip.ts": ("mpegts", "aac"),
}


def tone(seconds: float, rate: int, channels: int = 1, pitch_hz: float = 220) -> NDArray[np.int16]:
    """A rising tone with noise, interleaved int16 of shape (1, samples * channels)."""
    times = np.arange(round(seconds * rate)) / rate
    sound = 0.4 * np.sin(2 * np.pi * (pitch_hz + 40 * times) * times)
    sound += np.random.default_rng(7).normal(0, 0.02, times.size)
    return np.repeat((sound * 32767).astype(np.int16), channels).reshape(1, -1)


def record(
    path: Path,
    pcm: NDArray[np.int16],
    rate: int,
    channels: int = 1,
    video: bool = False,
    tracks: int = 1,
    kind: tuple[str, str] | None = None,
    silence: tuple[float, float] = (0, 0),
    **options: str,
) -> Path:
    """Encode interleaved `pcm` into `path`; the name picks the format and the codec.

    `silence`: from a second on, the timestamps are that many seconds later.
    """
    muxer, codec = kind or FORMAT_OF[path.name]
    layout = "stereo" if channels == 2 else "mono"
    with av.open(path, "w", format=muxer, container_options=options) as out:
        picture = out.add_stream("mpeg4", rate=10) if video else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        streams = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        for stream in streams:
            stream.bit_rate = 64_000
            stream.codec_context.open()  # from here on it knows its frame's size
        if picture:
            for _ in range(10):
                out.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
            out.mux(picture.encode(None))
        for number, stream in enumerate(streams):
            fifo = av.AudioFifo()
            resampler = av.AudioResampler(stream.format, layout, rate)
            frame = av.AudioFrame.from_ndarray(pcm // (number + 1), "s16", layout)
            frame.rate = rate
            for resampled in itertools.chain(resampler.resample(frame), resampler.resample(None)):
                fifo.write(resampled)
            for at, piece in enumerate(fifo.read_many(stream.frame_size or 1024, partial=True)):
                piece.pts = at * (stream.frame_size or 1024)
                if piece.pts >= silence[0] * rate:
                    piece.pts += round(silence[1] * rate)
                piece.time_base = Fraction(1, rate)
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
    return path


def blocks(path: Path, max_audio_s: float = 1e6) -> list[NDArray[np.float32]]:
    return list(decode(path, max_audio_s))


def sound(path: Path) -> NDArray[np.float32]:
    return np.concatenate(blocks(path))


def undecodable(path: Path) -> str:
    with pytest.raises(AudioUndecodable) as caught:
        blocks(path)
    return str(caught.value)


def wav(path: Path, pcm: bytes, rate: int = 16000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return path


# What is not sound


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 50_000,
        bytes(np.random.default_rng(1).integers(0, 256, 50_000, np.uint8)),
        b"this is not audio, it is a letter\n" * 300,
        b"RIFF",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\xff",
        b'{"error": "not found"}',
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 20,
        b"WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n",
        b"%PDF-1.7\n" + b"\x00" * 1000,
        b"PK\x03\x04" + b"\x00" * 1000,
    ],
)
def test_what_is_no_audio_is_undecodable(
    tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip"
    path.write_bytes(data)
    assert undecodable(path)
    assert capfd.readouterr() == ("", "")


def test_a_file_without_a_byte_is_empty(tmp_path: Path) -> None:
    (tmp_path / "clip").touch()
    with pytest.raises(AudioEmpty):
        blocks(tmp_path / "clip")


def test_a_track_without_a_sample_is_empty(tmp_path: Path) -> None:
    with pytest.raises(AudioEmpty):
        blocks(wav(tmp_path / "clip.wav", b""))


def test_a_film_without_sound_has_no_audio_track(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(stream.encode(None))
    assert "no audio track" in undecodable(path)


def test_an_encrypted_track_is_called_so(tmp_path: Path) -> None:
    path = record(
        tmp_path / "clip.m4a",
        tone(2, 44100),
        44100,
        kind=("mp4", "aac"),
        encryption_scheme="cenc-aes-ctr",
        encryption_key="76a6c65c5ea762046bd749a2e632ccbb",
        encryption_kid="a7e61c373e219033c21091fa607bf3b8",
    )
    assert "encrypted" in undecodable(path)


def test_an_unknown_codec_is_undecodable(tmp_path: Path) -> None:
    path = wav(tmp_path / "clip.wav", tone(1, 16000).tobytes())
    path.write_bytes(path.read_bytes().replace(b"fmt \x10\0\0\0\1\0", b"fmt \x10\0\0\0\x77\x77"))
    assert "codec" in undecodable(path)


@pytest.mark.parametrize("name", ["clip.wav", "clip.mp3", "clip.opus", "clip.m4a", "clip.flac"])
def test_a_header_cut_short_is_undecodable(tmp_path: Path, name: str) -> None:
    path = record(tmp_path / name, tone(1, 48000), 48000)
    path.write_bytes(path.read_bytes()[:24])
    assert undecodable(path)


@pytest.mark.parametrize("rate", [1, 999, 10_000_000])
def test_a_sample_rate_that_no_recorder_has_is_undecodable(tmp_path: Path, rate: int) -> None:
    assert f"{rate} Hz" in undecodable(wav(tmp_path / "clip.wav", bytes(40_000), rate))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(FORMAT_OF)), where=st.floats(0, 1), junk=st.binary(max_size=64))
def test_a_damaged_file_gives_sound_or_an_audio_error(
    corpus: dict[str, bytes], tmp_path: Path, name: str, where: float, junk: bytes
) -> None:
    data = corpus[name]
    at = int(where * len(data))
    path = tmp_path / "damaged"
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    try:
        samples = np.concatenate(blocks(path, 600))
    except AudioError:
        return
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("corpus")
    return {name: record(folder / name, tone(1, 48000), 48000).read_bytes() for name in FORMAT_OF}


# What refers to other files


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        server.answers["/clip.wav"] = server.answers["/clip.ts"] = [whole(b"RIFF")]
        yield server


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"
SDP = "o=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
PLAYLISTS = {
    "remote.m3u8": HLS + "{url}/clip.ts\n#EXT-X-ENDLIST\n",
    "local.m3u8": HLS + "{folder}/clip.ts\n#EXT-X-ENDLIST\n",
    "file.m3u8": HLS + "file://{folder}/clip.ts\n#EXT-X-ENDLIST\n",
    "remote.ffconcat": "ffconcat version 1.0\nfile {url}/clip.wav\n",
    "local.ffconcat": "ffconcat version 1.0\nfile clip.wav\n",
    "absolute.ffconcat": "ffconcat version 1.0\nfile {folder}/clip.wav\n",
    "subfile.ffconcat": "ffconcat version 1.0\nfile subfile,,start,0,end,0,,:{folder}/clip.wav\n",
    "spaced.m3u8": "\ufeff \n#EXTM3U\n{url}/clip.wav\n",
    "list.pls": "[playlist]\nFile1={url}/clip.wav\nNumberOfEntries=1\n",
    "list.asx": '<ASX version="3.0"><Entry><Ref href="{url}/clip.wav"/></Entry></ASX>',
    "talk.sdp": "v=0\n" + SDP,
    "odd.sdp": SDP,
    "manifest.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="audio/mp4">'
        '<Representation id="1" bandwidth="1000"><BaseURL>{url}/clip.wav</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ),
    "bare.mpd": (
        '<MPD type="static"><Period><AdaptationSet><Representation id="1"><BaseURL>{url}/clip.wav'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
}


@pytest.mark.parametrize("sniffed", [True, False])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_refused_and_nothing_it_names_is_opened(
    tmp_path: Path,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sniffed: bool,
) -> None:
    """Not even when its kind is not recognised: then the decoder's own allow-list refuses it."""
    record(tmp_path / "clip.wav", tone(1, 16000), 16000)
    record(tmp_path / "clip.ts", tone(1, 48000), 48000)
    if not sniffed:
        monkeypatch.setattr(media, "PLAYLISTS", {})
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(url=server.url(), folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    assert undecodable(path)
    assert server.requests == []


def test_with_every_demuxer_allowed_a_playlist_still_opens_nothing(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "clip.wav", tone(1, 16000), 16000)
    monkeypatch.setattr(media, "PLAYLISTS", {})
    monkeypatch.setattr(decoding, "FORMATS", ",".join(av.formats_available))
    monkeypatch.chdir(tmp_path)
    for name in ("remote.ffconcat", "local.ffconcat", "remote.m3u8", "local.m3u8"):
        path = tmp_path / name
        path.write_text(PLAYLISTS[name].format(url=server.url(), folder=tmp_path))
        assert undecodable(path)
    assert server.requests == []


def test_the_allowed_formats_exist_and_none_of_them_opens_other_files() -> None:
    names = FORMATS.split(",")
    assert len(set(names)) == len(names)
    for name in names:
        demuxer = av.ContainerFormat(name, "r")
        assert demuxer.is_input, name
        assert not demuxer.no_file, name
    assert not {"concat", "dash", "hls", "image2", "imf", "lavfi", "rtsp", "sdp", "vobsub"} & {
        *names
    }


def test_a_name_that_ends_like_a_playlist_means_nothing(tmp_path: Path) -> None:
    path = wav(tmp_path / "clip.m3u8", tone(1, 16000).tobytes())
    assert sound(path).size == 16000


# What claims to be more than it is


def test_minutes_in_a_small_file_is_stopped_at_the_limit(quarter: Path) -> None:
    assert quarter.stat().st_size < 250_000
    came: list[int] = []
    with pytest.raises(AudioTooLong, match="longer than 60 s"):
        came.extend(block.size for block in decode(quarter, 60))
    assert sum(came) <= 60 * RATE


def test_audio_as_long_as_the_limit_passes(tmp_path: Path) -> None:
    path = wav(tmp_path / "clip.wav", bytes(2 * 16000 * 10))
    assert sum(block.size for block in blocks(path, 10)) == 160_000
    with pytest.raises(AudioTooLong):
        blocks(path, 9.999)


def test_memory_does_not_grow_with_the_file(quarter: Path) -> None:
    tracemalloc.start()
    try:
        total = sum(block.size for block in decode(quarter, 1e6))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 900 * RATE
    assert peak_bytes < 8 * 1024**2


def test_a_wav_that_claims_gigabytes_gives_what_it_has(tmp_path: Path) -> None:
    path = wav(tmp_path / "clip.wav", tone(1, 16000).tobytes())
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert sound(path).size == 16000


def test_a_frame_of_millions_of_samples_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "clip.mka"
    with av.open(path, "w", format="matroska") as out:
        stream = out.add_stream("pcm_u8", rate=16000, layout="mono")
        out.start_encoding()
        packet = av.Packet(bytes(decoding.MAX_FRAME_SAMPLES + 1))
        packet.stream, packet.pts, packet.time_base = stream, 0, Fraction(1, 16000)
        out.mux(packet)
    assert undecodable(path).startswith("no packet can be decoded")


@pytest.mark.parametrize("samples", [1_000_000, 80_000_000, 2**32 - 1])
def test_an_index_of_gigabytes_is_not_allocated(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "bomb.mp4"
    path.write_bytes(index_bomb(samples))
    script = f"""
        import re
        from pathlib import Path
        from sotto.audio.decode import decode
        from sotto.errors import AudioError
        try:
            list(decode(Path({str(path)!r}), 1e6))
        except AudioError:
            # Unlike ru_maxrss, this does not begin with what the parent process holds.
            status = Path("/proc/self/status").read_text()
            print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "src"},
        timeout=60,
    )
    assert done.stderr == ""
    assert int(done.stdout) < 800


def index_bomb(samples: int) -> bytes:
    """An MP4 of a kilobyte whose sample table says that it has `samples` samples of one byte."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    def table(kind: bytes, *numbers: int) -> bytes:
        return box(kind, bytes(4), *(number.to_bytes(4, "big") for number in numbers))

    esds = bytes.fromhex("031900000004114015000000000000000000000005021210060102")
    entry = box(
        b"mp4a",
        bytes(6) + b"\0\1" + bytes(8) + b"\0\2\0\x10" + bytes(4) + (44100 << 16).to_bytes(4, "big"),
        box(b"esds", bytes(4), esds),
    )
    sample_table = box(
        b"stbl",
        box(b"stsd", bytes(4), b"\0\0\0\1", entry),
        table(b"stts", 1, samples, 1024),
        table(b"stsc", 1, 1, samples, 1),
        table(b"stsz", 1, samples),
        table(b"stco", 1, 100),
    )
    handler = box(b"hdlr", bytes(8), b"soun", bytes(13))
    times = table(b"mdhd", 0, 0, 44100, 2**31, 0)
    media = box(b"mdia", times, handler, box(b"minf", box(b"smhd", bytes(8)), sample_table))
    track = box(b"trak", box(b"tkhd", b"\0\0\0\7", bytes(80)), media)
    return (
        box(b"ftyp", b"isom\0\0\2\0isom")
        + box(b"moov", box(b"mvhd", bytes(100)), track)
        + box(b"mdat", bytes(1000))
    )


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of an hour of silence: 58 MB as float32."""
    path = tmp_path_factory.mktemp("quarter") / "clip.flac"
    return record(path, np.zeros((1, 900 * 8000), np.int16), 8000)


# What is sound


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        *((name, 48000, 2) for name in sorted(FORMAT_OF)),
        *((name, 44100, 1) for name in ("clip.wav", "clip.mp3", "clip.m4a", "clip.flac")),
        *((name, 16000, 1) for name in ("clip.wav", "clip.mp3", "clip.m4a", "clip.flac")),
        *((name, 8000, 1) for name in ("clip.wav", "clip.mp3", "clip.flac")),
    ],
)
def test_samples_equal_those_of_faster_whisper(
    tmp_path: Path, name: str, rate: int, channels: int
) -> None:
    path = record(tmp_path / name, tone(12, rate, channels), rate, channels)
    expected = decode_audio(str(path))
    got = blocks(path)
    assert expected.size > 11 * RATE
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in got)
    assert {block.size for block in got[:-1]} == {BLOCK_SAMPLES}
    assert 0 < got[-1].size <= BLOCK_SAMPLES
    np.testing.assert_array_equal(np.concatenate(got), expected)


def test_the_sound_is_the_one_that_was_recorded(tmp_path: Path) -> None:
    pcm = tone(2, 16000)
    got = sound(wav(tmp_path / "clip.wav", pcm.tobytes()))
    np.testing.assert_array_equal(got, pcm[0].astype(np.float32) / 32768)


def test_full_scale_stays_within_one(tmp_path: Path) -> None:
    pcm = np.tile(np.array([-32768, 32767], np.int16), 8000)
    got = sound(wav(tmp_path / "clip.wav", pcm.tobytes()))
    assert got.min() == -1
    assert 0.9999 < got.max() < 1


def test_a_kept_block_is_not_written_over(tmp_path: Path) -> None:
    path = wav(tmp_path / "clip.wav", tone(20, 16000).tobytes())
    stream = decode(path, 1e6)
    first = next(stream)
    copy = first.copy()
    list(stream)
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("kind", [("mp4", "aac"), ("matroska", "libopus"), ("avi", "libmp3lame")])
def test_the_sound_of_a_film_is_taken(tmp_path: Path, kind: tuple[str, str]) -> None:
    path = record(tmp_path / "film", tone(3, 48000, 2), 48000, 2, video=True, kind=kind)
    np.testing.assert_array_equal(sound(path), decode_audio(str(path)))


def test_the_first_of_several_tracks_is_taken(tmp_path: Path) -> None:
    path = record(tmp_path / "two.mka", tone(2, 48000), 48000, tracks=2, kind=("matroska", "flac"))
    np.testing.assert_array_equal(sound(path), decode_audio(str(path)))
    assert np.abs(sound(path)).max() > 0.35


@pytest.mark.parametrize("channels", [3, 4, 6, 8, 10, 16])
def test_many_channels_become_one(tmp_path: Path, channels: int) -> None:
    path = wav(tmp_path / "clip.wav", tone(1, 16000, channels).tobytes(), channels=channels)
    assert sound(path).size == 16000


def alone(path: Path, channels: int, heard: int) -> Path:
    """A tone in one of so many channels, and nothing in the others."""
    pcm = np.zeros((16000, channels), np.int16)
    pcm[:, heard] = tone(1, 16000)[0]
    return wav(path, pcm.tobytes(), channels=channels)


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_no_channel_is_left_out_where_the_file_does_not_say_what_it_is(
    tmp_path: Path, channels: int
) -> None:
    levels = [
        np.abs(sound(alone(tmp_path / f"{heard}.wav", channels, heard))).max()
        for heard in range(channels)
    ]
    np.testing.assert_allclose(levels, np.abs(tone(1, 16000)).max() / 32768 / channels, rtol=0.01)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
def test_each_channel_can_be_had_by_itself(tmp_path: Path, channels: int) -> None:
    path = alone(tmp_path / "clip.wav", channels, channels - 1)
    for channel in range(channels):
        got = np.concatenate(list(decode(path, 1e6, channel)))
        assert got.any() == (channel == channels - 1)
        assert got.size == 16000


FILMS = [
    ("matroska", "libopus"),
    ("matroska", "pcm_u8"),
    ("mp4", "aac"),
    ("mov", "libmp3lame"),
    ("mpegts", "aac"),
    ("mpeg", "mp2"),
]
OTHERS_WITH_CLOCKS = [("webm", "libopus"), ("flv", "libmp3lame"), ("ogg", "libopus")]


@pytest.mark.parametrize("kind", FILMS)
def test_sound_that_begins_after_the_picture_has_its_time(
    tmp_path: Path, kind: tuple[str, str]
) -> None:
    pcm = tone(3, 48000, 2)
    prompt = sound(record(tmp_path / "prompt", pcm, 48000, 2, video=True, kind=kind))
    late = sound(record(tmp_path / "late", pcm, 48000, 2, video=True, kind=kind, silence=(0, 1.5)))
    assert onset_s(late) - onset_s(prompt) == pytest.approx(1.5, abs=0.06)
    assert late.size - prompt.size == pytest.approx(1.5 * RATE, abs=0.06 * RATE)
    assert not late[:RATE].any()


@pytest.mark.parametrize("kind", [*FILMS, *OTHERS_WITH_CLOCKS])
def test_a_hole_in_the_timestamps_is_silence(tmp_path: Path, kind: tuple[str, str]) -> None:
    pcm = tone(4, 44100 if kind[0] == "flv" else 48000, 2)
    rate = pcm.size // 8
    whole = sound(record(tmp_path / "whole", pcm, rate, 2, kind=kind))
    holed = sound(record(tmp_path / "holed", pcm, rate, 2, kind=kind, silence=(2, 3)))
    assert holed.size - whole.size == pytest.approx(3 * RATE, abs=0.06 * RATE)
    assert np.abs(holed[round(2.2 * RATE) : round(4.8 * RATE)]).max() < 0.001
    assert np.abs(holed[RATE : round(1.9 * RATE)]).max() > 0.3
    assert np.abs(holed[round(5.2 * RATE) :]).max() > 0.3


def onset_s(pcm: NDArray[np.float32]) -> float:
    return int(np.argmax(np.abs(pcm) > 0.05)) / RATE


def test_a_long_hole_is_silence_where_the_file_may_be_so_long(tmp_path: Path) -> None:
    path = record(
        tmp_path / "film", tone(4, 48000), 48000, kind=("matroska", "libopus"), silence=(2, 60)
    )
    assert sound(path).size == pytest.approx(64 * RATE, abs=0.1 * RATE)
    within = np.concatenate(blocks(path, 30))
    assert within.size == pytest.approx(4 * RATE, abs=0.1 * RATE)


def test_a_channel_by_itself_has_the_holes_of_all(tmp_path: Path) -> None:
    kind = ("matroska", "libopus")
    path = record(tmp_path / "film", tone(4, 48000, 2), 48000, 2, kind=kind, silence=(2, 3))
    right = np.concatenate(list(decode(path, 60, channel=1)))
    assert right.size == sound(path).size
    assert not right[round(2.2 * RATE) : round(4.8 * RATE)].any()


def test_a_clock_that_was_set_is_not_believed(tmp_path: Path) -> None:
    path = record(tmp_path / "clip.ts", tone(4, 48000), 48000, silence=(2, 3600))
    assert sound(path).size == pytest.approx(4 * RATE, abs=0.1 * RATE)


@pytest.mark.parametrize("codec", ["eac3", "g722"])
def test_a_format_without_timestamps_of_its_own_has_no_holes(tmp_path: Path, codec: str) -> None:
    """ffmpeg counts the time of these at a wrong rate."""
    path = record(tmp_path / "film", tone(4, 48000), 48000, kind=("avi", codec))
    np.testing.assert_array_equal(sound(path), decode_audio(str(path)))


def test_a_change_of_rate_and_channels_midway_is_followed(tmp_path: Path) -> None:
    one = record(tmp_path / "1", tone(2, 44100), 44100, kind=("adts", "aac"))
    two = record(tmp_path / "2", tone(2, 22050, 2), 22050, 2, kind=("adts", "aac"))
    chained = tmp_path / "chained"
    chained.write_bytes(one.read_bytes() + two.read_bytes())
    got = sound(chained)
    assert abs(got.size - sound(one).size - sound(two).size) < RATE / 10
    np.testing.assert_array_equal(got[: 2 * RATE], sound(one)[: 2 * RATE])
    assert np.abs(got[-RATE:]).max() > 0.3


def test_what_came_before_is_kept_where_a_file_cannot_be_read_on(tmp_path: Path) -> None:
    one = record(tmp_path / "clip.opus", tone(5, 48000), 48000)
    before = sound(one)
    one.write_bytes(broken_off(one.read_bytes()))
    got, reason = drained(decode(one, 1e6))
    np.testing.assert_array_equal(np.concatenate(got), before)
    assert reason == "Not yet implemented in FFmpeg, patches welcome"


def test_a_damaged_middle_costs_no_more_than_itself(tmp_path: Path) -> None:
    path = record(tmp_path / "clip.m4a", tone(20, 44100), 44100)
    clean = sound(path)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (data.index(b"moov") - data.index(b"mdat")) // 2
    data[middle : middle + 2000] = bytes(np.random.default_rng(3).integers(0, 256, 2000, np.uint8))
    path.write_bytes(data)
    got = sound(path)
    assert got.size == pytest.approx(clean.size, abs=0.15 * RATE)
    np.testing.assert_array_equal(got[: 9 * RATE], clean[: 9 * RATE])
    assert np.abs(got[-2 * RATE : -RATE]).max() > 0.3


@pytest.mark.parametrize("name", ["clip.wav", "clip.mp3", "clip.opus", "clip.flac", "clip.ts"])
def test_a_file_cut_short_gives_what_is_there(tmp_path: Path, name: str) -> None:
    path = record(tmp_path / name, tone(10, 48000), 48000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    np.testing.assert_array_equal(sound(path), decode_audio(str(path)))
    assert 4 * RATE < sound(path).size < 6 * RATE


@pytest.mark.parametrize("name", ["clip.wav", "clip.webm"])
def test_an_abandoned_file_is_closed(tmp_path: Path, name: str) -> None:
    path = record(tmp_path / name, tone(20, 16000), 16000)
    stream = decode(path, 1e6)
    next(stream)
    assert path in open_files()
    stream.close()
    assert path not in open_files()


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"#EXTM3U\n")
    assert undecodable(path)
    assert path not in open_files()


def open_files() -> set[Path]:
    links = Path("/proc/self/fd").iterdir()
    return {link.readlink() for link in links if link.is_symlink()}


@pytest.mark.parametrize("name", ["clip.wav", "clip.mp3", "clip.opus", "clip.m4a", "clip.flac"])
def test_the_length_that_a_file_claims(tmp_path: Path, name: str) -> None:
    assert length_s(record(tmp_path / name, tone(3, 48000), 48000)) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("data", [b"", b"#EXTM3U\n", b"no audio" * 1000])
def test_what_is_no_audio_claims_no_length(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip"
    path.write_bytes(data)
    assert length_s(path) is None


def speakers(path: Path, mask: int, pcm: NDArray[np.int16]) -> Path:
    """A wav file that says where the speaker of each channel stands."""
    channels = mask.bit_count()
    rate, width = 16_000, 2 * channels
    kind = struct.pack("<HHIIHHHHI", 0xFFFE, channels, rate, rate * width, width, 16, 22, 16, mask)
    kind += bytes.fromhex("0100000000001000800000aa00389b71")
    sound = np.repeat(pcm.reshape(-1, 1), channels, axis=1).tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(kind)) + kind
    body += b"data" + struct.pack("<I", len(sound)) + sound
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize("mask", [0x5, 0x6, 0x30, 0xC0, 0x600, 0x1F, 0x7F, 0x3FF, 0x1003, 0x5000])
def test_channels_whose_speakers_ffmpeg_does_not_mix_are_mixed_alike(
    tmp_path: Path, mask: int
) -> None:
    pcm = tone(1.0, 16_000)
    [heard] = blocks(speakers(tmp_path / "odd.wav", mask, pcm))
    assert heard.size == pcm.size
    assert np.abs(heard - pcm.ravel() / 32768).max() < 1e-4


@pytest.mark.parametrize("kind", [("caf", "pcm_s16le"), ("w64", "pcm_s16le")])
def test_what_stands_behind_the_last_chunk_is_its_end(
    tmp_path: Path, kind: tuple[str, str]
) -> None:
    path = record(tmp_path / "tagged", tone(1.0, 16_000), 16_000, kind=kind)
    sound = np.concatenate(blocks(path))
    path.write_bytes(path.read_bytes() + b"TAG" + b"\xff" * 125)
    assert np.array_equal(np.concatenate(blocks(path)), sound)


def test_what_was_decoded_is_kept_where_the_streams_of_a_file_change(tmp_path: Path) -> None:
    kind = ("mpegts", "aac")
    first = record(tmp_path / "first", tone(2.0, 48_000), 48_000, kind=kind)
    other = {"mpegts_pmt_start_pid": "300", "mpegts_start_pid": "400"}
    second = record(tmp_path / "second", tone(2.0, 48_000), 48_000, kind=kind, **other)
    alone = sum(map(len, blocks(first)))
    both = tmp_path / "both"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert sum(map(len, drained(decode(both, 60))[0])) >= alone
