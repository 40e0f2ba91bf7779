"""What the hub tells of a repository, and what becomes of a hub that does not."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator

import pytest
from builder import hub as asked
from builder.hub import Offer, look_up
from builder.layout import Kind
from tests.hub_server import API, Fault, HubServer

from sotto.models.fetch import FetchError, Hub

COMMIT = "0123456789" * 4
FILES = {
    "README.md": b"# a model",
    "model.bin": b"weights",
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "vocabulary.txt": b"a\n",
}
CHECKPOINT = {
    "config.json": b"{}",
    "merges.txt": b"",
    "model.safetensors": b"weights",
    "optimizer.pt": b"x",
}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(files=dict(FILES), commit=COMMIT) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "RETRY_WAIT_S", 0.0)


def look(hub: HubServer, revision: str = "main", token: str | None = None) -> Offer:
    return look_up("owner/pico", revision, "pico", Hub(hub.endpoint, token))


def told(hub: HubServer, revision: str = "main", token: str | None = None) -> str:
    with pytest.raises(FetchError) as caught:
        look(hub, revision, token)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("owner/pico: ")
    return str(caught.value).removeprefix("owner/pico: ")


# --- refusals ----------------------------------------------------------------------------------


def test_a_repository_that_is_not_there_is_told(hub: HubServer) -> None:
    hub.commit = ""
    assert told(hub) == f"is not on {hub.endpoint}, or has no revision 'main'"


@pytest.mark.parametrize("revision", ["nope", "refs/pr/1", "../../api", "f" * 40, "v1 ?&#", "ü"])
def test_a_revision_that_is_not_there_is_told(hub: HubServer, revision: str) -> None:
    assert told(hub, revision) == f"has no revision {revision!r}"


def test_without_a_token_a_hidden_repository_asks_for_one(hub: HubServer) -> None:
    hub.token = "hf_secret"
    said = told(hub)
    assert said.startswith(f"is not on {hub.endpoint}, or private; then it wants a token (401)")
    assert said.endswith("give HF_TOKEN, in an image's build the secret HF_TOKEN")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told_without_showing_it(hub: HubServer, status: int) -> None:
    hub.faults[API] = [Fault(status=status)]
    said = told(hub, token="hf_secret")
    assert f"refuses the token in HF_TOKEN ({status})" in said
    assert "hf_secret" not in said


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec ret", "hf_sécret", "hf_\x00"])
def test_what_cannot_be_a_token_is_never_sent_or_shown(hub: HubServer, token: str) -> None:
    assert "the token has characters that no token has" in told(hub, token=token)
    assert hub.seen == []


@pytest.mark.parametrize("gated", ["auto", "manual", True])
def test_a_gated_repository_needs_a_token_before_anything_is_fetched(
    hub: HubServer, gated: object
) -> None:
    hub.about["gated"] = gated
    assert told(hub) == (
        "is gated; wants a token (401); give HF_TOKEN, in an image's build the secret HF_TOKEN"
    )
    assert look(hub, token="hf_secret").kind is Kind.READY


def test_another_architecture_is_refused_by_what_the_hub_tells(hub: HubServer) -> None:
    hub.about["config"] = {"model_type": "wav2vec2"}
    assert told(hub) == "is a model of type 'wav2vec2'; Whisper is needed"


def test_a_repository_without_weights_is_refused(hub: HubServer) -> None:
    del hub.files["model.bin"]
    assert told(hub).startswith("has no weights; one of these is needed: model.bin, ")


def test_a_repository_that_lacks_a_part_is_refused(hub: HubServer) -> None:
    del hub.files["vocabulary.txt"]
    assert told(hub) == "lacks vocabulary.json or vocabulary.txt"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>please log in</html>", b"[]", b"{}", b"\xff", b"null"),
        *(b'{"sha": "\xff"}', b"[" * 100_000),
        json.dumps({"sha": "main", "siblings": []}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": 7}]}).encode(),
        json.dumps(
            {"sha": COMMIT, "siblings": [{"rfilename": "model.bin", "lfs": {"sha256": "x"}}]}
        ).encode(),
    ],
    ids=lambda body: repr(body[:60]),
)
def test_an_answer_that_is_no_hubs_is_told(hub: HubServer, body: bytes) -> None:
    hub.faults[API] = [Fault(body=body)]
    assert told(hub).startswith(f"{hub.endpoint} answers as no hub does: ")


def test_a_hub_in_trouble_is_told_after_a_few_tries(hub: HubServer) -> None:
    hub.faults[API] = [Fault(status=503)] * 9
    assert told(hub) == f"{hub.endpoint} answers 503 Service Unavailable"
    assert 2 <= len(hub.seen) <= 5


def test_a_hub_that_cannot_be_reached_is_told_in_a_few_words() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(FetchError) as caught:
        look_up("owner/pico", "main", "pico", Hub(endpoint))
    assert str(caught.value) == f"owner/pico: {endpoint} cannot be asked: Connection refused"


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/7", COMMIT])
def test_whatever_was_asked_for_is_fixed_by_its_commit(hub: HubServer, revision: str) -> None:
    hub.branches = ("main", "v1.0", "refs/pr/7")
    assert look(hub, revision).model.revision == COMMIT


def test_the_files_come_with_sizes_and_the_digests_that_the_hub_knows(hub: HubServer) -> None:
    offer = look(hub)
    assert offer.kind is Kind.READY
    files = {file.name: file for file in offer.model.files}
    assert list(files) == ["config.json", "tokenizer.json", "vocabulary.txt", "model.bin"]
    assert files["model.bin"].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert files["model.bin"].size_bytes == len(b"weights")
    assert files["config.json"].sha256 is None
    assert not any(file.optional for file in files.values())


def test_a_checkpoint_is_one(hub: HubServer) -> None:
    hub.files = dict(CHECKPOINT)
    hub.about["config"] = {"model_type": "whisper"}
    offer = look(hub)
    assert offer.kind is Kind.CHECKPOINT
    assert [file.name for file in offer.model.files] == [
        "config.json",
        "merges.txt",
        "model.safetensors",
    ]
    assert offer.model.files[1].size_bytes is None


def test_openais_checkpoint_is_one(hub: HubServer) -> None:
    hub.files = {"large.pt": b"x", "runs/last.pt": b"x", "README.md": b"x"}
    offer = look(hub)
    assert offer.kind is Kind.OPENAI
    assert [file.name for file in offer.model.files] == ["large.pt"]


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "other", "license_name": "mine"}, "mine"),
        ({"license": "other"}, "other"),
        ({"license": "a\nb\tc"}, "a b c"),
        ({"license": "x" * 9999}, "x" * 80),
        ({"license": ["mit", "apache-2.0"]}, "unknown"),
        ({"license": " "}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_the_cards(hub: HubServer, card: object, licence: str) -> None:
    hub.about["cardData"] = card
    assert look(hub).model.licence == licence


def test_a_passing_trouble_is_waited_out(hub: HubServer) -> None:
    hub.faults[API] = [Fault(status=503), Fault(status=429)]
    assert look(hub).model.name == "pico"


def test_the_token_follows_a_renamed_repository_but_goes_to_no_other_host(hub: HubServer) -> None:
    hub.token = "hf_secret"
    hub.faults[API] = [Fault(redirect=f"/api/models/owner/renamed/revision/{COMMIT}?blobs=true")]
    assert look(hub, token="hf_secret").model.revision == COMMIT
    with HubServer(files=dict(FILES), commit=COMMIT) as other:
        for elsewhere in (f"http://localhost:{other.port}", other.endpoint):
            hub.faults[API] = [Fault(redirect=f"{elsewhere}/api/models/o/p/revision/main")]
            look(hub, token="hf_secret")
        assert [request.headers.get("authorization") for request in other.seen] == [None, None]


def test_it_says_who_asks(hub: HubServer) -> None:
    look(hub)
    (request,) = hub.seen
    assert request.path == "/api/models/owner/pico/revision/main?blobs=true"
    assert request.headers["user-agent"].startswith("sotto/")
    assert "authorization" not in request.headers
