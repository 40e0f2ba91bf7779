"""The engine alone: what it promises for windows together, and against faster-whisper."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline
from faster_whisper.audio import decode_audio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gate import DECODING
from tests.gate import ask as numbered
from tests.speech_data import clip

from sotto.audio.features import log_mel
from sotto.engine import whisper
from sotto.engine.base import Ask, Decoded, Thresholds
from sotto.engine.devices import CPU
from sotto.engine.failures import DeviceLost
from sotto.engine.whisper import Whisper
from sotto.errors import EngineError, OutOfMemory

pytestmark = pytest.mark.model

ENGLISH_EOT = 50256
"""`<|endoftext|>` of the models that know only English."""
NEVER_BELIEVED = Thresholds(compression_ratio=0.0, logprob=99.0, no_speech=1.0)
NAMES = ("en-dashwood", "en-busy", "es-busy", "ru-busy")
ENGLISH, _, SPANISH, RUSSIAN = range(len(NAMES))


def pcm(name: str) -> np.ndarray:
    return decode_audio(str(clip(name).path))


def ask(features: np.ndarray, **changes: object) -> Ask:
    """A window to be decoded once, at temperature 0."""
    return replace(numbered(0, temperatures=(0.0,)), features=features, **changes)


def one(engine: Whisper, asked: Ask) -> Decoded:
    (result,) = engine.decode([asked])
    assert isinstance(result, Decoded)
    return result


@dataclass(frozen=True)
class Heard:
    """A clip's window with its encoding, so that a test pays for the encoder only once."""

    name: str
    asked: Ask


@pytest.fixture(scope="module")
def heard(base: Whisper) -> tuple[Heard, ...]:
    """Each clip encoded by the engine, as it keeps it for another try."""
    windows = []
    for name in NAMES:
        doubted = ask(
            log_mel(pcm(name), 80),
            decoding=replace(DECODING, max_new_tokens=1),
            temperatures=(0.0, 0.0),
            thresholds=NEVER_BELIEVED,
        )
        (again,) = base.decode([doubted])
        assert isinstance(again, Ask)
        fresh = replace(ask(again.features), encoded=again.encoded, language=clip(name).language)
        windows.append(Heard(name, fresh))
    return tuple(windows)


# Together and alone.


PROMPTS = ("All of our representatives are busy now", "Todos nuestros agentes hablan ahora sí")


@pytest.fixture(scope="module")
def asks(base: Whisper, heard: tuple[Heard, ...]) -> list[Ask]:
    """The windows, each without a prompt, and two of them with two prompts of one length."""
    prompts = [base.tokenize(prompt)[-6:] for prompt in PROMPTS]
    assert {len(prompt) for prompt in prompts} == {6}
    prompted = [replace(each.asked, prompt=prompt) for prompt in prompts for each in heard[1:3]]
    return [*(each.asked for each in heard), *prompted]


@pytest.fixture(scope="module")
def alone(base: Whisper, asks: list[Ask]) -> list[Decoded]:
    return [one(base, asked) for asked in asks]


@settings(
    deadline=None,
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_windows_give_the_same_tokens_and_words_together_as_alone(base, asks, alone, data):
    key = data.draw(st.sampled_from(sorted({asked.key.prompt_length for asked in asks})))
    fitting = [place for place, asked in enumerate(asks) if asked.key.prompt_length == key]
    chosen = data.draw(st.lists(st.sampled_from(fitting), min_size=2, max_size=5))
    together = base.decode([asks[place] for place in chosen])
    for place, result in zip(chosen, together, strict=True):
        assert result.draft.tokens == alone[place].draft.tokens
        assert result.language == alone[place].language
        assert [w.text for w in result.words] == [w.text for w in alone[place].words]
        for word, known in zip(result.words, alone[place].words, strict=True):
            assert word.start_s == pytest.approx(known.start_s, abs=0.021)
        assert result.draft.avg_logprob == pytest.approx(alone[place].draft.avg_logprob, abs=0.01)


def test_a_mix_of_kept_and_new_encodings_gives_the_same(base: Whisper, heard, alone):
    anew = replace(heard[SPANISH].asked, encoded=None)
    results = base.decode([heard[ENGLISH].asked, anew, heard[RUSSIAN].asked])
    tokens = [result.draft.tokens for result in results]
    assert tokens == [alone[place].draft.tokens for place in (ENGLISH, SPANISH, RUSSIAN)]


# Against faster-whisper.


@pytest.mark.parametrize("names", [("en-dashwood", "en-busy"), ("ru-busy",)], ids=["en", "ru"])
def test_tokens_are_those_of_faster_whispers_batched_class(base, asks, alone, names):
    sound = [pcm(name) for name in names]
    edges = np.cumsum([0, *map(len, sound)])
    clips = [
        {"start": (start + 0.5) / 16_000, "end": (end + 0.5) / 16_000}
        for start, end in itertools.pairwise(edges)
    ]
    reference = BatchedInferencePipeline(base._whisper)
    segments, _ = reference.transcribe(
        np.concatenate(sound),
        language=clip(names[0]).language,
        clip_timestamps=clips,
        vad_filter=False,
        without_timestamps=True,
        batch_size=4,
    )
    expected = [(tuple(segment.tokens), segment.avg_logprob) for segment in segments]
    assert len(expected) == len(names)
    for name, (tokens, logprob) in zip(names, expected, strict=True):
        ours = alone[NAMES.index(name)].draft
        assert ours.tokens == tokens
        assert ours.avg_logprob == pytest.approx(logprob, abs=0.01)


# Language.


def test_languages_are_told_from_the_sound(base: Whisper, heard: tuple[Heard, ...]):
    results = base.decode([replace(each.asked, language=None, align=False) for each in heard])
    for each, result in zip(heard, results, strict=True):
        assert result.language == clip(each.name).language
        assert 0.5 < result.language_probability < 1


def test_given_and_unknown_languages_may_be_in_one_call(base: Whisper, heard, alone):
    first, second = replace(heard[ENGLISH].asked, language=None), heard[RUSSIAN].asked
    results = base.decode([first, second])
    assert [result.language for result in results] == ["en", "ru"]
    assert results[0].language_probability < 1
    assert results[1].language_probability == 1
    assert [r.draft.tokens for r in results] == [
        alone[ENGLISH].draft.tokens,
        alone[RUSSIAN].draft.tokens,
    ]


def test_a_window_in_another_language_than_it_was_heard_in_is_not_encoded_again(
    base: Whisper, heard: tuple[Heard, ...], monkeypatch: pytest.MonkeyPatch
):
    asked = replace(heard[SPANISH].asked, encoded=None, language=None)
    first = one(base, replace(asked, keep=True))
    assert one(base, asked).encoded is None
    expected = one(base, replace(asked, language="pt"))
    monkeypatch.delattr(Whisper, "_encoded")
    result = one(base, replace(asked, language="pt", encoded=first.encoded))
    assert (result.language, result.draft.tokens) == ("pt", expected.draft.tokens)


def test_how_sure_a_language_was_survives_another_try(base: Whisper, heard: tuple[Heard, ...]):
    doubted = replace(
        heard[SPANISH].asked, language=None, temperatures=(0.0, 0.0), thresholds=NEVER_BELIEVED
    )
    (again,) = base.decode([doubted])
    sure = one(base, replace(heard[SPANISH].asked, language=None))
    result = one(base, again)
    assert (result.language, result.language_probability) == ("es", sure.language_probability)


# Tries.


def test_a_distrusted_window_comes_back_and_its_sibling_does_not(base: Whisper, heard, alone):
    doubted = replace(heard[ENGLISH].asked, temperatures=(0.0, 0.6), thresholds=NEVER_BELIEVED)
    trusted = replace(heard[1].asked, temperatures=(0.0, 0.6))
    again, result = base.decode([doubted, trusted])
    assert isinstance(again, Ask)
    assert again.temperature == 0.6
    assert again.drafts[0].tokens == alone[ENGLISH].draft.tokens
    assert result.draft.tokens == alone[1].draft.tokens
    assert result.words


def test_the_last_try_keeps_the_most_probable_text_at_its_own_temperature(base: Whisper, heard):
    doubted = replace(
        heard[ENGLISH].asked,
        temperatures=(0.0, 1.0),
        thresholds=replace(NEVER_BELIEVED, compression_ratio=99.0),
    )
    (again,) = base.decode([doubted])
    result = one(base, again)
    assert result.draft.temperature == 1.0
    assert result.draft.avg_logprob >= again.drafts[0].avg_logprob


def test_sampling_gives_words_with_times_too(base: Whisper, heard: tuple[Heard, ...]):
    result = one(base, replace(heard[ENGLISH].asked, temperatures=(0.2,)))
    assert result.draft.temperature == 0.2
    assert "Dashwood" in result.draft.text
    assert len(result.words) > 10


# Words.


def test_words_make_up_the_text_and_their_times_rise(alone: list[Decoded]):
    for result in alone:
        assert "".join(word.text for word in result.words) == result.draft.text
        at_s = 0.0
        for word in result.words:
            assert at_s <= word.start_s <= word.end_s <= 30
            at_s = word.start_s


def test_without_alignment_there_are_no_words_and_the_same_text(base: Whisper, heard, alone):
    result = one(base, replace(heard[ENGLISH].asked, align=False))
    assert result.words is None
    assert result.draft.tokens == alone[ENGLISH].draft.tokens


def test_a_translation_comes_from_the_same_encoding(base: Whisper, heard, alone):
    result = one(base, replace(heard[SPANISH].asked, translate=True))
    assert "representatives" in result.translation
    assert result.draft.tokens == alone[SPANISH].draft.tokens


@pytest.fixture
def searched(base: Whisper, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """Each search of the engine: its task, its temperature, and for how many windows."""
    found: list[tuple[str, float, int]] = []
    searching = base._search

    def search(asks, encoded, languages, task):
        found.append((task, asks[0].temperature, len(asks)))
        return searching(asks, encoded, languages, task)

    monkeypatch.setattr(base, "_search", search)
    return found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_translations_that_repeat_themselves_are_tried_again_together(
    base: Whisper, heard, alone, searched, monkeypatch: pytest.MonkeyPatch, device: str
):
    """Also where an encoder output has no selection of rows, and they are encoded anew."""
    monkeypatch.setattr(base, "device", device)
    spoken, english = {decoded.draft.text.strip() for decoded in alone}, []

    def ratio(text: str) -> float:
        if text in spoken:
            return 1.0
        english.append(text)
        return 3.0 if len(english) <= 2 else 1.0

    monkeypatch.setattr(whisper, "compression_ratio", ratio)
    rows = [SPANISH, RUSSIAN, ENGLISH]
    asked = [
        replace(heard[row].asked, translate=True, temperatures=(0.0, 0.4, 0.8)) for row in rows
    ]
    results = base.decode(asked)
    assert searched == [("transcribe", 0.0, 3), ("translate", 0.0, 3), ("translate", 0.4, 2)]
    assert [one.translation.strip() for one in results[:2]] == english[2:]
    for row, result in zip(rows, results, strict=True):
        assert (result.draft.tokens, result.draft.temperature) == (alone[row].draft.tokens, 0.0)


def test_a_translation_that_always_repeats_itself_is_the_most_probable_one(
    base: Whisper, heard, alone, monkeypatch: pytest.MonkeyPatch
):
    spoken = alone[SPANISH].draft.text.strip()
    plain = one(base, replace(heard[SPANISH].asked, translate=True)).translation
    monkeypatch.setattr(whisper, "compression_ratio", lambda text: 1.0 if text == spoken else 3.0)
    hot = replace(heard[SPANISH].asked, translate=True, temperatures=(0.0, 1.0))
    assert one(base, hot).translation == plain


def test_a_window_without_speech_is_not_translated(base: Whisper, heard, searched):
    nobody = Thresholds(compression_ratio=100, logprob=0.0, no_speech=-1.0)
    silenced = one(base, replace(heard[SPANISH].asked, translate=True, thresholds=nobody))
    assert (silenced.silent, silenced.translation) == (True, "")
    assert [task for task, _, _ in searched] == ["transcribe"]


def test_a_model_for_english_alone_decodes_english_whatever_its_vocabulary_knows(
    weights: Path, heard
):
    """As distil-large-v3, which has the tokens of all languages."""
    named = whisper.load("distil-large-v3", weights / "base", "cpu", "int8", CPU)
    try:
        assert not named.multilingual
        assert named.knows("es")
        result = one(named, replace(heard[SPANISH].asked, language=None, align=False))
        assert (result.language, result.language_probability) == ("en", 1.0)
        told = one(named, replace(heard[SPANISH].asked, language=None, translate=True))
        assert told.translation == told.draft.text
        start = named._tokens.before(heard[SPANISH].asked, "en", "transcribe")
        assert len(start) == 4
    finally:
        named.close()


# Prompts and room.


def test_a_prompt_has_at_most_the_tokens_that_fit(base: Whisper):
    assert base.tokenize("hello") == base.tokenize("  hello ")
    assert len(base.tokenize("word " * 1000)) == 223
    assert base.tokenize("word " * 1000 + "last")[-1] == base.tokenize("last")[-1]


@pytest.mark.parametrize("prompt", [0, 223])
def test_text_may_fill_all_the_room_behind_the_prompt(tiny: Whisper, prompt: int):
    """With end-of-text forbidden the model speaks until it is cut."""
    endless = replace(DECODING, beam_size=1, suppress_tokens=(-1, ENGLISH_EOT))
    before = tiny.tokenize("word " * 300)[:prompt]
    features = log_mel(pcm("en-dashwood"), 80)
    text = one(tiny, ask(features, decoding=endless, prompt=before, align=False)).draft
    marks = len(("<|startoftranscript|>", "<|notimestamps|>")) + (prompt > 0)
    assert len(text.tokens) - (448 - marks - prompt) in (-1, 0)


@pytest.mark.parametrize("model", ["base", "tiny"])
def test_text_that_fills_all_the_room_is_aligned(request, model: str):
    """The decoder then has to take end-of-text, too."""
    whisper: Whisper = request.getfixturevalue(model)
    suppressed = (-1, whisper._tokens.of().eot)
    endless = replace(DECODING, beam_size=1, suppress_tokens=suppressed)
    features = log_mel(pcm("en-dashwood"), 80)
    decoded = one(whisper, ask(features, decoding=endless, language="en"))
    assert len(decoded.draft.tokens) > 440
    assert sum(len(word.tokens) for word in decoded.words) == len(decoded.draft.tokens)


# What is hardly audio.


@pytest.mark.parametrize("frames", [0, 1, 2, 10])
def test_a_window_of_a_moment_is_no_failure(base: Whisper, heard, alone, frames: int):
    moment = ask(np.full((80, frames), -1.5, np.float32), language="en")
    results = base.decode([moment, heard[ENGLISH].asked])
    assert results[1].draft.tokens == alone[ENGLISH].draft.tokens
    assert isinstance(results[0], Decoded)


def test_a_window_judged_silent_has_no_text(base: Whisper):
    silence = ask(
        np.full((80, 3000), -1.5, np.float32),
        language="en",
        thresholds=Thresholds(compression_ratio=99.0, logprob=0.0, no_speech=0.0),
        translate=True,
    )
    result = one(base, silence)
    assert result.silent
    assert (result.draft.text, result.draft.tokens) == ("", ())
    assert (result.words, result.translation) == ((), "")


# Loading.


def test_an_engine_says_what_it_is(base: Whisper, tiny: Whisper):
    assert (base.model, base.device, base.mels, base.multilingual) == ("base", "cpu", 80, True)
    assert (tiny.model, tiny.multilingual) == ("tiny.en", False)


def test_an_english_model_decodes_and_ignores_the_language(tiny: Whisper):
    result = one(tiny, ask(log_mel(pcm("en-dashwood"), 80), language="fr"))
    assert result.language == "en"
    assert "leisure to consider" in result.draft.text
    assert result.words


@pytest.mark.parametrize("without", ["tokenizer.json", "model.bin"])
def test_a_model_that_lacks_a_file_is_refused(weights: Path, tmp_path: Path, without: str):
    for file in (weights / "tiny.en").iterdir():
        if file.name != without:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(EngineError, match="tiny"):
        whisper.load("tiny.en", tmp_path, "cpu", "int8", CPU)


def test_a_model_that_is_damaged_is_refused(weights: Path, tmp_path: Path):
    shutil.copytree(weights / "tiny.en", tmp_path / "model", ignore=lambda *_: ["model.bin"])
    (tmp_path / "model" / "model.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(EngineError, match="tiny"):
        whisper.load("tiny.en", tmp_path / "model", "cpu", "int8", CPU)


@pytest.mark.parametrize(
    ("file", "content"),
    [("tokenizer.json", '{"version": "1.0", "trunc'), ("preprocessor_config.json", "[]")],
)
def test_a_model_that_fails_after_its_weights_are_loaded_is_refused_and_keeps_no_memory(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str
):
    for path in (weights / "tiny.en").iterdir():
        if path.name != file:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).write_text(content)
    begun = []

    class Watched(whisper.WhisperModel):
        def __init__(self, *given: Any, **options: Any) -> None:
            begun.append(weakref.ref(self))
            super().__init__(*given, **options)

    monkeypatch.setattr(whisper, "WhisperModel", Watched)
    with pytest.raises(EngineError, match=r"model 'tiny\.en' cannot be loaded: ") as caught:
        whisper.load("tiny.en", tmp_path, "cpu", "int8", CPU)
    assert caught.value.__cause__ is not None  # whose frames were those of the load
    assert [model() for model in begun] == [None]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA failed with error out of memory"), OutOfMemory),
        (Exception("CUDA failed with error unspecified launch failure"), DeviceLost),
        (AttributeError("'list' object has no attribute 'items'"), EngineError),
    ],
)
def test_whatever_a_load_raises_is_told_by_its_kind(
    weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(whisper, "WhisperModel", fail)
    with pytest.raises(kind, match="cannot be loaded: ") as caught:
        whisper.load("tiny.en", weights / "tiny.en", "cpu", "int8", CPU)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA failed with error out of memory"), OutOfMemory),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), OutOfMemory),
        (MemoryError("std::bad_alloc"), OutOfMemory),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_NOT_SUPPORTED"), EngineError),
        (ValueError("The memory of the prompts"), EngineError),
        (RuntimeError("CUDA failed with error unspecified launch failure"), DeviceLost),
        (
            RuntimeError("CUDA failed with error an illegal memory access was encountered"),
            DeviceLost,
        ),
    ],
)
def test_a_lack_of_memory_and_a_lost_device_are_told_from_other_failures(
    base: Whisper, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
):
    class Failing:
        def encode(self, *_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(base, "_ct2", Failing())
    with pytest.raises(kind, match="decoding failed") as caught:
        base.decode([ask(log_mel(pcm("en-busy"), 80))])
    assert type(caught.value) is kind


@pytest.mark.parametrize(("language", "text"), [("km", "ខ្ញុំទៅផ្សារ"), ("bo", "བོད་སྐད་")])
def test_a_text_without_spaces_is_more_than_one_word(base: Whisper, language: str, text: str):
    tokenizer = base._tokens.of(language)
    words, tokens = tokenizer.split_to_word_tokens([*tokenizer.encode(text), tokenizer.eot])
    assert "".join(words) == text
    assert len(tokens) > 4


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        (
            ' I thought, well... "Never mind?" he said.',
            [" well", "...", " mind", '?"', " said", "."],
        ),
        (" « Oui… »", [" Oui", "…"]),
        (" Hola…", [" Hola", "…"]),
        (" قال لي؟ نعم، قال", [" لي", "؟", " نعم", "،"]),
        (" यह है। हाँ।", [" है", "।", " हाँ", "।"]),
        (" one...two 3.5 dogs' well-known", [" one...two", " 3", ".5", " dogs", "'"]),
    ],
)
def test_closing_marks_are_words_of_their_own_so_that_no_word_has_the_pause_behind_it(
    base: Whisper, text: str, apart: list[str]
):
    tokenizer = base._tokens.of("en")
    said = tokenizer.encode(text)
    words, tokens = tokenizer.split_to_word_tokens([*said, tokenizer.eot])
    assert "".join(words[:-1]) == text
    assert [token for word in tokens for token in word] == [*said, tokenizer.eot]
    assert [tokenizer.decode(own) for own in tokens[:-1]] == words[:-1]
    assert [word for word in words if word in apart] == apart


def test_a_model_is_unloaded_although_its_last_call_counts_as_active_for_a_moment():
    class Busy:
        active = 3

        @property
        def model_is_loaded(self) -> bool:
            return self.active > 0

        def unload_model(self) -> None:
            self.active -= 1

    busy = object.__new__(Whisper)
    busy._ct2 = Busy()
    busy.close()
    assert not busy._ct2.model_is_loaded


def test_encoder_output_in_bfloat16_can_be_kept():
    kept = ctranslate2.StorageView.from_array(np.array([[1.5, -2.0]], np.float32))
    assert whisper._array(kept.to(ctranslate2.DataType.bfloat16)).tolist() == [[1.5, -2.0]]
    assert whisper._array(kept.to(ctranslate2.DataType.float16)).dtype == np.float16


@pytest.mark.parametrize("broken", ["龘", "𠮷", "🜁"])
def test_bytes_that_make_no_character_are_left_out(base: Whisper, broken: str):
    tokens, encode = base._tokens, base._tokens.of().encode
    before, after = encode(" one two"), encode(" three four.")
    halves = encode(broken)[:-1], encode(broken)[-1:]
    for half in halves:
        said = (*before, *half, *after)
        assert tokens.text(said) == " one two three four."
        assert tokens.of_text(said) == [*before, *after]
        assert tokens.of_text((*before, *half)) == before
        assert tokens.of_text((*half, *after)) == after
        assert tokens.of_text((*half, *encode("魑"), *half, *half)) == encode("魑")
    whole = (*before, *encode(broken), *after)
    assert (tokens.text(whole), tokens.of_text(whole)) == (
        f" one two{broken} three four.",
        [*whole],
    )


def test_where_memory_ends_fewer_texts_are_sampled_at_once_from_then_on(
    base: Whisper, monkeypatch: pytest.MonkeyPatch
):
    """Room for two of the five texts that a window samples."""
    sampled: list[int] = []
    generate = base._ct2.generate

    class Tight:
        def generate(self, *given: Any, num_hypotheses: int = 1, **options: Any) -> Any:
            sampled.append(num_hypotheses)
            if num_hypotheses > 2:
                raise RuntimeError("CUDA failed with error out of memory")
            return generate(*given, num_hypotheses=num_hypotheses, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(ct2, name)

    ct2 = base._ct2
    monkeypatch.setattr(base, "_ct2", Tight())
    monkeypatch.setattr(base, "_sample", 16)
    hot = ask(log_mel(pcm("en-busy"), 80), temperatures=(0.4,))
    for tries in ([5, 2, 2, 1], [2, 2, 1]):
        sampled.clear()
        [decoded] = base.decode([hot])
        assert decoded.draft.text
        assert sampled == tries


STARVED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from sotto.engine import whisper
from sotto.engine.devices import CPU
from sotto.engine.noise import noise
from sotto.errors import OutOfMemory

engine = whisper.load("tiny.en", Path(sys.argv[1]), "cpu", "int8", replace(CPU, decode=4))
engine.warm_up()
one = replace(noise(80, 50256), features=np.zeros((80, 3000), np.float32))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (held + 60 * 2**20, unlimited[1]))
try:
    engine.decode([one] * 4)
except OutOfMemory as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
print(len(engine.decode([one] * 4)))
"""


def test_an_engine_that_gets_no_memory_says_so_and_goes_on(weights: Path):
    given = [sys.executable, "-c", STARVED, str(weights / "tiny.en")]
    ran = subprocess.run(given, check=True, capture_output=True, text=True, timeout=120)
    said, decoded = ran.stdout.splitlines()
    assert said.startswith("decoding failed: ")
    assert "memory" in said
    assert decoded == "4"


def test_a_wrong_request_is_the_engines_error_and_it_goes_on(base: Whisper, heard, alone):
    mixed: Sequence[Ask] = [heard[ENGLISH].asked, replace(heard[1].asked, prompt=(1, 2, 3))]
    with pytest.raises(EngineError):
        base.decode(mixed)
    assert one(base, heard[ENGLISH].asked).draft.tokens == alone[ENGLISH].draft.tokens
