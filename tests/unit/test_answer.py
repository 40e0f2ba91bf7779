"""What a job answers: the keys it promises, in JSON that nothing on the way can refuse."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotto.answer import Answer, answer, as_json
from sotto.language import Language
from sotto.request import parse
from sotto.transcript.formats import FORMATS
from sotto.transcript.record import SegmentRecord
from sotto.transcript.segments import Segment
from sotto.transcript.transcript import Transcript
from sotto.transcript.words import Word

URL = "https://host.example/a.wav"
THEIRS = {
    "segments",
    "detected_language",
    "transcription",
    "translation",
    "device",
    "model",
}
OURS = {
    "language_probability",
    "duration",
    "duration_after_vad",
    "uncovered_s",
    "timings",
    "warnings",
}
SEGMENT = {
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
    "language",
}


def word(text: str = " hello.", **changes: Any) -> Word:
    return replaced(Word(text, 0.5, 1.25, 0.9), changes)


def segment(text: str = " Hello there.", **changes: Any) -> Segment:
    made = Segment(
        id=1,
        seek=0,
        start_s=0.5,
        end_s=2.0,
        text=text,
        tokens=(1, 2, 3),
        temperature=0.0,
        avg_logprob=-0.25,
        compression_ratio=1.1,
        no_speech_prob=0.01,
        language="en",
        channel=None,
        words=(word(" Hello"), word(" there.")),
    )
    return replaced(made, changes)


def replaced(made: Any, changes: dict[str, Any]) -> Any:
    return type(made)(**({name: getattr(made, name) for name in made.__slots__} | changes))


def transcript(*segments: Segment, **changes: Any) -> Transcript:
    made = Transcript(changes.pop("warnings", ()))
    made.segments = list(segments)
    language = Language(changes.pop("language", "en"))
    language.probability = changes.pop("language_probability", 0.98765)
    track = made.track(None, language)
    track.duration_s, track.decoded_s, track.uncovered_s = 12.5, 10.25, 0.5
    for name, value in changes.items():
        setattr(track, name, value)
    return made


def answered(made: Transcript, *, model: str = "base", **options: Any) -> dict[str, Any]:
    request = parse({"audio": URL, **options})
    return as_json(answer(request, made, model=model, device="cpu"))


def strict(value: object) -> bytes:
    """Written as the SDK writes it, refused if it is not JSON, and sent as UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


# Keys


def test_an_answer_has_the_keys_of_worker_faster_whisper_and_ours() -> None:
    made = answered(transcript(segment()))
    assert set(made) == THEIRS | OURS
    assert set(made["segments"][0]) == SEGMENT


def test_with_words_an_answer_has_them_in_segments_and_in_one_list() -> None:
    made = answered(transcript(segment(), segment(id=2)), word_timestamps=True)
    assert set(made) == THEIRS | OURS | {"word_timestamps"}
    assert all(set(s) == SEGMENT | {"words"} for s in made["segments"])
    assert made["word_timestamps"] == [w for s in made["segments"] for w in s["words"]]
    assert made["word_timestamps"][0] == {
        "word": " Hello",
        "start": 0.5,
        "end": 1.25,
        "probability": 0.9,
    }


def test_the_keys_are_those_that_the_documents_are_made_from() -> None:
    assert set(Answer.__struct_fields__) == THEIRS | OURS | {"word_timestamps"}
    assert set(SegmentRecord.__struct_fields__) == SEGMENT | {"words", "channel"}


def test_an_answer_says_what_is_known() -> None:
    made = answered(transcript(segment(), warnings=["best_of: idle"]), model="tiny")
    assert made["transcription"] == "Hello there."
    assert made["translation"] is None
    assert (made["detected_language"], made["language_probability"]) == ("en", 0.9877)
    assert (made["duration"], made["duration_after_vad"]) == (12.5, 10.25)
    assert made["uncovered_s"] == 0.5
    assert (made["device"], made["model"]) == ("cpu", "tiny")
    assert made["warnings"] == ["best_of: idle"]
    assert made["segments"][0]["tokens"] == [1, 2, 3]
    assert (made["segments"][0]["start"], made["segments"][0]["end"]) == (0.5, 2.0)


def test_an_answer_where_nobody_speaks_is_whole() -> None:
    made = answered(
        transcript(language=None, language_probability=0.0), word_timestamps=True, translate=True
    )
    assert made["segments"] == made["word_timestamps"] == []
    assert (made["transcription"], made["translation"]) == ("", "")
    assert (made["detected_language"], made["language_probability"]) == (None, 0.0)


def test_an_answer_before_the_first_window_is_whole() -> None:
    made = answered(Transcript(), translate=True)
    assert (made["duration"], made["detected_language"], made["translation"]) == (0.0, None, "")


def test_the_channel_is_told_where_channels_were_split() -> None:
    made = answered(transcript(segment(channel=0), segment(channel=1)), channels="split")
    assert [one["channel"] for one in made["segments"]] == [0, 1]


@pytest.mark.parametrize("name", FORMATS)
def test_transcription_and_translation_come_in_the_format_asked_for(name: str) -> None:
    made = answered(
        transcript(segment(" Hola."), translation=[segment(" Hi.", words=None)]),
        transcription=name,
        translation=name,
        translate=True,
    )
    words = {"words": None} if name == "json" else {}
    assert made["transcription"] == FORMATS[name]([segment(" Hola.", **words)])
    assert made["translation"] == FORMATS[name]([segment(" Hi.", words=None)])


@pytest.mark.parametrize("asked", [False, True])
def test_the_json_format_has_words_when_the_segments_have_them(asked: bool) -> None:
    made = answered(transcript(segment()), transcription="json", word_timestamps=asked)
    (within,) = json.loads(made["transcription"])["segments"]
    assert within == made["segments"][0]
    assert ("words" in within) is asked


def test_a_translation_that_was_not_asked_for_is_null() -> None:
    assert answered(transcript(segment(), translation=[segment()]))["translation"] is None


def test_stages_are_timed_in_seconds() -> None:
    made = transcript()
    made.laps.end("fetch")
    timings = answered(made)["timings"]
    assert set(timings) == {"fetch", "total"}
    assert all(0 <= seconds < 60 for seconds in timings.values())


# Whatever the segments hold


def test_a_number_that_json_lacks_becomes_null() -> None:
    odd = segment(avg_logprob=math.nan, compression_ratio=math.inf, no_speech_prob=-math.inf)
    made = answered(transcript(odd))
    assert [made["segments"][0][name] for name in ("avg_logprob", "compression_ratio")] == [
        None
    ] * 2
    assert made["segments"][0]["no_speech_prob"] is None


def test_a_time_that_is_no_number_is_our_fault_and_not_passed_on() -> None:
    with pytest.raises(ValueError, match="not finite"):
        answered(transcript(segment(start_s=math.nan)))


def test_numbers_of_numpy_become_plain() -> None:
    odd = segment(
        id=np.int64(7),
        seek=np.int32(3),
        tokens=tuple(np.arange(3, dtype=np.int32)),
        avg_logprob=np.float32(-0.5),
        start_s=np.float64(0.25),
        words=(word(probability=np.float16(0.5)),),
    )
    made = answered(
        transcript(odd, language_probability=np.float32(0.5)),
        word_timestamps=True,
    )
    assert strict(made)
    assert made["segments"][0]["id"] == 7
    assert made["segments"][0]["tokens"] == [0, 1, 2]
    assert made["language_probability"] == 0.5


@pytest.mark.parametrize("place", ["text", "word", "translation", "warning", "model"])
def test_a_lone_surrogate_is_replaced_wherever_it_stands(place: str) -> None:
    made = transcript(
        segment(
            "a \ud800 b" if place == "text" else "a",
            words=(word("\udfff" if place == "word" else "a"),),
        ),
        translation=[segment("\udc00" if place == "translation" else "a", words=None)],
        warnings=["x \ud83d" if place == "warning" else "a"],
    )
    model = "\ud800" if place == "model" else "base"
    sent = strict(answered(made, model=model, word_timestamps=True, translate=True))
    assert "\ufffd" in sent.decode()


numbers = st.floats() | st.integers() | st.floats(width=32).map(np.float32)
times = st.floats(-1, 1e7) | st.floats(0, 1e4, width=32).map(np.float32)
texts = st.text(st.characters(exclude_categories=()), max_size=30)
words = st.builds(Word, texts, times, times, numbers)
segments = st.builds(
    Segment,
    id=st.integers(1, 10**6),
    seek=st.integers(0, 10**8) | st.integers(0, 10**6).map(np.int64),
    start_s=times,
    end_s=times,
    text=texts,
    tokens=st.lists(st.integers(0, 52000).map(np.int32), max_size=4).map(tuple),
    temperature=numbers,
    avg_logprob=numbers,
    compression_ratio=numbers,
    no_speech_prob=numbers,
    words=st.lists(words, max_size=3).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(segments, max_size=4),
    st.sampled_from(sorted(FORMATS)),
    st.booleans(),
    st.booleans(),
    st.lists(texts, max_size=2),
)
def test_any_answer_is_strict_json(
    parts: list[Segment], name: str, with_words: bool, translate: bool, warnings: list[str]
) -> None:
    made = answered(
        transcript(*parts, translation=parts, warnings=warnings),
        transcription=name,
        translation=name,
        word_timestamps=with_words,
        translate=translate,
    )
    assert json.loads(strict(made)) == made
    assert ("word_timestamps" in made) is with_words
    assert all(("words" in one) is with_words for one in made["segments"])


def test_an_answer_that_json_cannot_hold_is_refused_and_not_sent() -> None:
    made = answer(parse({"audio": URL}), transcript(), model="base", device="cpu")
    for odd in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            as_json(msgspec.structs.replace(made, timings={"total": odd}))
