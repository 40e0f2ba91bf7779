"""A checkpoint of OpenAI's own package becomes the model that the same weights make otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builder.checkpoint import ConvertError
from builder.convert import convert
from builder.making import DEFAULT, BakeError
from builder.model_bin import read
from builder.openai_checkpoint import translate
from builder.origin import Wanted, find
from builder.quantise import stored_type
from builder.steps import bake
from faster_whisper import WhisperModel
from tests.convert.test_convert import assert_same, config
from tests.hub_server import HubServer
from tests.speech_data import clip

from sotto.models.fetch import FetchError, Hub
from sotto.models.record import faults, sha256_of

if TYPE_CHECKING:
    from tests.convert.checkpoints import Checkpoints

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(300),
    # torch and transformers warn of what they themselves do.
    pytest.mark.filterwarnings("default"),
]

NOWHERE = Hub("http://127.0.0.1:9")
COMMIT = "0123456789" * 4
Content = dict[str, Any]


@pytest.fixture(scope="module")
def small(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of random weights, as the transformers library saves it."""
    return checkpoints.random(tmp_path_factory.mktemp("small") / "checkpoint")


@pytest.fixture
def content(small: Path) -> Content:
    """The same in OpenAI's terms; a test may change it."""
    from tests.convert.checkpoints import openais

    return openais(small)


@pytest.fixture(scope="module")
def file(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper base as OpenAI's package has it, alone in its folder."""
    from tests.convert.checkpoints import openais

    return saved(tmp_path_factory.mktemp("file") / "base.pt", openais(real))


def saved(path: Path, content: object, **options: Any) -> Path:
    import torch

    path.parent.mkdir(exist_ok=True)
    torch.save(content, path, **options)
    return path


def baked(source: Path, into: Path, compute_type: str = DEFAULT, hub: Hub = NOWHERE) -> bool:
    return bake(find(Wanted(str(source), into.name), hub), into, compute_type, hub)


def with_tokenizer(checkpoints: Checkpoints, path: Path, name: str = "base") -> Path:
    """The folder of `path`, with a tokenizer in it."""
    shutil.copyfile(checkpoints.tokenizer(name), path.parent / "tokenizer.json")
    return path.parent


def refused(source: Path, tmp_path: Path) -> str:
    """Why a bake fails, which leaves nothing but what was there."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((BakeError, ConvertError, FetchError)) as told:
        baked(source, tmp_path / "w" / "x")
    left = [path for path in sorted(tmp_path.rglob("*")) if path.suffix != ".lock"]
    assert [path for path in left if path != tmp_path / "w"] == before
    assert "\n" not in str(told.value)
    assert "\x1b" not in str(told.value)
    return str(told.value)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


# --- what cannot be read -----------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04", bytes(range(256)) * 8, b"\x80\x02."])
def test_what_is_no_checkpoint_is_told(checkpoints: object, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "large.pt"
    path.write_bytes(data)
    assert refused(path, tmp_path).startswith("large.pt cannot be converted: ")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_told(
    content: Content, tmp_path: Path, share: float, zipped: bool
) -> None:
    path = saved(tmp_path / "large.pt", content, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refused(path, tmp_path).startswith("large.pt cannot be converted: ")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["dims", "model_state_dict", "more"])
def test_code_in_it_is_not_run(content: Content, tmp_path: Path, place: str, zipped: bool) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    content[place] = Evil()
    path = saved(tmp_path / "large.pt", content, _use_new_zipfile_serialization=zipped)
    assert refused(path, tmp_path) == (
        "large.pt cannot be converted: damaged, or with code in it, which is not run"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.pop("dims"), "Object missing required field `dims`"),
        (lambda content: content.pop("model_state_dict"), "missing required field `model_state"),
        (lambda content: content["dims"].pop("n_mels"), "missing required field `n_mels` - at"),
        (lambda content: content["dims"].update(n_vocab="many"), "`$.dims.n_vocab`"),
        (lambda content: content["dims"].update(n_text_layer=0), "`$.dims.n_text_layer`"),
        (lambda content: content["dims"].update(n_text_layer=10**9), "`$.dims.n_text_layer`"),
        (lambda content: content["dims"].update(n_text_layer=1.5), "`$.dims.n_text_layer`"),
        (lambda content: content.update(dims=[80]), "`$.dims`"),
        (lambda content: content.update(model_state_dict=7), "`$.model_state_dict`"),
        (lambda content: content["model_state_dict"].update({7: 8}), "`$.model_state_dict`"),
    ],
)
def test_a_file_of_something_else_is_told(
    content: Content, tmp_path: Path, change: Callable[[Content], object], told: str
) -> None:
    change(content)
    said = refused(saved(tmp_path / "large.pt", content), tmp_path)
    assert said.startswith("large.pt: is no checkpoint of OpenAI's Whisper: ")
    assert told in said


@pytest.mark.parametrize("content", [None, 7, [1], "text"])
def test_a_file_of_one_value_is_told(checkpoints: object, tmp_path: Path, content: object) -> None:
    said = refused(saved(tmp_path / "large.pt", content), tmp_path)
    assert said.startswith("large.pt: is no checkpoint of OpenAI's Whisper: Expected `object`")


def test_a_lone_tensor_is_told(checkpoints: object, tmp_path: Path) -> None:
    import torch

    said = refused(saved(tmp_path / "large.pt", torch.zeros(3)), tmp_path)
    assert said.startswith("large.pt: is no checkpoint of OpenAI's Whisper: Expected `object`")


@pytest.mark.parametrize(
    ("dims", "told"),
    [
        ({"n_audio_ctx": 750}, "dims: n_audio_ctx: 750 must be 1500"),
        ({"n_text_ctx": 224}, "dims: n_text_ctx: 224 must be 448"),
        ({"n_text_state": 32}, "dims: n_text_state: 32 must be 96"),
        ({"n_audio_head": 5}, "dims: n_audio_head: 5 does not divide the 96 of n_audio_state"),
        ({"n_text_head": 128}, "dims: n_text_head: 128 does not divide the 96 of n_audio_state"),
        (
            {"n_mels": 128},
            "encoder.conv1.weight is of the shape (96, 80, 3); "
            "by its dims it should be (96, 128, 3)",
        ),
        (
            {"n_vocab": 51864},
            "decoder.token_embedding.weight is of the shape (51865, 96); "
            "by its dims it should be (51864, 96)",
        ),
        ({"n_text_layer": 5}, "lacks decoder.blocks.4.attn.query.weight"),
        ({"n_audio_layer": 900_000}, "lacks encoder.blocks.4.attn.query.weight"),
        (
            {"n_audio_layer": 3},
            "has 'encoder.blocks.3.attn.key.weight', which such a model has not",
        ),
    ],
)
def test_dimensions_that_do_not_fit_are_told(
    checkpoints: Checkpoints, content: Content, tmp_path: Path, dims: dict[str, int], told: str
) -> None:
    content["dims"] |= dims
    path = saved(tmp_path / "own" / "large.pt", content)
    name = "tiny.en" if content["dims"]["n_vocab"] == 51864 else "base"
    assert refused(with_tokenizer(checkpoints, path, name), tmp_path) == f"large.pt: {told}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda torch: None, "lacks decoder.ln.weight"),
        (lambda torch: [1.0] * 96, "lacks decoder.ln.weight"),
        (lambda torch: torch.zeros(95), "decoder.ln.weight is of the shape (95,)"),
        (lambda torch: torch.zeros(96, dtype=torch.int8), "decoder.ln.weight is stored as int8; "),
        (lambda torch: torch.zeros(96, dtype=torch.float64), "is stored as float64; float32, "),
        (lambda torch: torch.zeros(96).to_sparse(), "is stored as no plain table; "),
        (lambda torch: torch.zeros(96, device="meta"), "is stored as no plain table; "),
    ],
)
def test_a_tensor_that_is_none_is_told(
    checkpoints: Checkpoints,
    content: Content,
    tmp_path: Path,
    value: Callable[[Any], object],
    told: str,
) -> None:
    import torch

    content["model_state_dict"]["decoder.ln.weight"] = value(torch)
    path = saved(tmp_path / "own" / "large.pt", content)
    assert told in refused(with_tokenizer(checkpoints, path), tmp_path)


def test_a_tensor_that_is_larger_than_what_is_stored_of_it_is_told(
    checkpoints: Checkpoints, content: Content, tmp_path: Path
) -> None:
    import torch

    content["model_state_dict"]["decoder.token_embedding.weight"] = torch.zeros(1).expand(51865, 96)
    path = saved(tmp_path / "own" / "large.pt", content)
    said = refused(with_tokenizer(checkpoints, path), tmp_path)
    assert said == "large.pt: its tensors are larger than the file"


def test_another_models_tokenizer_is_told(
    checkpoints: Checkpoints, content: Content, tmp_path: Path
) -> None:
    path = saved(tmp_path / "own" / "large.pt", content)
    said = refused(with_tokenizer(checkpoints, path, "tiny.en"), tmp_path)
    assert said.startswith("tokenizer.json: is another model's: it has 50363 tokens, ")


@pytest.mark.parametrize("text", ["", "{}", '{"model": '])
def test_a_damaged_tokenizer_is_told(content: Content, tmp_path: Path, text: str) -> None:
    path = saved(tmp_path / "own" / "large.pt", content)
    (path.parent / "tokenizer.json").write_text(text)
    assert refused(path.parent, tmp_path).startswith("tokenizer.json cannot be converted: ")


def test_a_vocabulary_of_nobodys_needs_a_tokenizer_beside_it(
    content: Content, tmp_path: Path
) -> None:
    content["dims"]["n_vocab"] = 1000
    assert refused(saved(tmp_path / "large.pt", content), tmp_path) == (
        "x: no model of the catalogue has 1000 tokens, as large.pt has; put its tokenizer.json "
        "beside it, into a folder of their own"
    )


def test_a_tokenizer_that_cannot_be_had_is_told(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    said = refused(saved(tmp_path / "large.pt", content), tmp_path)
    assert said.startswith("base: no source could give it; http://127.0.0.1:9: tokenizer.json: ")


# --- what can ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_random_weights_make_the_same_model_either_way(
    checkpoints: Checkpoints, small: Path, content: Content, tmp_path: Path, zipped: bool
) -> None:
    path = saved(tmp_path / "x.pt", content, _use_new_zipfile_serialization=zipped)
    translate(path, checkpoints.tokenizer("base"), tmp_path / "translated")
    convert(tmp_path / "translated", tmp_path / "one", progress=False)
    convert(small, tmp_path / "other", progress=False)
    one, other = (read(tmp_path / name / "model.bin") for name in ("one", "other"))
    assert_same(one, other)
    assert_same(other, one)
    assert config(tmp_path / "one") | {"suppress_ids": []} == config(tmp_path / "other")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_numbers_keep_their_type_and_lone_others_get_it(
    checkpoints: Checkpoints, content: Content, tmp_path: Path, kind: str
) -> None:
    import torch

    state = content["model_state_dict"]
    positions = state["encoder.positional_embedding"]
    narrow = {name: tensor.to(getattr(torch, kind)) for name, tensor in state.items()}
    content["model_state_dict"] = narrow | {"encoder.positional_embedding": positions}
    path = saved(tmp_path / "x.pt", content)
    translate(path, checkpoints.tokenizer("base"), tmp_path / "translated")
    convert(tmp_path / "translated", tmp_path / "one", progress=False)
    assert stored_type(tmp_path / "one" / "model.bin") == kind


def test_whisper_base_is_baked_as_it_was_with_the_catalogues_tokenizer(
    weights: Path, file: Path, tmp_path: Path
) -> None:
    tokenizer = (weights / "base" / "tokenizer.json").read_bytes()
    into = tmp_path / "w" / "base"
    with HubServer(files={"tokenizer.json": tokenizer}) as server:
        assert baked(file, into, hub=Hub(server.endpoint))
        assert [request.file for request in server.seen] == ["tokenizer.json"]
        assert "/Systran/faster-whisper-base/resolve/" in server.seen[0].path
    assert not baked(file, into)
    assert_same(read(into / "model.bin"), read(weights / "base" / "model.bin"))
    assert config(into) == config(weights / "base")
    assert (into / "tokenizer.json").read_bytes() == tokenizer
    said = record(into)
    assert (said["name"], said["repository"], said["licence"]) == ("base", "", "unknown")
    assert said["made_from"] == sha256_of(file)
    assert (said["mels"], said["languages"], said["alignment_heads"]) == (80, 99, True)
    assert faults(into) == []
    assert [path.name for path in into.parent.iterdir() if path.suffix != ".lock"] == ["base"]
    assert [path.name for path in file.parent.iterdir()] == ["base.pt"]


def test_a_folder_with_its_tokenizer_needs_nobody_and_says_the_same_words(
    checkpoints: Checkpoints, weights: Path, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "base.pt").symlink_to(file)
    folder = with_tokenizer(checkpoints, tmp_path / "own" / "base.pt")
    assert baked(folder, tmp_path / "w" / "base", "int8")
    assert record(tmp_path / "w" / "base")["compute_type"] == "int8"
    assert tokens(tmp_path / "w" / "base") == tokens(weights / "base")


def test_a_repository_on_the_hub_may_hold_one(
    checkpoints: Checkpoints, file: Path, tmp_path: Path
) -> None:
    files = {
        "large.pt": file.read_bytes(),
        "tokenizer.json": checkpoints.tokenizer("base").read_bytes(),
    }
    into = tmp_path / "w" / "tuned"
    with HubServer(files=files, commit=COMMIT) as server:
        hub = Hub(server.endpoint)
        assert bake(find(Wanted("owner/tuned"), hub), into, "int8", hub)
    said = record(into)
    assert (said["repository"], said["revision"]) == ("owner/tuned", COMMIT)
    assert said["files"]["model.bin"]["source"] == "converted and quantised"
    assert [path.name for path in into.parent.iterdir() if path.suffix != ".lock"] == ["tuned"]


def tokens(folder: Path) -> list[list[int]]:
    """What a model hears in a clip, by segment."""
    model = WhisperModel(str(folder), device="cpu", compute_type="int8")
    segments, _ = model.transcribe(str(clip("en-young-man").path), beam_size=1)
    return [segment.tokens for segment in segments]
