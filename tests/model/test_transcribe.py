"""Real weights, real voices, the whole pipeline: words, languages, times, subtitles."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator

import jiwer
import numpy as np
import pytest
import srt
import webvtt
from tests.model.conftest import LONG, SHORT, Transcribe
from tests.sound import wav
from tests.speech_data import Clip, clip

from sotto.transcript.formats import render
from sotto.transcript.transcript import Transcript
from sotto.transcript.words import Word

pytestmark = pytest.mark.model

RATE = 16_000
Answers = dict[str, Transcript]


def text(transcript: Transcript) -> str:
    return "".join(segment.text for segment in transcript.segments).strip()


def plain(written: str) -> str:
    """Words alone: no case, no punctuation."""
    return " ".join(re.sub(r"[^\w\s]", " ", written.casefold().replace("ё", "е")).split())


def word_errors(spoken: Clip, transcript: Transcript) -> float:
    return jiwer.wer(plain(spoken.text), plain(text(transcript)))


def words(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words]


@pytest.mark.parametrize("name", SHORT)
def test_a_short_clip_is_understood(answers: Answers, name: str):
    assert word_errors(clip(name), answers[name]) <= 0.1


@pytest.mark.parametrize("name", LONG)
def test_a_minute_of_speech_is_understood(answers: Answers, name: str):
    assert word_errors(clip(name), answers[name]) <= 0.1


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_the_language_is_recognised(answers: Answers, name: str):
    assert answers[name].language.code == clip(name).language
    assert 0.5 < answers[name].language.probability <= 1


@pytest.mark.parametrize("name", LONG)
def test_next_to_no_speech_is_left_without_words(answers: Answers, name: str):
    assert answers[name].uncovered_s <= 1
    assert answers[name].duration_s == pytest.approx(clip(name).seconds, abs=0.01)


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_word_times_never_run_backwards_and_stay_inside_the_file(answers: Answers, name: str):
    at_s = 0.0
    assert words(answers[name])
    for word in words(answers[name]):
        assert at_s <= word.start_s <= word.end_s
        assert 0 < word.probability <= 1
        at_s = word.end_s
    assert at_s <= clip(name).seconds + 0.001


def edges(name: str, answers: Answers) -> Iterator[tuple[float, float]]:
    """For each utterance, how far the nearest word's start and the nearest word's end are off."""
    spoken = words(answers[name])
    for utterance in clip(name).utterances:
        yield (
            min(abs(word.start_s - utterance.start_s) for word in spoken),
            min(abs(word.end_s - utterance.end_s) for word in spoken),
        )


@pytest.mark.parametrize("name", LONG)
def test_most_utterances_start_and_end_with_a_word_on_time(answers: Answers, name: str):
    off_s = np.array(list(edges(name, answers)))
    assert (off_s <= 0.2).mean() >= 0.9
    assert np.median(off_s) <= 0.08


@pytest.mark.parametrize("name", LONG)
def test_first_words_of_utterances_are_found_where_they_are_said(answers: Answers, name: str):
    """The right word at the right time, not only any word."""
    on_time = 0
    for utterance in clip(name).utterances:
        first = plain(utterance.text).split()[0]
        said = [w for w in words(answers[name]) if plain(w.text).split()[:1] == [first]]
        on_time += any(abs(word.start_s - utterance.start_s) <= 0.2 for word in said)
    assert on_time >= 0.75 * len(clip(name).utterances)


@pytest.mark.parametrize("name", LONG)
def test_segments_can_be_read_as_subtitles(answers: Answers, name: str):
    for segment in answers[name].segments:
        assert segment.end_s - segment.start_s <= 7 + 1e-6 or len(segment.words) == 1
        assert len(segment.text.strip()) <= 84
        assert "".join(word.text for word in segment.words) == segment.text
        assert segment.tokens


@pytest.mark.parametrize("name", LONG)
def test_subtitles_of_real_speech_are_read_back_by_other_parsers(answers: Answers, name: str):
    said = [" ".join(segment.text.split()) for segment in answers[name].segments]
    read = list(srt.parse(render("srt", answers[name].segments)))
    assert [cue.content for cue in read] == said
    assert [cue.index for cue in read] == list(range(1, len(said) + 1))
    captions = webvtt.from_buffer(io.StringIO(render("vtt", answers[name].segments)))
    assert [caption.text for caption in captions] == said
    for before, after in itertools.pairwise(read):
        assert before.end <= after.start


# Translation.


@pytest.fixture(scope="module")
def translations(transcribed: Transcribe) -> Answers:
    names = ("es-urgent", "fr-only-person", "it-unknown-sender", "ru-no-such-number")
    return dict(zip(names, transcribed(*map(clip, names), translate=True), strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("es-urgent", {"message", "marked", "urgent"}),
        ("fr-only-person", {"only", "participant", "conference"}),
        ("it-unknown-sender", {"sorry", "know", "message"}),
        ("ru-no-such-number", {"number", "exist", "try"}),
    ],
)
def test_a_translation_is_english_and_says_what_was_said(translations, name: str, expected):
    transcript = translations[name]
    english = plain(" ".join(cue.text for cue in transcript.translation)).split()
    assert expected <= set(english)
    assert word_errors(clip(name), transcript) <= 0.1
    assert transcript.language.code == clip(name).language


def test_cues_of_a_translation_are_in_order_inside_the_voices(translations: Answers):
    for name, transcript in translations.items():
        (utterance,) = clip(name).utterances
        at_s = utterance.start_s - 0.3
        for cue in transcript.translation:
            assert at_s <= cue.start_s <= cue.end_s <= utterance.end_s + 0.3
            assert cue.words is None
            at_s = cue.end_s


# Other ways to ask.


def test_a_given_language_is_used_without_doubt(transcribed: Transcribe):
    (transcript,) = transcribed(clip("es-recorded"), language="es")
    assert (transcript.language.code, transcript.language.probability) == ("es", 1.0)
    assert word_errors(clip("es-recorded"), transcript) <= 0.1


def test_conditioning_on_earlier_text_and_a_prompt_keep_the_words(transcribed: Transcribe):
    (transcript,) = transcribed(
        clip("en-long"),
        language="en",
        condition_on_previous_text=True,
        initial_prompt="A telephone system speaks.",
    )
    assert word_errors(clip("en-long"), transcript) <= 0.1
    assert "A telephone system speaks" not in text(transcript)


def test_without_timestamps_the_words_are_the_same(transcribed: Transcribe, answers: Answers):
    (transcript,) = transcribed(clip("en-dashwood"), without_timestamps=True)
    assert text(transcript) == text(answers["en-dashwood"])
    assert all(segment.words is None for segment in transcript.segments)


def test_without_vad_the_words_are_there_too(transcribed: Transcribe):
    (transcript,) = transcribed(clip("en-cold-hearted"), enable_vad=False)
    assert word_errors(clip("en-cold-hearted"), transcript) <= 0.1
    assert transcript.decoded_s == pytest.approx(clip("en-cold-hearted").seconds, abs=0.01)


def test_a_job_gives_the_same_tokens_alone_as_among_others(
    transcribed: Transcribe, answers: Answers
):
    (alone,) = transcribed(clip("ru-first-in-line"))
    assert alone.segments == answers["ru-first-in-line"].segments


def music(seconds: np.ndarray) -> np.ndarray:
    """Chords of decaying harmonics, one every half second, over a beat of noise."""
    notes_hz = np.array([[262, 330, 392], [294, 370, 440], [349, 440, 523], [196, 247, 294]])
    at = (seconds * 2).astype(int) % len(notes_hz)
    since_s = seconds * 2 % 1 / 2
    chord = sum(
        np.sin(2 * np.pi * harmonic * notes_hz[at, voice] * seconds) / harmonic
        for harmonic in range(1, 6)
        for voice in range(3)
    )
    beat = np.random.default_rng(2).normal(0, 1, len(seconds)) * np.exp(-40 * since_s)
    return 0.08 * chord * np.exp(-3 * since_s) + 0.1 * beat


@pytest.mark.parametrize("kind", ["silence", "white noise", "tone", "music"])
def test_what_is_not_speech_gives_no_words(transcribed: Transcribe, kind: str):
    seconds = np.arange(10 * RATE) / RATE
    pcm = {
        "silence": np.zeros_like(seconds),
        "white noise": np.random.default_rng(1).uniform(-0.3, 0.3, len(seconds)),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * seconds),
        "music": music(seconds),
    }[kind]
    (transcript,) = transcribed(wav(pcm))
    assert transcript.segments == []
    assert transcript.language is None


@pytest.mark.parametrize("samples", [1, 100, 400])
def test_audio_of_a_moment_is_no_failure(transcribed: Transcribe, samples: int):
    pcm = np.random.default_rng(samples).uniform(-0.3, 0.3, samples)
    (transcript,) = transcribed(wav(pcm), enable_vad=False)
    assert all(segment.end_s <= samples / RATE + 0.001 for segment in transcript.segments)


# A model that knows only English.


def test_an_english_model_understands_english(transcribed_by_tiny: Transcribe):
    spoken = [clip("en-dashwood"), clip("en-no-service")]
    for said, transcript in zip(spoken, transcribed_by_tiny(*spoken), strict=True):
        assert word_errors(said, transcript) <= 0.15
        assert transcript.language.code == "en"
        assert words(transcript)


def test_an_english_model_takes_any_request_and_answers_in_english(
    transcribed_by_tiny: Transcribe,
):
    (transcript,) = transcribed_by_tiny(clip("en-young-man"), language="fr", translate=True)
    assert "young man" in text(transcript)
    assert transcript.language.code == "en"
    assert transcript.translation
