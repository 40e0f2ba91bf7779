"""Windows: full, in file order, nothing twice, and no memory that grows with the file."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotto.audio.pcm import RATE, Pcm, Span
from sotto.audio.silero import FRAME
from sotto.audio.vad import Heard, listen, vad_options
from sotto.audio.windows import (
    NEARLY_FULL,
    SHORTEST_TILE,
    WINDOW,
    Stretch,
    Window,
    cut,
    cut_stepwise,
    narrowed,
    voices_in,
)

BLOCK = 512 * 256
OPTIONS = vad_options(
    threshold=0.5,
    neg_threshold=None,
    min_speech_duration_ms=0,
    max_speech_duration_s=30.0,
    min_silence_duration_ms=160,
    speech_pad_ms=200,
)


def ramp(samples: int) -> Pcm:
    """Audio in which every sample is another number, so that none can be taken for another."""
    return np.arange(samples, dtype=np.float32)


def talk(turns_s: list[tuple[float, float]]) -> tuple[Pcm, Pcm]:
    """Audio and its speech probabilities, from (seconds of voice, seconds of pause) in turn."""
    scored = np.concatenate(
        [
            np.repeat(np.array([1, 0], np.float32), [int(voice_s * 31.25), int(pause_s * 31.25)])
            for voice_s, pause_s in turns_s
        ]
        or [np.zeros(0, np.float32)]
    )
    return ramp(len(scored) * FRAME), np.append(scored, np.float32(0))


def hear(audio: Pcm, scored: Pcm, block: int = BLOCK) -> Iterator[Heard]:
    left = iter(scored)
    return listen(
        (audio[at : at + block] for at in range(0, len(audio), block)),
        OPTIONS,
        lambda pcm: np.array([next(left) for _ in range(len(pcm) // FRAME)], np.float32),
    )


def check_is_cut_from(windows: list[Window], audio: Pcm) -> None:
    """What holds for windows of both kinds."""
    at = 0
    for index, window in enumerate(windows):
        assert window.index == index
        assert 0 < len(window.pcm) <= WINDOW
        assert window.pcm.dtype == np.float32
        assert np.array_equal(window.pcm, np.concatenate([audio[slice(*p)] for p in window.pieces]))
        for piece in window.pieces:
            assert at <= piece.start < piece.end <= len(audio)
            at = piece.end
        for voice in window.voices:
            assert any(p.start <= voice.start < voice.end <= p.end for p in window.pieces)
        assert list(window.voices) == sorted(window.voices)


turns = st.lists(
    st.tuples(
        st.sampled_from([0.1, 0.5, 2.0, 4.0, 9.0, 14.7, 25.0, 29.0, 45.0]),
        st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 12.0, 33.0]),
    ),
    max_size=8,
)
blocks = st.sampled_from([FRAME * 31, BLOCK, FRAME * 5000])
unhurried = settings(deadline=None, max_examples=40)


@unhurried
@given(turns, blocks)
def test_packed_windows_hold_each_speech_once_whole_and_in_order(turns_s, block: int):
    audio, scored = talk(turns_s)
    speeches = [speech for heard in hear(audio, scored) for speech in heard.speeches]
    windows = list(cut(hear(audio, scored, block)))
    check_is_cut_from(windows, audio)
    assert [p for window in windows for p in window.pieces] == [s.padded for s in speeches]
    assert [v for window in windows for v in window.voices] == [s.voice for s in speeches]


@unhurried
@given(turns, blocks)
def test_a_packed_window_is_nearly_full_or_the_next_speech_would_not_fit(turns_s, block: int):
    audio, scored = talk(turns_s)
    windows = list(cut(hear(audio, scored, block)))
    for window, following in itertools.pairwise(windows):
        first = following.pieces[0]
        full = len(window.pcm) + first.end - first.start > WINDOW
        assert full or len(window.pcm) >= NEARLY_FULL


def test_a_window_ends_at_the_longest_of_the_pauses_that_leave_it_nearly_full():
    audio, scored = talk([(8.7, 0.3), (8.7, 0.3), (8.7, 0.8), (2, 0.3), (8, 0.3)])
    first, _ = cut(hear(audio, scored))
    assert len(first.voices) == 3


def test_what_is_left_behind_a_long_pause_is_cut_again_if_it_does_not_fit():
    audio, scored = talk([(26.2, 0.9), (3, 0.3), (29, 2), (1, 5)])
    windows = list(cut(hear(audio, scored)))
    check_is_cut_from(windows, audio)
    assert sum(len(window.voices) for window in windows) == 4


@unhurried
@given(turns, blocks, st.integers(0, FRAME - 1))
def test_tiles_cover_every_sample_once_and_all_voices(turns_s, block: int, rest: int):
    audio, scored = talk(turns_s)
    audio = ramp(len(audio) + rest)
    voices = [speech.voice for heard in hear(audio, scored) for speech in heard.speeches]
    tiles = list(cut(hear(audio, scored, block), keep_silence=True))
    check_is_cut_from(tiles, audio)
    covered = [sample for tile in tiles for piece in tile.pieces for sample in piece]
    edges = covered[::2] + covered[-1:]
    assert covered == [edge for pair in itertools.pairwise(edges) for edge in pair]
    assert (edges[0], edges[-1]) == (0, len(audio)) if len(audio) else not edges
    assert all(len(tile.pcm) >= SHORTEST_TILE for tile in tiles[:-1])
    heard = np.zeros(len(audio), bool)
    for voice in (voice for tile in tiles for voice in tile.voices):
        assert not heard[slice(*voice)].any()
        heard[slice(*voice)] = True
    assert heard.sum() == sum(voice.end - voice.start for voice in voices)
    assert all(heard[slice(*voice)].all() for voice in voices)


def test_no_audio_gives_no_window():
    assert not list(cut(hear(*talk([]))))
    assert not list(cut(hear(*talk([])), keep_silence=True))


def test_audio_without_speech_gives_no_window_unless_silence_is_kept():
    audio, scored = talk([(0, 100)])
    assert not list(cut(hear(audio, scored)))
    tiles = list(cut(hear(audio, scored), keep_silence=True))
    assert sum(len(tile.pcm) for tile in tiles) == len(audio)
    assert not any(tile.voices for tile in tiles)


def test_one_sample_is_one_tile():
    (tile,) = cut(hear(ramp(1), np.zeros(1, np.float32)), keep_silence=True)
    assert tile.pieces == (Span(0, 1),)
    assert tile.pcm.tolist() == [0.0]


def test_audio_of_exactly_a_window_is_one_tile():
    (tile,) = cut(hear(ramp(WINDOW), np.zeros(2000, np.float32)), keep_silence=True)
    assert tile.pieces == (Span(0, WINDOW),)


def test_a_voice_that_never_pauses_is_cut_into_windows_that_fit():
    audio, scored = talk([(100, 0)])
    windows = list(cut(hear(audio, scored)))
    check_is_cut_from(windows, audio)
    assert len(windows) == 4
    spoken = [voice for window in windows for voice in window.voices]
    assert sum(voice.end - voice.start for voice in spoken) > 0.99 * len(audio)


def test_a_tile_is_cut_at_its_quietest_moment_after_twenty_seconds():
    audio = np.full(70 * RATE, 0.5, np.float32)
    audio[10 * RATE : 11 * RATE] = 0
    audio[25 * RATE : 26 * RATE] = 0.01
    first, *_ = cut(hear(audio, np.zeros(3000, np.float32)), keep_silence=True)
    assert 25 * RATE <= first.pieces[0].end <= 26 * RATE


def test_tiles_of_digital_silence_are_nearly_full():
    audio = np.zeros(100 * RATE, np.float32)
    tiles = list(cut(hear(audio, np.zeros(4000, np.float32)), keep_silence=True))
    assert len(tiles) == 4


def test_a_window_is_given_out_while_the_audio_still_comes():
    audio, scored = talk([(9, 1)] * 60)
    taken = 0

    def counted() -> Iterator[Heard]:
        nonlocal taken
        for heard in hear(audio, scored):
            taken += len(heard.pcm)
            yield heard

    next(cut(counted()))
    assert taken <= 60 * RATE


def test_a_window_says_where_it_starts_and_how_long_it_is():
    audio, scored = talk([(0, 10), (5, 5), (5, 5)])
    (window,) = cut(hear(audio, scored))
    assert window.start_s == pytest.approx(9.8, abs=0.05)
    assert window.duration_s == pytest.approx(10.8, abs=0.1)


@pytest.mark.parametrize("keep_silence", [False, True])
@pytest.mark.parametrize(
    "turn",
    [(9.0, 1.0), (0.0, 30.0), (3600.0, 0.0), (0.4, 0.1)],
    ids=["talk", "silence", "no pause", "staccato"],
)
def test_an_hour_of_audio_is_never_held_at_once(turn: tuple[float, float], keep_silence: bool):
    """Counts the samples of the blocks that are still referenced whenever a window comes."""
    period = np.repeat(np.array([1, 0], np.float32), [int(part * 31.25) for part in turn])
    scored = itertools.cycle(period.tolist())
    alive: dict[int, int] = {}

    def stream() -> Iterator[Pcm]:
        for number in range(3600 * RATE // BLOCK):
            block = np.full(BLOCK, 0.1, np.float32)
            alive[number] = BLOCK
            weakref.finalize(block, alive.pop, number)
            yield block

    def score(pcm: Pcm) -> Pcm:
        return np.array([next(scored) for _ in range(len(pcm) // FRAME)], np.float32)

    most = count = 0
    for _ in cut(listen(stream(), OPTIONS, score), keep_silence=keep_silence):
        most = max(most, sum(alive.values()))
        count += 1
    assert most <= 120 * RATE
    assert count >= 100 or (turn[0] == 0 and not keep_silence)


@pytest.mark.parametrize("keep_silence", [False, True], ids=["speech", "everything"])
def test_stepwise_there_is_a_stop_after_every_block(keep_silence: bool):
    audio, scored = talk([(0, 0.5), (90, 100), (100.3, 140)])
    heard = list(hear(audio, scored))
    steps = list(cut_stepwise(heard, keep_silence=keep_silence))
    assert steps.count(None) == len(heard)
    whole = [window.pieces for window in cut(heard, keep_silence=keep_silence)]
    assert [step.pieces for step in steps if step is not None] == whole
    assert len(whole) > 1


# Only some of the file.


@pytest.mark.parametrize("keep_silence", [False, True], ids=["speech", "everything"])
def test_what_comes_after_the_last_clip_is_not_held(keep_silence: bool):
    alive: set[int] = set()
    most = 0

    def stream() -> Iterator[Pcm]:
        nonlocal most
        for number in range(600 * RATE // BLOCK):
            block = np.full(BLOCK, 0.1, np.float32)
            alive.add(number)
            weakref.finalize(block, alive.discard, number)
            yield block
            most = max(most, len(alive))

    def score(pcm: Pcm) -> Pcm:
        return np.resize(np.array([1.0] * 40 + [0.0] * 30, np.float32), len(pcm) // FRAME)

    clips = [Span(0, 5 * RATE), Span(20 * RATE, 30 * RATE)]
    windows = list(cut(listen(stream(), OPTIONS, score), keep_silence=keep_silence, clips=clips))
    assert max(piece.end for window in windows for piece in window.pieces) <= 30 * RATE
    assert most * BLOCK <= 90 * RATE


@pytest.mark.parametrize("keep_silence", [False, True], ids=["speech", "everything"])
def test_a_clip_without_a_sample_is_nothing(keep_silence: bool):
    audio, scored = talk([(5.0, 1.0)])
    clips = [Span(RATE, RATE)]
    assert list(cut(hear(audio, scored), keep_silence=keep_silence, clips=clips)) == []


@st.composite
def stretches(draw: st.DrawFn) -> list[Span]:
    """Up to three stretches in order, which may reach beyond the end of the file."""
    edges = sorted(draw(st.sets(st.integers(0, 4_000_000), min_size=2, max_size=6)))
    return [Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=False)]


def inside(spans: list[Span], clips: list[Span]) -> int:
    """Samples of the spans that lie in the clips."""
    return sum(
        max(0, min(span.end, clip.end) - max(span.start, clip.start))
        for span in spans
        for clip in clips
    )


@unhurried
@given(turns, blocks, stretches())
def test_of_clips_all_speech_is_packed_and_nothing_else(turns_s, block: int, clips):
    audio, scored = talk(turns_s)
    voices = [speech.voice for heard in hear(audio, scored) for speech in heard.speeches]
    windows = list(cut(hear(audio, scored, block), clips=clips))
    check_is_cut_from(windows, audio)
    pieces = [piece for window in windows for piece in window.pieces]
    assert all(any(c.start <= p.start and p.end <= c.end for c in clips) for p in pieces)
    packed = [voice for window in windows for voice in window.voices]
    assert inside(packed, clips) == inside(voices, clips)


@unhurried
@given(turns, blocks, stretches())
def test_of_clips_every_sample_is_in_one_tile_and_no_other_is(turns_s, block: int, clips):
    audio, scored = talk(turns_s)
    tiles = list(cut(hear(audio, scored, block), keep_silence=True, clips=clips))
    check_is_cut_from(tiles, audio)
    pieces = [piece for tile in tiles for piece in tile.pieces]
    assert all(any(c.start <= p.start and p.end <= c.end for c in clips) for p in pieces)
    assert sum(map(len, (tile.pcm for tile in tiles))) == inside([Span(0, len(audio))], clips)


# Parts of a window.


def glued(pieces: list[tuple[int, int]], voices: list[tuple[int, int]]) -> Window:
    """A window cut from a ramp; all numbers are samples of the file."""
    spans = tuple(Span(*piece) for piece in pieces)
    pcm = np.concatenate([np.arange(*piece, dtype=np.float32) for piece in pieces])
    return Window(3, spans, tuple(Span(*voice) for voice in voices), pcm)


def test_voices_of_a_window_are_found_in_its_audio():
    window = glued([(16_000, 48_000), (160_000, 192_000)], [(20_000, 40_000), (168_000, 184_000)])
    assert voices_in(window) == [
        Stretch(0.25, 1.5, 1.0),
        Stretch(2.5, 3.5, 8.0),
    ]


def test_a_window_without_voices_has_none():
    assert voices_in(glued([(0, 16_000)], [])) == []


def test_a_part_holds_the_wanted_voice_padded_and_nothing_of_the_others():
    window = glued([(16_000, 48_000), (160_000, 192_000)], [(20_000, 40_000), (168_000, 184_000)])
    cut_out = narrowed(window, voices_in(window)[1:], 0.2)
    assert cut_out.index == 3
    assert cut_out.pieces == (Span(164_800, 187_200),)
    assert cut_out.voices == (Span(168_000, 184_000),)
    assert np.array_equal(cut_out.pcm, np.arange(164_800, 187_200, dtype=np.float32))


def test_a_pad_ends_with_the_piece():
    window = glued([(16_000, 48_000)], [(16_100, 47_900)])
    assert narrowed(window, voices_in(window), 0.4).pieces == (Span(16_000, 48_000),)


spoken = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 200)), min_size=1, max_size=8)


@unhurried
@given(st.lists(spoken, min_size=1, max_size=4), st.integers(0, 400), st.data())
def test_a_part_is_cut_from_the_window_and_holds_each_wanted_voice_in_one_piece(
    shape, pad_ms, data
):
    """`shape`: for each piece the hundredths of a second of its voices and pauses, in turn."""
    at, pieces, voices = 0, [], []
    for turns in shape:
        start = at = at + 1600
        for voice, pause in turns:
            voices.append((at, at + voice * 160))
            at += (voice + pause) * 160
        pieces.append((start, at))
    window = glued(pieces, voices)
    known = voices_in(window)
    assert len(known) == len(voices)
    keep = data.draw(st.lists(st.booleans(), min_size=len(known), max_size=len(known)).filter(any))
    wanted = [voice for voice, kept in zip(known, keep, strict=True) if kept]
    cut_out = narrowed(window, wanted, pad_ms / 1000)
    end = 0
    for piece, voice in zip(cut_out.pieces, cut_out.voices, strict=True):
        assert end <= piece.start <= voice.start < voice.end <= piece.end
        assert any(start <= piece.start and piece.end <= stop for start, stop in pieces)
        end = piece.end
    assert list(cut_out.voices) == [v for v, kept in zip(voices, keep, strict=True) if kept]
    sound = [np.arange(*piece, dtype=np.float32) for piece in cut_out.pieces]
    assert np.array_equal(cut_out.pcm, np.concatenate(sound))
    assert len(voices_in(cut_out)) == len(wanted)
