from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from tests.file_server import (
    FileServer,
    Handler,
    drip,
    drip_headers,
    hang,
    raw,
    redirect,
    status,
    whole,
)

from sotto import __version__
from sotto.errors import (
    AudioEmpty,
    AudioUndecodable,
    RequestError,
    SottoError,
    SourceForbidden,
    SourceTimeout,
    SourceTooLarge,
    SourceUnreachable,
)
from sotto.net import Net, NetLimits, check_headers, shown

BODY = bytes(range(256)) * 4000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the guard, as an operator may, so that 127.0.0.1 can be fetched."""
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between attempts."""
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))


def limits(**changes: float) -> NetLimits:
    values = {
        "connect_timeout_s": 5,
        "read_timeout_s": 5,
        "fetch_timeout_s": 20,
        "max_bytes": 10**7,
    }
    return NetLimits(**(values | changes))  # type: ignore[arg-type]


def fetch(url: str, headers: Mapping[str, str] | None = None, **changes: float) -> bytes:
    into = io.BytesIO()
    Net(limits(**changes)).fetch(url, headers or {}, into, threading.Event())
    return into.getvalue()


def failure(url: str, kind: type[SottoError], **changes: float) -> str:
    with pytest.raises(kind) as caught:
        fetch(url, **changes)
    assert type(caught.value) is kind
    return str(caught.value)


# The guard


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.wav",
        "http://localhost/a.wav",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.wav",
        "http://[::ffff:127.0.0.1]/a.wav",
        "http://10.1.2.3/a.wav",
        "https://192.168.0.1/a.wav",
        "http://100.64.0.1/a.wav",
        "http://0.0.0.0/a.wav",
        "http://2130706433/a.wav",
        "http://0x7f.1/a.wav",
        "http://user:secret@127.0.0.1/a.wav",
        "file:///etc/passwd",
        "ftp://example.com/a.wav",
        "gopher://example.com/",
        "http:///a.wav",
        "//example.com/a.wav",
        "a.wav",
    ],
)
def test_an_address_that_is_not_public_http_is_forbidden(url: str) -> None:
    assert "secret" not in failure(url, SourceForbidden)


def test_a_private_address_is_not_even_touched(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    failure(server.url("/a.wav"), SourceForbidden)
    assert server.requests == []


def test_a_redirect_to_a_private_address_is_forbidden(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = pytest.importorskip("runpod.serverless.utils.rp_ssrf")
    truth = guard.is_safe_address
    monkeypatch.setattr(guard, "is_safe_address", lambda ip: ip == "127.0.0.1" or truth(ip))
    server.answers["/"] = [redirect("http://169.254.169.254/latest?token=abc")]
    message = failure(server.url("/"), SourceForbidden)
    assert message.startswith("http://169.254.169.254/latest: ")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:audio/wav,x"])
@pytest.mark.usefixtures("private")
def test_a_redirect_out_of_http_is_forbidden(server: FileServer, target: str) -> None:
    server.answers["/"] = [redirect(target)]
    failure(server.url("/"), SourceForbidden)


def test_a_proxy_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@10.0.0.1:3128")
    message = failure("http://example.com/a.wav", SourceForbidden)
    assert "proxy" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com:99999/a.wav",
        "http://example.com:port/a.wav",
        "http://[::1/a.wav",
        "http://a..b/a.wav",
        f"http://{'a' * 64}.com/a.wav",
    ],
)
def test_a_malformed_address_is_unreachable(url: str) -> None:
    failure(url, SourceUnreachable)


@pytest.mark.usefixtures("patient")
def test_a_host_that_does_not_exist_is_unreachable() -> None:
    assert "host" in failure("http://no-such-host.invalid/a.wav", SourceUnreachable)


# The answer


@pytest.mark.usefixtures("private")
def test_the_file_arrives_whole(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    assert fetch(server.url("/a.wav?signature=abc")) == BODY
    path, headers = server.requests[0]
    assert path == "/a.wav?signature=abc"
    assert headers["User-Agent"] == f"Sotto/{__version__}"
    assert headers["Host"] == f"127.0.0.1:{server.port}"


@pytest.mark.usefixtures("private")
def test_a_body_without_a_length_arrives(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, length=None)]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.parametrize("length", ["-5", "abc"])
@pytest.mark.usefixtures("private")
def test_a_length_that_is_no_number_is_ignored(server: FileServer, length: str) -> None:
    server.answers["/a.wav"] = [whole(BODY, length=length)]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private")
def test_a_chunked_body_arrives(server: FileServer) -> None:
    server.answers["/a.wav"] = [
        raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nRIFFa\r\n4\r\nbcde\r\n0\r\n\r\n"
        )
    ]
    assert fetch(server.url("/a.wav")) == b"RIFFabcde"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, SourceForbidden),
        (403, SourceForbidden),
        (404, SourceUnreachable),
        (410, SourceUnreachable),
        (418, SourceUnreachable),
        (206, SourceUnreachable),
        (304, SourceUnreachable),
        (204, AudioEmpty),
    ],
)
@pytest.mark.usefixtures("private")
def test_a_refusal_is_passed_on_with_its_status_and_not_repeated(
    server: FileServer, code: int, kind: type[SottoError]
) -> None:
    server.answers["/a.wav"] = [status(code)]
    message = failure(server.url("/a.wav?signature=abc"), kind)
    assert str(code) in message
    assert "signature" not in message
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.usefixtures("private", "patient")
def test_a_fault_of_the_server_is_tried_four_times(server: FileServer, code: int) -> None:
    server.answers["/a.wav"] = [status(code)]
    assert str(code) in failure(server.url("/a.wav"), SourceUnreachable)
    assert len(server.requests) == 4


@pytest.mark.usefixtures("private", "patient")
def test_a_server_that_recovers_is_forgiven(server: FileServer) -> None:
    server.answers["/a.wav"] = [status(503), status(429), whole(BODY)]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private", "patient")
def test_nobody_listening_is_unreachable() -> None:
    with FileServer() as server:
        url = server.url("/a.wav")
    assert "no connection" in failure(url, SourceUnreachable)


@pytest.mark.usefixtures("private")
def test_a_server_without_tls_is_no_https_server(server: FileServer) -> None:
    url = server.url("/a.wav").replace("http:", "https:")
    assert "no secure connection" in failure(url, SourceUnreachable)


@pytest.mark.usefixtures("private", "patient")
def test_an_answer_that_is_not_http_is_unreachable(server: FileServer) -> None:
    server.answers["/a.wav"] = [raw(b"\x00\x01garbage\r\n\r\n")]
    failure(server.url("/a.wav"), SourceUnreachable)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "audio/wav"),
        (b"\xef\xbb\xbf\n <HTML><body>x</body></html>", None),
        (b"Please sign in", "text/html; charset=utf-8"),
        ("Öffnen Sie".encode(), "Application/XHTML+xml"),
    ],
)
@pytest.mark.usefixtures("private")
def test_a_web_page_is_called_one(
    server: FileServer, body: bytes, content_type: str | None
) -> None:
    server.answers["/a.wav"] = [whole(body, content_type=content_type)]
    assert "web page" in failure(server.url("/a.wav"), AudioUndecodable)


@pytest.mark.usefixtures("private")
def test_sound_that_is_labelled_a_web_page_is_taken(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, content_type="text/html")]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.parametrize("length", [-1, None])
@pytest.mark.usefixtures("private")
def test_an_empty_body_is_empty_audio(server: FileServer, length: int | None) -> None:
    server.answers["/a.wav"] = [whole(b"", length=length)]
    failure(server.url("/a.wav"), AudioEmpty)


# Size


@pytest.mark.usefixtures("private")
def test_a_declared_size_over_the_limit_is_refused_unread(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(b"RIFF", length=10**12)]
    assert "more than 1000 bytes" in failure(server.url("/a.wav"), SourceTooLarge, max_bytes=1000)


@pytest.mark.usefixtures("private")
def test_an_undeclared_size_is_counted(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, length=None)]
    failure(server.url("/a.wav"), SourceTooLarge, max_bytes=len(BODY) - 1)
    assert fetch(server.url("/a.wav"), max_bytes=len(BODY)) == BODY


@pytest.mark.usefixtures("private")
def test_a_packed_body_is_counted_unpacked(server: FileServer) -> None:
    import gzip

    bomb = gzip.compress(bytes(5_000_000))
    server.answers["/a.wav"] = [status(200, bomb, Content_Encoding="gzip")]
    failure(server.url("/a.wav"), SourceTooLarge, max_bytes=100_000)
    assert fetch(server.url("/a.wav")) == bytes(5_000_000)


# Broken connections


@pytest.mark.usefixtures("private", "patient")
def test_a_broken_download_goes_on_where_it_broke(server: FileServer) -> None:
    server.answers["/a.wav"] = [
        whole(BODY, etag='"1"', break_after=300_000),
        whole(BODY, etag='"1"', break_after=200_000),
        whole(BODY, etag='"1"'),
    ]
    assert fetch(server.url("/a.wav")) == BODY
    assert [headers.get("Range") for _, headers in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=500000-",
    ]
    assert server.requests[1][1]["If-Range"] == '"1"'


@pytest.mark.parametrize("tells_total", [True, False])
@pytest.mark.usefixtures("private", "patient")
def test_a_rest_that_comes_in_parts_is_asked_for_to_its_end(
    server: FileServer, tells_total: bool
) -> None:
    handles: list[int] = []
    part = whole(BODY, etag='"1"', longest_range=300_000, tells_total=tells_total)

    def counted(handler: Handler) -> None:
        handles.append(open_files())
        part(handler)

    server.answers["/a.wav"] = [whole(BODY, etag='"1"', break_after=100_000), counted]
    assert fetch(server.url("/a.wav")) == BODY
    asked = [headers.get("Range") for _, headers in server.requests]
    assert asked == [None, *(f"bytes={start}-" for start in (100_000, 400_000, 700_000, 1_000_000))]
    assert handles[-1] == handles[0]


@pytest.mark.parametrize(("crumb", "received"), [(0, 1000), (1, 1003)])
@pytest.mark.usefixtures("private", "patient")
def test_a_rest_that_comes_in_crumbs_or_not_at_all_is_a_broken_download(
    server: FileServer, crumb: int, received: int
) -> None:
    server.answers["/a.wav"] = [
        whole(BODY, etag='"1"', break_after=1000),
        whole(BODY, etag='"1"', longest_range=crumb),
    ]
    assert f"{received} of {len(BODY)}" in failure(server.url("/a.wav"), SourceUnreachable)
    assert len(server.requests) == 4


@pytest.mark.usefixtures("private")
def test_a_length_beside_chunks_is_not_believed(server: FileServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 999\r\n\r\n"
    server.answers["/a.wav"] = [raw(head + b"4\r\nRIFF\r\n0\r\n\r\n")]
    assert fetch(server.url("/a.wav")) == b"RIFF"
    assert len(server.requests) == 1


@pytest.mark.parametrize("said", [None, "", "bytes */9", "bytes 1000-", "items 1000-1999/2000"])
@pytest.mark.usefixtures("private", "patient")
def test_a_part_that_does_not_say_where_it_belongs_is_not_joined(
    server: FileServer, said: str | None
) -> None:
    def vague(handler: Handler) -> None:
        handler.head(206, ETag='"1"', Content_Range=said, Content_Length=4)
        handler.wfile.write(b"else")

    server.answers["/a.wav"] = [
        whole(BODY, etag='"1"', break_after=1000),
        vague,
        whole(BODY, etag='"1"'),
    ]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private", "patient")
def test_a_file_that_changed_meanwhile_is_fetched_anew(server: FileServer) -> None:
    server.answers["/a.wav"] = [
        whole(b"old" * 100_000, etag='"1"', break_after=1000),
        whole(BODY, etag='"2"'),
    ]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private", "patient")
def test_a_rest_of_another_version_is_not_joined(server: FileServer) -> None:
    def careless(handler: object) -> None:
        del handler.headers["If-Range"]  # type: ignore[attr-defined]
        whole(BODY, etag='"2"')(handler)  # type: ignore[arg-type]

    server.answers["/a.wav"] = [whole(b"old" * 100_000, etag='"1"', break_after=1000), careless]
    assert fetch(server.url("/a.wav")) == BODY
    assert len(server.requests) == 3


@pytest.mark.parametrize("etag", [None, '"1"', 'W/"1"'])
@pytest.mark.usefixtures("private", "patient")
def test_a_server_that_cannot_resume_is_read_from_the_start(
    server: FileServer, etag: str | None
) -> None:
    server.answers["/a.wav"] = [
        whole(BODY, etag=etag, ranges=False, break_after=1000),
        whole(BODY, etag=etag, ranges=False),
    ]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private", "patient")
def test_a_server_that_finds_the_range_wrong_is_read_from_the_start(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, etag='"1"', break_after=1000), status(416), whole(BODY)]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private", "patient")
def test_a_download_that_broke_off_at_its_very_end_is_asked_for_anew(server: FileServer) -> None:
    def lacks_its_last_chunk(handler: Handler) -> None:
        handler.head(200, ETag='"1"', Transfer_Encoding="chunked")
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(BODY), BODY))

    def strict(handler: Handler) -> None:
        (status(416) if "Range" in handler.headers else whole(BODY, etag='"1"'))(handler)

    server.answers["/a.wav"] = [lacks_its_last_chunk, strict]
    assert fetch(server.url("/a.wav")) == BODY
    assert [headers.get("Range") for _, headers in server.requests] == [
        None,
        f"bytes={len(BODY)}-",
        None,
    ]


@pytest.mark.usefixtures("private", "patient")
def test_a_download_that_always_breaks_says_how_far_it_came(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, break_after=1000)]
    message = failure(server.url("/a.wav"), SourceUnreachable)
    assert f"after 1000 of {len(BODY)} bytes" in message
    assert len(server.requests) == 4


@pytest.mark.usefixtures("private", "patient")
def test_a_length_that_promises_too_much_is_a_broken_connection(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(b"RIFF", length=100)]
    assert "4 of 100" in failure(server.url("/a.wav"), SourceUnreachable)


# Time


@pytest.mark.parametrize("slow", [hang(), drip(BODY, 0.02), drip_headers(0.02)])
@pytest.mark.usefixtures("private")
def test_the_total_time_ends_every_kind_of_slowness(server: FileServer, slow: object) -> None:
    server.answers["/a.wav"] = [slow]  # type: ignore[list-item]
    started = time.monotonic()
    message = failure(server.url("/a.wav"), SourceTimeout, fetch_timeout_s=0.5)
    assert "within 0.5 s" in message
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("private")
def test_a_drip_without_a_length_is_not_taken_for_the_whole_file(server: FileServer) -> None:
    def answer(handler: object) -> None:
        handler.head(200)  # type: ignore[attr-defined]
        for _ in range(200):
            handler.wfile.write(b"RIFF")  # type: ignore[attr-defined]
            handler.sleep(0.05)  # type: ignore[attr-defined]

    server.answers["/a.wav"] = [answer]
    failure(server.url("/a.wav"), SourceTimeout, fetch_timeout_s=0.5)


@pytest.mark.usefixtures("private", "patient")
def test_silence_of_the_server_is_a_timeout(server: FileServer) -> None:
    server.answers["/a.wav"] = [hang()]
    message = failure(server.url("/a.wav"), SourceTimeout, read_timeout_s=0.2)
    assert "does not answer" in message
    assert len(server.requests) == 4


@pytest.mark.parametrize("slow", [hang(), drip(BODY, 0.02), drip_headers(0.02), status(503)])
@pytest.mark.usefixtures("private")
def test_a_cancellation_ends_the_fetch_at_once(server: FileServer, slow: object) -> None:
    server.answers["/a.wav"] = [slow]  # type: ignore[list-item]
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(SourceUnreachable, match="cancelled"):
        Net(limits()).fetch(server.url("/a.wav"), {}, io.BytesIO(), cancelled)
    assert time.monotonic() - started < 4


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes a connection and does not answer to TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}/a.wav"


@pytest.mark.usefixtures("private")
def test_the_total_time_ends_a_handshake(silent: str) -> None:
    started = time.monotonic()
    assert "within 0.5 s" in failure(silent, SourceTimeout, fetch_timeout_s=0.5)
    assert time.monotonic() - started < limits().connect_timeout_s / 2


@pytest.mark.usefixtures("private")
def test_a_cancellation_ends_a_handshake(silent: str) -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(SourceUnreachable, match="cancelled"):
        Net(limits()).fetch(silent, {}, io.BytesIO(), cancelled)
    assert time.monotonic() - started < limits().connect_timeout_s / 2


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.usefixtures("private")
def test_no_handle_is_left_behind(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    fetch(server.url("/a.wav"))
    before = open_files()
    for _ in range(5):
        fetch(server.url("/a.wav"))
    assert open_files() <= before


@pytest.mark.usefixtures("private")
def test_no_thread_is_left_behind(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    fetch(server.url("/a.wav"))
    assert "sotto-watch" not in {thread.name for thread in threading.enumerate()}


# Headers and redirects


@pytest.mark.usefixtures("private")
def test_the_callers_headers_are_sent(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY)]
    fetch(server.url("/a.wav"), {"Authorization": "Bearer abc", "user-agent": "Mine/1"})
    sent = server.requests[0][1]
    assert sent["Authorization"] == "Bearer abc"
    assert [value for name, value in sent.items() if name.lower() == "user-agent"] == ["Mine/1"]


@pytest.mark.usefixtures("private")
def test_a_redirect_in_utf8_is_followed_as_it_is_meant(server: FileServer) -> None:
    server.answers["/a"] = [redirect("/café.wav".encode().decode("latin-1"))]
    server.answers["/caf%C3%A9.wav"] = [whole(BODY)]
    assert fetch(server.url("/a")) == BODY


@pytest.mark.usefixtures("private")
def test_a_length_of_thousands_of_digits_is_none(server: FileServer) -> None:
    server.answers["/a.wav"] = [whole(BODY, length="9" * 5000)]
    assert fetch(server.url("/a.wav")) == BODY


@pytest.mark.usefixtures("private")
def test_the_callers_headers_follow_a_redirect_within_the_origin(server: FileServer) -> None:
    server.answers["/a"] = [redirect("/b")]
    server.answers["/b"] = [redirect("c?x=1", 307)]
    server.answers["/c"] = [whole(BODY)]
    assert fetch(server.url("/a"), {"Authorization": "Bearer abc"}) == BODY
    assert [headers.get("Authorization") for _, headers in server.requests] == ["Bearer abc"] * 3


@pytest.mark.usefixtures("private")
def test_the_callers_headers_stay_behind_when_a_redirect_leaves_the_origin(
    server: FileServer,
) -> None:
    with FileServer() as elsewhere:
        server.answers["/a"] = [redirect(elsewhere.url("/b"))]
        elsewhere.answers["/b"] = [redirect(server.url("/c"))]
        server.answers["/c"] = [whole(BODY)]
        caller = {"Authorization": "Bearer abc", "Cookie": "d=e", "X-Key": "f"}
        assert fetch(server.url("/a"), caller) == BODY
        later = [elsewhere.requests[0][1], server.requests[1][1]]
    assert server.requests[0][1]["X-Key"] == "f"
    for headers in later:
        assert not {"Authorization", "Cookie", "X-Key"} & headers.keys()
        assert headers["User-Agent"] == f"Sotto/{__version__}"


@pytest.mark.usefixtures("private")
def test_an_endless_redirect_is_forbidden(server: FileServer) -> None:
    server.answers["/a"] = [redirect("/a")]
    assert "redirects" in failure(server.url("/a"), SourceForbidden)
    assert len(server.requests) == 6


@pytest.mark.usefixtures("private")
def test_the_body_of_a_redirect_is_left_unread(server: FileServer) -> None:
    sent = threading.Event()

    def flood(handler: Handler) -> None:
        handler.head(302, Location="/b")
        with suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(bytes(100_000))
            sent.set()

    server.answers["/a"] = [flood]
    server.answers["/b"] = [whole(BODY)]
    assert fetch(server.url("/a"), max_bytes=len(BODY)) == BODY
    assert not sent.is_set()


@pytest.mark.usefixtures("private")
def test_a_redirect_to_what_is_no_address_is_unreachable(server: FileServer) -> None:
    server.answers["/a"] = [redirect("http://[oops/x?token=abc")]
    told = failure(server.url("/a"), SourceUnreachable)
    assert "redirects to no address" in told
    assert "abc" not in told


@pytest.mark.usefixtures("private")
def test_a_redirect_to_nowhere_is_unreachable(server: FileServer) -> None:
    server.answers["/a"] = [status(302)]
    assert "302" in failure(server.url("/a"), SourceUnreachable)


@pytest.mark.usefixtures("private", "patient")
def test_a_password_in_the_address_is_used_and_never_shown(server: FileServer) -> None:
    server.answers["/a"] = [status(500)]
    url = server.url("/a?k=v").replace("://", "://user:secret@")
    message = failure(url, SourceUnreachable)
    assert server.requests[0][1]["Authorization"].startswith("Basic ")
    assert "secret" not in message
    assert "k=v" not in message


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"A B": "x"},
        {"A:": "x"},
        {"A\r\nB": "x"},
        {"Ä": "x"},
        {"Host": "evil"},
        {"transfer-encoding": "chunked"},
        {"Range": "bytes=0-"},
        {"PROXY-Authorization": "x"},
        {"A": "x\r\nHost: evil"},
        {"A": "x\n"},
        {"A": "\x00"},
        {"A": " x"},
        {"A": "日本"},
    ],
)
def test_a_header_that_may_not_be_sent_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError) as caught:
        check_headers(headers, "audio_headers")
    assert caught.value.field == "audio_headers"
    assert "evil" not in str(caught.value)


def test_ordinary_headers_pass() -> None:
    check_headers(
        {"Authorization": "Bearer a.b-c", "X-Empty": "", "Cookie": "a=b; c=d", "X": "é\tü"}, "f"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pw@host:8443/a/b.wav?sig=1#frag", "https://host:8443/a/b.wav"),
        ("http://host", "http://host"),
        ("http://[::1/x", "the address"),
        ("http://host/a\x1b[31m\nb", "http://host/a[31mb"),
        ("http://host/" + "a" * 500, "http://host/" + "a" * 199 + "…"),
    ],
)
def test_what_a_message_shows_of_an_address(url: str, expected: str) -> None:
    assert shown(url) == expected
