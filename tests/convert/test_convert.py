"""Checkpoints become folders that faster-whisper loads and that give words their times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builder.convert import ConvertError, convert
from builder.model_bin import Layout, read
from builder.quantise import quantise, stored_type
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio, pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from tests.speech_data import clip

if TYPE_CHECKING:
    from tests.convert.checkpoints import Checkpoints

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(300),
    # torch and transformers warn of what they themselves do.
    pytest.mark.filterwarnings("default"),
]

ROOT = Path(__file__).resolve().parents[2]
TINY_HEADS = [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]]
TEXT = " all our agents are busy"


@pytest.fixture(scope="module")
def plain(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the shape TINY; tests change copies of it."""
    return checkpoints.random(tmp_path_factory.mktemp("plain") / "checkpoint")


@pytest.fixture
def checkpoint(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def base(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper base, converted."""
    into = tmp_path_factory.mktemp("base") / "converted"
    convert(real, into, progress=False)
    return into


def converted(checkpoint: Path) -> Path:
    into = checkpoint.with_name("converted")
    convert(checkpoint, into, progress=False)
    assert not list(checkpoint.parent.glob(".*"))
    return into


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_bytes())


def align(folder: Path) -> list[dict[str, Any]]:
    """When the words of TEXT are spoken in a clip, to go by the alignment heads."""
    model = WhisperModel(str(folder), device="cpu", compute_type="int8")
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, "transcribe", "en")
    features = model.feature_extractor(decode_audio(str(clip("en-busy").path)))
    encoded = model.encode(pad_or_trim(features))
    (words,) = model.find_alignment(tokenizer, [tokenizer.encode(TEXT)], encoded, 3000)
    return words


def assert_aligns(folder: Path) -> None:
    """Random weights hear nothing; but each word of a given text gets a time in order."""
    words = align(folder)
    assert "".join(word["word"] for word in words) == TEXT
    at_s = 0.0
    for word in words:
        assert at_s <= word["start"] <= word["end"] <= 30
        at_s = word["start"]


def assert_refused(checkpoint: Path, reason: str) -> None:
    with pytest.raises(ConvertError, match=reason) as told:
        convert(checkpoint, checkpoint.with_name("converted"), progress=False)
    assert "\n" not in str(told.value)
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


# What cannot be converted.


def test_another_architecture_is_refused(checkpoint: Path):
    edit(checkpoint / "config.json", model_type="wav2vec2")
    assert_refused(checkpoint, r"^config\.json: model_type: 'wav2vec2' is not 'whisper'$")


def test_weights_cut_short_are_refused(checkpoint: Path):
    weights = checkpoint / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert_refused(checkpoint, r"^checkpoint: the weights cannot be converted: .")


def test_weights_that_are_no_weights_are_refused(checkpoint: Path):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 100)
    assert_refused(checkpoint, r"^checkpoint: the weights cannot be converted: .")


def test_missing_weights_are_refused_and_never_made_up(checkpoint: Path):
    from safetensors.torch import load_file, save_file

    weights = checkpoint / "model.safetensors"
    state = load_file(weights)
    for name in ("model.decoder.layers.1.fc1.weight", "model.decoder.layers.2.fc1.weight"):
        del state[name]
    save_file(state, weights, metadata={"format": "pt"})
    assert_refused(checkpoint, r"^checkpoint: the weights lack .*\.1\.fc1\.weight and 1 more$")


def test_weights_of_another_size_are_refused(checkpoint: Path):
    edit(checkpoint / "config.json", encoder_ffn_dim=1024)
    assert_refused(checkpoint, r"^checkpoint: the weights cannot be converted: .")


def test_a_missing_shard_is_refused(checkpoints: Checkpoints, tmp_path: Path):
    folder = checkpoints.random(tmp_path / "checkpoint", shard="5MB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    assert_refused(folder, r"^checkpoint: the weights cannot be converted: .")


def test_code_in_pickled_weights_is_not_run(checkpoint: Path, tmp_path: Path):
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    (checkpoint / "model.safetensors").unlink()
    torch.save({"model.decoder.layer_norm.weight": Evil()}, checkpoint / "pytorch_model.bin")
    assert_refused(checkpoint, r"^checkpoint: the weights cannot be converted: .")


def test_code_beside_the_weights_is_not_run(checkpoint: Path, tmp_path: Path):
    (checkpoint / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    edit(checkpoint / "config.json", auto_map={"AutoConfig": "evil.C", "AutoTokenizer": "evil.T"})
    converted(checkpoint)
    assert not (tmp_path / "touched").exists()


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint: Path):
    (checkpoint / "tokenizer.json").unlink()
    assert_refused(checkpoint, r"^checkpoint: has neither tokenizer\.json nor vocab\.json and merg")


@pytest.mark.parametrize("text", ["", "{}", '{"model": '])
def test_a_damaged_tokenizer_is_refused(checkpoint: Path, text: str):
    (checkpoint / "tokenizer.json").write_text(text)
    assert_refused(checkpoint, r"^checkpoint: the tokenizer cannot be converted: .")


def test_another_models_tokenizer_is_refused(checkpoint: Path):
    from tokenizers import Tokenizer as Plain
    from tokenizers.models import WordLevel

    Plain(WordLevel({"a": 0}, "a")).save(str(checkpoint / "tokenizer.json"))
    assert_refused(checkpoint, r"^tokenizer\.json: is not Whisper's: it lacks <\|startoftranscript")


@pytest.mark.parametrize("part", ["added_tokens", "vocab"])
def test_ids_with_gaps_are_refused(checkpoint: Path, part: str):
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    if part == "added_tokens":
        del tokenizer["added_tokens"][5]
    else:
        tokenizer["model"]["vocab"]["~"] = 99999
    path.write_text(json.dumps(tokenizer))
    assert_refused(checkpoint, r"^tokenizer\.json: the ids of its tokens have gaps$")


def test_a_folder_in_the_way_is_left_alone(checkpoint: Path):
    into = checkpoint.with_name("converted")
    into.mkdir()
    (into / "mine").touch()
    with pytest.raises(OSError, match="not empty"):
        convert(checkpoint, into, progress=False)
    assert [path.name for path in into.iterdir()] == ["mine"]


# What can.


def test_a_checkpoint_becomes_a_model_whose_words_have_times(plain: Path, checkpoint: Path):
    folder = converted(checkpoint)
    assert_aligns(folder)
    assert stored_type(folder / "model.bin") == "float32"
    assert (folder / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()
    assert json.loads((folder / "preprocessor_config.json").read_bytes())["feature_size"] == 80
    settings = config(folder)
    assert settings["alignment_heads"] == TINY_HEADS
    assert settings["lang_ids"] == list(range(50259, 50358))
    assert settings["suppress_ids_begin"] == [220, 50257]
    vocabulary = json.loads((folder / "vocabulary.json").read_bytes())
    assert len(vocabulary) == 51865
    assert (vocabulary[50258], vocabulary[-1]) == ("<|startoftranscript|>", "<|30.00|>")


def test_a_converted_model_transcribes_with_word_times(checkpoint: Path):
    model = WhisperModel(str(converted(checkpoint)), device="cpu", compute_type="int8")
    segments, info = model.transcribe(
        str(clip("en-busy").path),
        word_timestamps=True,
        beam_size=1,
        temperature=0,
        max_new_tokens=9,
    )
    assert info.language in model.supported_languages
    for segment in segments:
        assert segment.words is not None


def test_a_converted_model_can_be_quantised(checkpoint: Path):
    folder = converted(checkpoint)
    quantise(folder / "model.bin", folder / "model.bin", "int8_float16", progress=False)
    assert_aligns(folder)


def test_sharded_weights_give_the_same_model(checkpoints: Checkpoints, tmp_path, checkpoint):
    folder = checkpoints.random(tmp_path / "sharded" / "checkpoint", shard="5MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert_same(read(converted(folder) / "model.bin"), read(converted(checkpoint) / "model.bin"))


def test_pickled_weights_give_the_same_model(plain: Path, checkpoint: Path, tmp_path: Path):
    from tests.convert.checkpoints import pickled

    copy = Path(shutil.copytree(plain, tmp_path / "pickled" / "checkpoint"))
    folder = pickled(copy)
    assert_same(read(converted(folder) / "model.bin"), read(converted(checkpoint) / "model.bin"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_keep_their_format(checkpoints: Checkpoints, tmp_path: Path, dtype: str):
    folder = converted(checkpoints.random(tmp_path / "checkpoint", dtype=dtype))
    assert stored_type(folder / "model.bin") == dtype
    assert_aligns(folder)


def test_a_model_that_knows_only_english_is_one(checkpoints: Checkpoints, tmp_path: Path):
    tokens = {"pad_token_id": 50256, "bos_token_id": 50256, "eos_token_id": 50256}
    folder = converted(
        checkpoints.random(
            tmp_path / "checkpoint", vocab_size=51864, decoder_start_token_id=50257, **tokens
        )
    )
    assert_aligns(folder)
    assert not WhisperModel(str(folder), device="cpu", compute_type="int8").model.is_multilingual
    assert config(folder)["alignment_heads"][0] == [1, 0]
    assert config(folder)["suppress_ids_begin"] == [220, 50256]


def test_128_mels_and_a_hundred_languages_come_through(checkpoints: Checkpoints, tmp_path: Path):
    folder = checkpoints.random(tmp_path / "checkpoint", num_mel_bins=128, vocab_size=51866)
    add_cantonese(folder / "tokenizer.json")
    done = converted(folder)
    assert_aligns(done)
    model = WhisperModel(str(done), device="cpu", compute_type="int8")
    assert (model.model.n_mels, model.model.num_languages) == (128, 100)
    assert model.feature_extractor.mel_filters.shape[0] == 128
    assert len(config(done)["lang_ids"]) == 100


def add_cantonese(path: Path) -> None:
    """Make of the tokenizer of 99 languages one of a hundred, as large-v3 has."""
    tokenizer = json.loads(path.read_bytes())
    added = tokenizer["added_tokens"]
    place = next(i for i, token in enumerate(added) if token["content"] == "<|translate|>")
    new = added[place] | {"content": "<|yue|>"}
    for token in added[place:]:
        token["id"] += 1
    added.insert(place, new)
    path.write_text(json.dumps(tokenizer))


def test_a_distilled_model_gets_the_heads_that_it_has(checkpoints: Checkpoints, tmp_path: Path):
    folder = checkpoints.random(
        tmp_path / "checkpoint",
        decoder_layers=2,
        generation={"alignment_heads": [[2, 2], [3, 0]], "suppress_tokens": [1, 2]},
    )
    done = converted(folder)
    assert config(done)["alignment_heads"] == [[1, head] for head in range(6)]
    assert config(done)["suppress_ids"] == [1, 2]
    assert_aligns(done)


def test_an_older_tokenizer_becomes_one_that_says_the_same(checkpoint: Path):
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    path.unlink()
    model = tokenizer["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (checkpoint / "vocab.json").write_text(json.dumps(model["vocab"]))
    (checkpoint / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    names = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    added = {name: number for name, number in names.items() if name not in model["vocab"]}
    (checkpoint / "added_tokens.json").write_text(json.dumps(added))
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "WhisperTokenizer"}')
    folder = converted(checkpoint)
    assert_aligns(folder)
    assert config(folder)["lang_ids"] == list(range(50259, 50358))


def test_whisper_base_comes_back_as_it_was(weights: Path, base: Path):
    assert_same(read(base / "model.bin"), read(weights / "base" / "model.bin"))
    assert config(base) == config(weights / "base")
    vocabulary = (weights / "base" / "vocabulary.txt").read_text("utf-8").split("\n")[:-1]
    assert json.loads((base / "vocabulary.json").read_bytes()) == vocabulary


def test_whisper_base_says_the_words_and_when(base: Path):
    model = WhisperModel(str(base), device="cpu", compute_type="int8")
    segments, info = model.transcribe(str(clip("en-dashwood").path), word_timestamps=True)
    words = [word for segment in segments for word in segment.words or ()]
    assert info.language == "en"
    assert any("Dashwood" in word.word for word in words)
    assert all(0 <= word.start <= word.end <= clip("en-dashwood").seconds for word in words)


def assert_same(ours: Layout, theirs: Layout) -> None:
    """The same tables by the same names; later converters add single numbers."""
    ours_by_name, theirs_by_name = by_name(ours), by_name(theirs)
    assert theirs_by_name.keys() <= ours_by_name.keys()
    more = ours_by_name.keys() - theirs_by_name.keys()
    assert all(ours_by_name[name].shape == () for name in more)
    for name, tensor in theirs_by_name.items():
        np.testing.assert_array_equal(
            ours.values(ours_by_name[name]).array, theirs.values(tensor).array, err_msg=name
        )


def by_name(layout: Layout) -> dict[str, Any]:
    tensors = {tensor.name: tensor for tensor in layout.tensors}
    return tensors | {alias: tensors[name] for alias, name in layout.aliases}


# Where what a conversion needs is missing.


def test_without_torch_the_way_out_is_named(checkpoint: Path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from builder.convert import ConvertError, convert\n"
        "try:\n    convert(Path(sys.argv[1]), Path(sys.argv[2]), progress=False)\n"
        "except ConvertError as error:\n    print(error)\n"
    )
    into = checkpoint.with_name("converted")
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(into)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == (
        "a conversion needs builder/requirements.txt, and torch is not installed\n"
    )
    assert not into.exists()


def test_the_steps_show_in_a_bar(checkpoint: Path, capfd: pytest.CaptureFixture[str]):
    convert(checkpoint, checkpoint.with_name("converted"), progress=True)
    assert "checkpoint: converting: 100%" in capfd.readouterr().err
