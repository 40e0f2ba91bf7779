"""An upload arrives whole or fails with a reason, and tells nobody its secrets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping

import pytest
from tests.file_server import Answer, drip_headers, hang, raw, redirect, status
from tests.store_server import StoreServer, after_body, reset_after, taken

from sotto import __version__
from sotto.errors import UploadFailed
from sotto.net import Destination, Net, NetLimits

BODY = bytes(range(256)) * 4000
SIGNED = "?X-Signature=sesame"
REFUSAL = (
    b"<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code>"
    b"<StringToSign>sesame</StringToSign></Error>"
)


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer() as server:
        yield server


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the guard, as an operator may, so that 127.0.0.1 can be opened."""
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between attempts."""
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))


def net(**changes: float) -> Net:
    values = {"connect_timeout_s": 5, "read_timeout_s": 5, "fetch_timeout_s": 20, "max_bytes": 1}
    return Net(NetLimits(**(values | changes)))  # type: ignore[arg-type]


def put(
    url: str, headers: Mapping[str, str] | None = None, body: bytes = BODY, **changes: float
) -> None:
    net(**changes).put(Destination(url, headers or {}), body, threading.Event())


def failure(url: str, body: bytes = BODY, **changes: float) -> str:
    with pytest.raises(UploadFailed) as caught:
        put(url, body=body, **changes)
    message = str(caught.value)
    assert "sesame" not in message
    assert caught.value.__cause__ is None
    return message


# Refusals


@pytest.mark.parametrize("code", [301, 302, 303, 304, 400, 401, 403, 404, 405, 409, 411, 413, 501])
def test_a_refusal_is_passed_on_with_its_status_and_not_repeated(
    store: StoreServer, code: int
) -> None:
    store.answers["/a"] = [after_body(status(code, b"", Location="/b"))]
    message = failure(store.url(f"/a{SIGNED}"))
    assert message == f"{store.url('/a')}: the server answers {code}"
    assert len(store.requests) == 1


def test_a_refusal_of_an_s3_server_is_passed_on_with_its_code_alone(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(status(403, REFUSAL))]
    assert failure(store.url("/a")).endswith("the server answers 403 SignatureDoesNotMatch")


@pytest.mark.parametrize(
    "answer",
    [
        status(403, b"<Code>sesame" + b"x" * 10**6),
        status(403, b"<Code>se\x1b\nsame</Code>"),
        status(403, b"\x1f\x8bnot packed", Content_Encoding="gzip"),
        raw(b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n<Code>"),
    ],
)
def test_a_refusal_that_cannot_be_read_is_passed_on_by_its_status(
    store: StoreServer, answer: Answer
) -> None:
    store.answers["/a"] = [after_body(answer)]
    assert failure(store.url("/a")).endswith("the server answers 403")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_fault_of_the_server_is_tried_four_times(store: StoreServer, code: int) -> None:
    store.answers["/a"] = [after_body(status(code))]
    assert str(code) in failure(store.url(f"/a{SIGNED}"))
    assert len(store.requests) == 4


def test_a_server_that_fails_twice_is_forgiven(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(status(500)), after_body(status(500)), taken()]
    put(store.url("/a"))
    assert store.stored["/a"] == BODY
    assert [headers["Content-Length"] for _, headers in store.requests] == [str(len(BODY))] * 3


def test_nobody_listening_fails() -> None:
    with StoreServer() as store:
        url = store.url(f"/a{SIGNED}")
    assert "no connection" in failure(url)


def test_a_server_without_tls_is_no_https_server(store: StoreServer) -> None:
    assert "no secure connection" in failure(store.url("/a").replace("http:", "https:"))


def test_an_answer_that_is_not_http_fails(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(raw(b"\x00\x01garbage\r\n\r\n"))]
    failure(store.url("/a"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com:99999/a",
        "http://[::1/a",
        "http://a..b/a",
        f"http://{'a' * 64}.com/a",
        f"http://{'a' * 10**6}/a",
        f"http://127.0.0.1:1/{'a' * 10**6}",
        "http://127.0.0.1:1/\ud800",
        "http://\ud800/a",
        "http://a\x1b[31m/a",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_malformed_address_fails_with_a_message_that_can_be_shown(url: str) -> None:
    message = failure(url)
    assert message.isprintable()
    assert len(message) < 600


# Broken connections


def test_an_upload_that_breaks_midway_is_sent_again_whole(store: StoreServer) -> None:
    store.answers["/a"] = [reset_after(300_000), reset_after(len(BODY)), taken()]
    put(store.url("/a"))
    assert store.stored["/a"] == BODY
    assert len(store.requests) == 3


def test_an_upload_that_always_breaks_fails(store: StoreServer) -> None:
    store.answers["/a"] = [reset_after(1000)]
    assert "it broke" in failure(store.url(f"/a{SIGNED}"))
    assert len(store.requests) == 4


# Time


def deaf() -> Answer:
    """Never read the body; it is more than any buffer on the way takes."""
    return hang()


@pytest.mark.parametrize(
    "slow",
    [deaf(), after_body(hang()), after_body(drip_headers(0.02))],
    ids=["deaf", "mute", "drip"],
)
def test_the_total_time_ends_every_kind_of_slowness(store: StoreServer, slow: Answer) -> None:
    store.answers["/a"] = [slow]
    started = time.monotonic()
    message = failure(store.url(f"/a{SIGNED}"), bytes(30_000_000), fetch_timeout_s=0.5)
    assert "not done within 0.5 s" in message
    assert time.monotonic() - started < 5


def test_silence_of_the_server_is_a_failure(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(hang())]
    assert "does not answer" in failure(store.url("/a"), read_timeout_s=0.2)
    assert len(store.requests) == 4


@pytest.mark.parametrize(
    "slow", [deaf(), after_body(hang()), after_body(status(503))], ids=["deaf", "mute", "503"]
)
def test_a_cancellation_ends_the_upload_at_once(
    store: StoreServer, slow: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (30.0,))
    store.answers["/a"] = [slow]
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(UploadFailed, match="cancelled"):
        net().put(Destination(store.url("/a"), {}), bytes(30_000_000), cancelled)
    assert time.monotonic() - started < 4


# What arrives


@pytest.mark.parametrize("code", [200, 201, 204])
def test_the_body_arrives_whole_at_the_address_as_it_is(store: StoreServer, code: int) -> None:
    store.answers["/a%20b"] = [taken(code)]
    put(store.url("/a%20b?X-Credential=id%2F2026%2Fs3&X-Signature=a+b"))
    assert store.stored == {"/a%20b": BODY}
    assert store.paths() == ["/a%20b?X-Credential=id%2F2026%2Fs3&X-Signature=a+b"]


def test_a_large_body_arrives(store: StoreServer) -> None:
    body = BODY * 50
    put(store.url("/a"), body=body)
    assert store.stored["/a"] == body


def test_the_callers_headers_are_sent_and_none_that_a_signature_may_not_expect(
    store: StoreServer,
) -> None:
    put(store.url("/a"), {"x-ms-blob-type": "BlockBlob"})
    sent = store.requests[0][1]
    assert sent["x-ms-blob-type"] == "BlockBlob"
    assert sent["User-Agent"] == f"Sotto/{__version__}"
    assert sent["Content-Length"] == str(len(BODY))
    assert not {"Content-Type", "Transfer-Encoding", "Authorization"} & sent.keys()


def test_a_password_in_the_address_is_used_and_never_shown(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(status(500))]
    failure(store.url(f"/a{SIGNED}").replace("://", "://user:sesame@"))
    assert store.requests[0][1]["Authorization"].startswith("Basic ")


def test_no_thread_is_left_behind(store: StoreServer) -> None:
    put(store.url("/a"))
    assert "sotto-watch" not in {thread.name for thread in threading.enumerate()}


# Redirects


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirect_within_the_origin_takes_body_and_headers_along(
    store: StoreServer, code: int
) -> None:
    store.answers["/a"] = [after_body(redirect("/b?x=1", code))]
    put(store.url("/a"), {"Authorization": "Bearer sesame"})
    assert store.stored == {"/b": BODY}
    assert [headers["Authorization"] for _, headers in store.requests] == ["Bearer sesame"] * 2


def test_the_callers_headers_stay_behind_when_a_redirect_leaves_the_origin(
    store: StoreServer,
) -> None:
    with StoreServer() as elsewhere:
        store.answers["/a"] = [after_body(redirect(elsewhere.url("/b"), 307))]
        put(store.url("/a"), {"Authorization": "Bearer sesame", "X-Key": "sesame"})
        sent = elsewhere.requests[0][1]
        assert elsewhere.stored["/b"] == BODY
    assert not {"Authorization", "X-Key"} & sent.keys()


def test_an_endless_redirect_fails(store: StoreServer) -> None:
    store.answers["/a"] = [after_body(redirect(f"/a{SIGNED}", 307))]
    assert "redirects" in failure(store.url("/a"))
    assert len(store.requests) == 6


# The operator's own store


def test_the_operators_store_may_be_private(
    store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS")
    net().put(Destination(store.url("/a"), {}, by_operator=True), BODY, threading.Event())
    assert store.stored["/a"] == BODY


def test_what_the_operators_store_redirects_to_is_guarded(
    store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS")
    with StoreServer() as elsewhere:
        store.answers["/a"] = [after_body(redirect(elsewhere.url("/b"), 307))]
        with pytest.raises(UploadFailed, match="not on the public internet"):
            net().put(Destination(store.url("/a"), {}, by_operator=True), BODY, threading.Event())
        assert elsewhere.requests == []


def test_an_operators_store_that_does_not_exist_fails() -> None:
    with pytest.raises(UploadFailed, match="no connection"):
        net().put(
            Destination("http://no-such-host.invalid/a", {}, by_operator=True),
            BODY,
            threading.Event(),
        )


# Secrets


def test_nothing_is_logged_of_a_signature_even_at_debug(
    store: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store.answers["/a"] = [after_body(status(503)), after_body(redirect(f"/b{SIGNED}", 307))]
    put(store.url(f"/a{SIGNED}"), {"Authorization": "sesame"})
    assert "sesame" not in caplog.text


def test_a_destination_does_not_show_itself() -> None:
    shown = repr(Destination("http://user:sesame@host/a", {"Authorization": "sesame"}))
    assert "sesame" not in shown
