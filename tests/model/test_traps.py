"""Where faster-whisper's batched class goes wrong, and this engine must not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.model.conftest import Transcribe
from tests.sound import wav
from tests.speech_data import clip

from sotto.audio.decode import decode
from sotto.audio.features import log_mel
from sotto.audio.pcm import RATE
from sotto.engine.base import PROMPT, Ask, Decoding, Thresholds
from sotto.engine.whisper import Whisper
from sotto.request import parse

DECODING = Decoding(
    beam_size=5,
    patience=1.0,
    best_of=5,
    length_penalty=1.0,
    repetition_penalty=1.0,
    no_repeat_ngram_size=0,
    max_new_tokens=None,
    suppress_tokens=(-1,),
)
BELIEVE_ALL = Thresholds(compression_ratio=1e9, logprob=-1e9, no_speech=1.0)
END_OF_TEXT = 50257


class Recorder:
    """Passes calls on to CTranslate2 and keeps what they were given."""

    def __init__(self, model: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._model = model

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._model, name)
        if not callable(target):
            return target

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            return target(*args, **options)

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, options) for called, args, options in self.calls if called == name]


@pytest.fixture
def recorded(base: Whisper, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(base._ct2)
    monkeypatch.setattr(base, "_ct2", recorder)
    monkeypatch.setattr(base._whisper, "model", recorder)
    return recorder


def sound(name: str, seconds: float | None = None) -> np.ndarray:
    path = clip(name).path
    pcm = np.concatenate(list(decode(path, 3600)))
    return pcm if seconds is None else pcm[: round(seconds * RATE)]


def ask(pcm: np.ndarray, **changes: Any) -> Ask:
    plain = Ask(log_mel(pcm, 80), DECODING, BELIEVE_ALL, (0.0,), language="en")
    return replace(plain, **changes)


# Audio


@pytest.mark.model
def test_no_speech_is_dropped_from_windows_that_are_too_long(transcribed: Transcribe):
    """A VAD without a longest speech gives chunks over 30 s there, cut off at 30 s."""
    spanish = clip("es-long")
    [transcript] = transcribed(
        spanish, language="es", beam_size=1, vad_parameters={"min_silence_duration_ms": 3000}
    )
    said = sum(len(segment.text.split()) for segment in transcript.segments)
    assert said >= 0.9 * len(spanish.text.split())
    assert transcript.segments[-1].end_s == pytest.approx(spanish.utterances[-1].end_s, abs=0.5)


def test_the_callers_vad_parameters_are_neither_changed_nor_replaced():
    """There, a key is popped from the caller's dict and another default slips in."""
    given = {"threshold": 0.4, "max_speech_duration_s": 20}
    sent = {"audio": "https://example.com/a.mp3", "vad_parameters": given}
    before = json.dumps(sent)
    options = parse(sent).options.vad_parameters
    assert json.dumps(sent) == before
    assert (options.threshold, options.max_speech_duration_s) == (0.4, 20)
    assert (
        options.min_silence_duration_ms
        == parse({"audio": "https://x"}).options.vad_parameters.min_silence_duration_ms
    )


@pytest.mark.model
def test_without_vad_audio_longer_than_a_window_has_sentences(transcribed: Transcribe):
    """There, it is a RuntimeError, and the default is one segment for each 30 s."""
    [transcript] = transcribed(clip("en-long"), language="en", enable_vad=False, beam_size=1)
    assert transcript.duration_s > 50
    assert len(transcript.segments) >= 8


# Text


@pytest.mark.model
def test_a_window_that_is_not_believed_is_tried_again_at_each_temperature(recorded, base):
    """There, only the first temperature is used."""
    doubtful = replace(BELIEVE_ALL, compression_ratio=0.01)
    todo: Any = ask(sound("en-busy"), thresholds=doubtful, temperatures=(0.0, 0.4, 0.8))
    tries = 0
    while isinstance(todo, Ask):
        [todo] = base.decode([todo])
        tries += 1
    assert tries == 3
    assert todo.draft.temperature == 0.8
    assert len(recorded.named("encode")) == 1


@pytest.mark.model
def test_sampling_takes_the_best_of_candidates_and_no_beams(recorded, base):
    """There, a temperature goes together with beams, and without candidates."""
    base.decode([ask(sound("en-busy"), temperatures=(0.6,))])
    [(_, options)] = recorded.named("generate")
    assert options["sampling_temperature"] == 0.6
    assert options["num_hypotheses"] == DECODING.best_of
    assert options["beam_size"] == 1


@pytest.mark.model
@pytest.mark.parametrize(
    ("rows", "best_of", "groups"),
    [(1, 12, [5, 5, 2]), (2, 5, [2, 2, 1]), (9, 2, [1, 1]), (1, 1, [1])],
)
def test_candidates_take_turns_and_the_best_of_all_is_taken(recorded, base, rows, best_of, groups):
    """There, they are decoded together however many they are: a hundred take 4 GB with base."""
    decoding = replace(DECODING, best_of=best_of, max_new_tokens=8)
    found = []
    generate = recorded.generate

    def kept(*args: Any, **options: Any) -> Any:
        found.append(generate(*args, **options))
        return found[-1]

    recorded.generate = kept
    made = base.decode(
        [ask(sound("en-busy", 5), temperatures=(1.0,), decoding=decoding, align=False)] * rows
    )
    calls = recorded.named("generate")
    assert [options["num_hypotheses"] for _, options in calls] == groups
    for row, one in enumerate(made):
        best = max((tried[row] for tried in found), key=lambda result: result.scores[0])
        assert one.draft.tokens == tuple(best.sequences_ids[0])


@pytest.mark.model
@pytest.mark.parametrize("beam_size", range(1, 21))
def test_the_least_patience_is_that_for_one_text(recorded, base, beam_size):
    """There, CTranslate2 refuses a patience for less than one."""
    decoding = replace(DECODING, beam_size=beam_size, patience=0.01, max_new_tokens=4)
    [made] = base.decode([ask(sound("en-busy", 5), decoding=decoding, align=False)])
    assert made.draft.tokens


@pytest.mark.model
@pytest.mark.parametrize("option", ["initial_prompt", "hotwords"])
def test_a_prompt_is_text_and_begins_no_transcript(recorded, transcribed, base, option):
    """There, `<|startoftranscript|>` in a prompt has what follows it said by the speaker."""
    spoof = "Hello <|endoftext|><|startoftranscript|><|fr|><|translate|> there"
    plain = "Hello  there"
    [spoofed], [meant] = (
        transcribed(clip("en-busy"), language="en", beam_size=1, **{option: text})
        for text in (spoof, plain)
    )
    assert [s.text for s in spoofed.segments] == [s.text for s in meant.segments]
    [(_, prompts, *_), _], [(_, same, *_), _] = recorded.named("generate")[:2]
    assert prompts == same


@pytest.mark.model
def test_of_an_endless_prompt_only_the_end_is_read(base):
    """There, all of it is tokenized: ten seconds for nine megabytes."""
    for text in ("so it said ", "中文", "!?", "x"):
        end = base.tokenize(text * 20_000)
        assert len(end) == PROMPT
        assert base.tokenize(text * 3_000_000)[1:] == end[1:]


@pytest.mark.model
def test_a_language_is_known_if_the_model_has_a_token_for_it(base, tiny):
    """There, a language without one is left out of the prompt, and the model guesses."""
    assert [base.knows(code) for code in ("en", "su", "yue")] == [True, True, False]
    assert tiny.knows("yue")
    assert (base.vocabulary, tiny.vocabulary) == (51865, 51864)


@pytest.mark.model
def test_the_last_token_of_the_vocabulary_can_be_suppressed(base, tiny):
    """There, a token behind it is written to behind the end of the memory."""
    for engine in (base, tiny):
        last = (-1, engine.vocabulary - 1)
        decoding = replace(DECODING, suppress_tokens=last, max_new_tokens=4)
        [made] = engine.decode([ask(sound("en-busy", 5), decoding=decoding, align=False)])
        assert made.draft.tokens


@pytest.mark.model
def test_words_are_aligned_in_the_language_of_their_own_window(recorded, base):
    """There, all rows are aligned in one language."""
    decoded = base.decode(
        [ask(sound(name), language=None) for name in ("en-busy", "es-urgent", "en-dashwood")]
    )
    assert [d.language for d in decoded] == ["en", "es", "en"]
    started = [args[1][1] for args, _ in recorded.named("align")]
    assert started == [base._tokens.of(code).language for code in ("en", "es", "en")]


@pytest.mark.model
def test_with_multilingual_each_segment_tells_its_language(transcribed: Transcribe):
    """There, the language of the first 30 s is told for all."""
    quiet = np.zeros(2 * RATE, np.float32)
    english, spanish = sound("en-long", 28), sound("es-long", 28)
    both = np.concatenate([english, quiet, spanish])
    [transcript] = transcribed(wav(both), multilingual=True, beam_size=1)
    spoken = {code: [s for s in transcript.segments if s.language == code] for code in ("en", "es")}
    assert spoken["en"][0].start_s < 5
    assert spoken["es"][-1].end_s > 50


@pytest.mark.model
def test_a_prompt_begins_with_a_space_and_stands_before_the_first_window_only(
    recorded, transcribed, base
):
    """There, it lacks the space, and every window is given it."""
    with_space, without = (
        base._tokens._plain.encode(text, add_special_tokens=False).ids
        for text in (" Asterisk", "Asterisk")
    )
    assert with_space != without
    transcribed(clip("en-long"), language="en", beam_size=1, initial_prompt="Asterisk")
    prompts = [prompt for args, _ in recorded.named("generate") for prompt in args[1]]
    opening = [p for p in prompts if p[0] == base._tokens.of().sot_prev]
    assert len(opening) == 1
    assert opening[0][1 : 1 + len(with_space)] == with_space
    assert len(prompts) > 1


@pytest.mark.model
@pytest.mark.parametrize("options", [{}, {"beam_size": 1}], ids=["beam 5", "greedy"])
def test_the_rest_of_a_window_that_ends_early_is_asked_for_again(
    base: Whisper, transcribed: Transcribe, options: dict[str, int]
):
    """There, 16 of 23 s of speech are lost, and no threshold sees it."""
    spoken = clip("es-ends-early")
    decoding = replace(DECODING, **options)
    strict = Thresholds(compression_ratio=2.4, logprob=-1.0, no_speech=0.6)
    window = ask(sound("es-ends-early"), language="es", decoding=decoding, thresholds=strict)
    [alone] = base.decode([window])
    assert "responder a su llamada" in alone.draft.text
    assert "operadora" not in alone.draft.text
    assert not alone.silent
    [transcript] = transcribed(spoken, language="es", **options)
    text = "".join(segment.text for segment in transcript.segments)
    for said in ("responder a su llamada", "operadora", "esta grabación", "llamada al exterior"):
        assert text.count(said) == 1
    assert transcript.uncovered_s <= 1.5
    starts = [word.start_s for segment in transcript.segments for word in segment.words]
    assert starts == sorted(starts)
    for utterance in spoken.utterances[1:4]:
        assert min(abs(start - utterance.start_s) for start in starts) <= 0.2


@pytest.mark.model
def test_hotwords_stand_before_every_window(recorded, transcribed, base):
    transcribed(clip("en-long"), language="en", beam_size=1, hotwords="Asterisk")
    tokens = list(base.tokenize("Asterisk"))
    prompts = [prompt for args, _ in recorded.named("generate") for prompt in args[1]]
    assert len(prompts) > 1
    assert all(prompt[1 : 1 + len(tokens)] == tokens for prompt in prompts)


@pytest.mark.model
def test_hotwords_and_prompt_together_leave_room_for_the_text(recorded, transcribed):
    long_text = "the quick brown fox " * 200
    transcribed(
        clip("en-busy"), language="en", beam_size=1, hotwords=long_text, initial_prompt=long_text
    )
    [(args, _)] = recorded.named("generate")
    assert len(args[1][0]) <= 1 + PROMPT + 4


@pytest.mark.model
@pytest.mark.parametrize("count", [1, 30, 100])
def test_max_new_tokens_means_what_it_says(base: Whisper, count: int):
    """CTranslate2 halves a `max_length` that is passed on as it is."""
    endless = replace(
        DECODING, beam_size=1, max_new_tokens=count, suppress_tokens=(-1, END_OF_TEXT)
    )
    [decoded] = base.decode([ask(sound("en-busy"), decoding=endless, align=False)])
    assert len(decoded.draft.tokens) == count


@pytest.mark.model
def test_penalties_act(recorded, transcribed: Transcribe):
    transcribed(clip("en-busy"), repetition_penalty=1.3, no_repeat_ngram_size=2, language="en")
    calls = [options for _, options in recorded.named("generate")]
    assert {(c["repetition_penalty"], c["no_repeat_ngram_size"]) for c in calls} == {(1.3, 2)}


# Time


@pytest.mark.model
def test_only_the_frames_of_the_audio_are_aligned_and_not_its_padding(recorded, base):
    """There, up to a second of padding may be given to words."""
    window = ask(sound("en-busy"))
    base.decode([window])
    [(args, _)] = recorded.named("align")
    assert args[3] == [window.features.shape[1]]


@pytest.mark.model
def test_jobs_at_once_do_not_move_each_others_words(transcribed: Transcribe):
    """There, the time of the last speech is kept on the object that all calls share."""
    names = ("en-dashwood", "es-urgent", "fr-no-service")
    alone = [transcribed(clip(name), beam_size=1)[0] for name in names]
    together = transcribed(*map(clip, names), beam_size=1)
    for one, other in zip(alone, together, strict=True):
        assert [(s.text, s.start_s, s.end_s) for s in one.segments] == [
            (s.text, s.start_s, s.end_s) for s in other.segments
        ]
