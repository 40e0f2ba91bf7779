"""A media file in, 16 kHz mono PCM out, block by block; the only importer of av.

Invariant: decoding reads the one file it was given and no other, whatever that file says, and
holds a few blocks of it in memory, whatever its length.
"""

from __future__ import annotations

import ctypes
import errno
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from numpy.typing import NDArray

from sotto.audio.media import FORMATS, SET_CLOCKS, STEADY_CLOCKS, playlist
from sotto.audio.pcm import RATE, Pcm, PcmBlocks
from sotto.audio.timeline import Stamped, Timeline
from sotto.errors import AudioEmpty, AudioError, AudioTooLong, AudioUndecodable

BLOCK_SAMPLES = 512 * 256

# Recordings lie between these; outside them the resampler's buffers or filters grow without bound.
MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 6_000_000

# Samples of all channels in one frame. A packet of two kilobytes can claim sixteen million; of the
# codecs that people use, Monkey's Audio has the longest frames, with two million.
MAX_FRAME_SAMPLES = 4 * 1024**2

READ_BYTES = 256 * 1024

# Lengths of frames are added up as floats: half a sample too much is none.
ROUNDING_S = 0.5 / RATE

# The resampler's cost is per call: joining frames halves the time of decoding.
JOINED_SAMPLES = 64 * 1024

# A file of a kilobyte can claim an index of gigabytes. The index of a day of audio is a third of
# this, which is the most that ffmpeg may allocate at once, in the whole process.
MAX_ALLOCATION_BYTES = 256 * 1024**2
ctypes.CDLL(av.logging.__file__).av_max_alloc(ctypes.c_size_t(MAX_ALLOCATION_BYTES))

# What a demuxer says of a file that it cannot read on: broken, of a kind that it does not know, or
# with another codec from here on. An error of the disk is none of these.
UNREADABLE = (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.ArgumentError)


def decode(path: Path, max_audio_s: float, channel: int | None = None) -> PcmBlocks:
    """Yield the sound of the file as float32 blocks in [-1, 1], mono, 16 kHz.

    All channels are mixed, unless one is named by its number, from 0.

    Every block has BLOCK_SAMPLES samples, the last one maybe fewer. Packets that cannot be decoded
    are left out. Where the file's clock says that sound is missing, there is silence. Where the
    file cannot be read on, its sound ends, and the generator returns why. The file is closed when
    the iterator ends or is closed. Errors are raised while iterating:

    AudioUndecodable if it is not sound that can be decoded, AudioEmpty if no sample comes out,
    AudioTooLong as soon as more than `max_audio_s` seconds have come out.
    """
    empty = True
    ends: list[str] = []
    with _nameless(path) as raw, _translated(), _opened(raw) as container:
        frames = _frames(container, _audio_track(container), ends)
        if (timeline := _timeline(container, max_audio_s)) is not None:
            frames = _in_time(frames, timeline)
        for block in _blocks(_resampled(_bounded(frames, max_audio_s), channel)):
            empty = False
            yield block
    if empty:
        raise AudioEmpty("the audio track has no sample")
    return next(iter(ends), None)


def count_channels(path: Path) -> int:
    """Channels of the audio track. Raises what `decode` raises before its first block."""
    with _nameless(path) as raw, _translated(), _opened(raw) as container:
        return int(_audio_track(container).codec_context.channels)


def length_s(path: Path) -> float | None:
    """The seconds that the file claims to last, for a progress bar; None if it claims nothing."""
    with suppress(AudioError), _nameless(path) as raw, _translated(), _opened(raw) as container:
        return container.duration / av.time_base if container.duration else None
    return None


def _nameless(path: Path) -> BinaryIO:
    """Open by number: no demuxer can take a hint, or a neighbour's path, from the file's name."""
    return _File(os.open(path, os.O_RDONLY))


class _File(io.FileIO):
    """A file whose end is whatever lies beyond what can be sought.

    What stands behind the last chunk may read as the length of one more; PyAV would make an error
    of ours of the failed seek, where ffmpeg takes it for the end.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See FileIO. Raises OSError for what is no matter of the place."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return super().seek(0, os.SEEK_END)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        raise AudioUndecodable(f"the decoder says: {error.strerror}") from error


def _opened(raw: BinaryIO) -> InputContainer:
    head = raw.read(4096)
    if not head:
        raise AudioEmpty("the file is empty")
    if (kind := playlist(head)) is not None:
        raise AudioUndecodable(f"the file is {kind}; send the audio itself")
    raw.seek(0)
    try:
        container: InputContainer = av.open(
            raw,
            mode="r",
            metadata_errors="ignore",
            buffer_size=READ_BYTES,
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "none"},
        )
    except av.error.ArgumentError as error:
        raise AudioUndecodable("the file is not in a format for sound or film") from error
    return container


def _audio_track(container: InputContainer) -> AudioStream:
    """The first audio track that can be decoded; all else in the file is skipped unread."""
    tracks = container.streams.audio
    if not tracks:
        raise AudioUndecodable("the file has no audio track")
    chosen = next((track for track in tracks if track.codec_context is not None), None)
    if chosen is None:
        raise AudioUndecodable("the codec of the audio track is not known")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    chosen.codec_context.thread_count = 1  # ffmpeg would start one a core, for every file
    chosen.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
    return chosen


def _frames(container: InputContainer, track: AudioStream, ends: list[str]) -> Iterator[AudioFrame]:
    """Decode packet by packet; a broken packet costs its own sound and no more.

    `ends` gets the reason if the file cannot be read to its end: what follows is lost, but not what
    came before. Recordings of a web radio, laid end to end, are such files.
    """
    codec = track.codec_context
    decoded = False
    broken: av.error.FFmpegError | None = None
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except UNREADABLE as error:
            broken, packet = error, None
            ends.append(f"{error.strerror}")
        except IndexError:  # PyAV, at the end of a file in which a stream has come up midway
            packet = None
            ends.append("its streams change, and sound that went on in a new one is not read")
        if packet is None:
            break
        if _is_encrypted(packet):
            raise AudioUndecodable("the audio track is encrypted")
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError as error:
            broken = error
            continue
        decoded = decoded or bool(frames)
        yield from frames
    if broken and not decoded:
        raise AudioUndecodable(f"no packet can be decoded: {broken.strerror}") from broken


def _is_encrypted(packet: Packet[Any]) -> bool:
    # To look for a kind of side data by its name takes six times as long as to see that there is
    # none, which there seldom is.
    return any(packet.iter_sidedata()) and packet.has_sidedata("encryption_info")


def _timeline(container: InputContainer, max_audio_s: float) -> Timeline | None:
    """The file's own clock, if it has one; one that claims more than may be is not believed."""
    name = container.format.name
    if name not in STEADY_CLOCKS | SET_CLOCKS:
        return None
    start_s = None if container.start_time is None else container.start_time / av.time_base
    claimed_s = (container.duration or 0) / av.time_base if name in STEADY_CLOCKS else 0.0
    return Timeline(start_s, min(claimed_s, max_audio_s))


def _in_time(frames: Iterable[AudioFrame], timeline: Timeline) -> Iterator[AudioFrame]:
    """Let frames pass, with silence where by the file's clock sound is missing."""
    stamped = ((Stamped(frame.time, _length_s(frame)), frame) for frame in frames)
    for silence_s, frame in timeline.placed(stamped):
        yield from _silence(silence_s)
        yield frame


def _silence(seconds: float) -> Iterator[AudioFrame]:
    """Silent frames of so many seconds together."""
    left = round(seconds * RATE)
    while left:
        # Not of the kind of those around it: of eight planes, PyAV would reach for a ninth.
        silent = AudioFrame("s16", "mono", min(left, JOINED_SAMPLES))
        silent.planes[0].update(bytes(silent.planes[0].buffer_size))
        silent.sample_rate, silent.time_base = RATE, Fraction(1, RATE)
        left -= silent.samples
        yield silent


def _length_s(frame: AudioFrame) -> float:
    """Seconds of a frame. Raises AudioUndecodable if its rate is none of audio."""
    if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
        raise AudioUndecodable(f"a sample rate of {frame.sample_rate} Hz is not audio")
    return frame.samples / frame.sample_rate


def _bounded(frames: Iterable[AudioFrame], max_audio_s: float) -> Iterator[AudioFrame]:
    """Let frames pass until they are too long together."""
    came_s = 0.0
    for frame in frames:
        came_s += _length_s(frame)
        if came_s > max_audio_s + ROUNDING_S:
            raise AudioTooLong(f"the audio is longer than {max_audio_s:g} s")
        yield frame


def _resampled(frames: Iterable[AudioFrame], channel: int | None) -> Iterator[NDArray[np.int16]]:
    """Turn frames into mono 16 kHz; where rate or channels change, a new resampler begins.

    Where the audio goes on with fewer channels, the last one stands for those that are gone.
    """
    for alike in _alike(frames):
        mixes = channel is None and _has_places(alike.layout)
        layout = "mono" if mixes else None
        # Packed: of eight channels in planes of their own, PyAV would read a ninth.
        resampler = AudioResampler(format="s16", layout=layout, rate=RATE)
        for joined in itertools.chain(alike, [None]):
            try:
                some = resampler.resample(joined)
            except av.error.ArgumentError:  # speakers on one side alone, or none in front
                resampler = AudioResampler(format="s16", layout=None, rate=RATE)
                some = resampler.resample(joined)
            for resampled in some:
                packed = np.asarray(resampled.to_ndarray(), np.int16)
                samples = packed.reshape(-1, resampled.layout.nb_channels)
                if channel is None and samples.shape[1] > 1:
                    yield samples.mean(axis=1, dtype=np.float32).astype(np.int16)
                else:
                    yield samples[:, min(channel or 0, samples.shape[1] - 1)]


def _has_places(layout: AudioLayout) -> bool:
    """Does the file say where each channel's speaker stands, or are there no more than two?

    Where it does not, as with a microphone for each person, ffmpeg guesses, and leaves out what it
    takes for the bass.
    """
    return layout.nb_channels <= 2 or any(channel.name != "NONE" for channel in layout.channels)


def _alike(frames: Iterable[AudioFrame]) -> Iterator[_Group]:
    """Groups of frames, joined; within a group, rate, channels and format are the same."""
    left = iter(frames)
    first = next(left, None)
    while first is not None:
        group = _Group(first, left)
        yield group
        first = group.other


class _Group:
    """Frames joined to JOINED_SAMPLES, until one comes that is unlike the first: `other`."""

    def __init__(self, first: AudioFrame, left: Iterator[AudioFrame]) -> None:
        self.other: AudioFrame | None = None
        self.layout = first.layout
        self._frames = itertools.chain([first], left)

    def __iter__(self) -> Iterator[AudioFrame]:
        fifo = AudioFifo()
        for frame in self._frames:
            if not self._written(frame, fifo):
                self.other = frame
                break
            if fifo.samples >= JOINED_SAMPLES and (joined := fifo.read()):
                yield joined
        if rest := fifo.read():
            yield rest

    def _written(self, frame: AudioFrame, fifo: AudioFifo) -> bool:
        """The fifo refuses another rate, format or time base, but trusts that channels agree."""
        if frame.layout != self.layout:
            return False
        frame.pts = None  # a jump in the timestamps is no sound, and the fifo would refuse it
        try:
            fifo.write(frame)
        except ValueError:
            return False
        return True


def _blocks(pieces: Iterable[NDArray[np.int16]]) -> Iterator[Pcm]:
    """Pack pieces of any length into blocks of BLOCK_SAMPLES, scaled to [-1, 1]."""
    block, filled = np.empty(BLOCK_SAMPLES, np.float32), 0
    for piece in pieces:
        while piece.size:
            taken = min(piece.size, BLOCK_SAMPLES - filled)
            np.multiply(piece[:taken], np.float32(1 / 32768), out=block[filled : filled + taken])
            piece, filled = piece[taken:], filled + taken
            if filled == BLOCK_SAMPLES:
                yield block
                block, filled = np.empty(BLOCK_SAMPLES, np.float32), 0
    if filled:
        yield block[:filled]
