"""Whatever a caller points at, nothing private is touched: by a download, an upload, a store.

127.0.0.1 plays the public internet where one is needed, 127.0.0.2 the network inside.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tests.file_server import Answer, redirect, status, whole
from tests.hostile import METADATA_NAMES, NOT_PUBLIC, Names, call_public
from tests.store_server import StoreServer, after_body, taken

from sotto.errors import RequestError, SottoError, SourceError, UploadFailed
from sotto.net import Destination, Net, NetLimits
from sotto.request import parse
from sotto.worker.delivery import Delivery

BODY = b"RIFF" * 1000
ANSWER = {"segments": [], "transcription": "x" * 4000}
NET = Net(NetLimits(connect_timeout_s=5, read_timeout_s=5, fetch_timeout_s=20, max_bytes=10**7))
DELIVERY = Delivery(NET, None, 10**7, 60)
Way = Callable[[str], None]


def download(url: str) -> None:
    NET.fetch(url, {}, io.BytesIO(), threading.Event())


def upload(url: str) -> None:
    NET.put(Destination(url, {}), BODY, threading.Event())


def upload_url(url: str) -> None:
    deliver({}, {"upload_url": url})


def s3_config(url: str) -> None:
    keys = {"accessId": "id", "accessSecret": "sesame", "bucketName": "bucket"}
    deliver({"s3Config": {**keys, "endpointUrl": url}}, {"upload": True})


def deliver(job: dict[str, object], options: dict[str, object]) -> None:
    request = parse({"audio_base64": "AAAA", **options})
    target = DELIVERY.target({"id": "job-1", **job}, request)
    asyncio.run(DELIVERY.deliver(target, ANSWER))


WAYS = {"download": download, "upload": upload, "upload_url": upload_url, "s3Config": s3_config}
PATHS = {"s3Config": "/a/bucket/sotto/job-1.json"}


@pytest.fixture(params=WAYS)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def way(name: str) -> Way:
    return WAYS[name]


@pytest.fixture
def path(name: str) -> str:
    """Where on the server a request for `/a` arrives by this way."""
    return PATHS.get(name, "/a")


@pytest.fixture
def take(name: str) -> Answer:
    """What a server answers that is glad of the request."""
    return whole(BODY) if name == "download" else taken()


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreServer]:
    call_public(monkeypatch, "127.0.0.1")
    with StoreServer() as server:
        yield server


@pytest.fixture
def inside(outside: StoreServer) -> Iterator[StoreServer]:
    """Listens at the port of `outside`, where a name that was rebound would lead."""
    with StoreServer(host="127.0.0.2", fixed_port=outside.port) as server:
        yield server
        assert server.requests == [], "the network inside was reached"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))


def refused(way: Way, url: str) -> str:
    kinds = (SourceError, UploadFailed, RequestError)
    with pytest.raises(kinds) as caught:
        way(url)
    message = str(caught.value)
    assert "sesame" not in message
    assert len(message) < 600
    return message


# Where the address itself leads


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_untouched(way: Way, host: str) -> None:
    with StoreServer() as server:
        refused(way, f"http://{host}:{server.port}/a")
        assert server.requests == []


@pytest.mark.parametrize("host", METADATA_NAMES)
def test_a_name_of_the_metadata_service_is_refused(way: Way, names: Names, host: str) -> None:
    names.lead(host, ["169.254.169.254"])
    assert "not on the public internet" in refused(way, f"http://{host}/a")


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
def test_a_name_with_a_private_address_among_public_ones_is_refused(
    way: Way, names: Names, outside: StoreServer, addresses: list[str]
) -> None:
    names.lead("half.test", addresses)
    refused(way, f"http://half.test:{outside.port}/a")
    assert outside.requests == []


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    "url",
    [
        "http://public.test@127.0.0.2:{port}/a",
        "http://public.test:80@127.0.0.2:{port}/a",
        "http://public.test%2f@127.0.0.2:{port}/a",
        "http://127.0.0.2:{port}\\@public.test:{port}/a",
        "http://public.test:{port}\\@127.0.0.2:{port}/a",
        "http://127.0.0.2:{port}#@public.test:{port}/a",
        "http://127.0.0.2:{port}?@public.test:{port}/a",
        "http://127.0.0.2:{port}/@public.test:{port}/a",
        "http://public.test:{port}@127.0.0.2:{port}@public.test:{port}/a",
        "http://public.test :@127.0.0.2:{port}/a",
        "http://public.test\t@127.0.0.2:{port}/a",
        "http:\\\\127.0.0.2:{port}/a",
        "http:/127.0.0.2:{port}/a",
        "http:127.0.0.2:{port}/a",
        "http://[127.0.0.2]:{port}/a",
    ],
)
def test_no_trick_with_users_and_slashes_reaches_inside(
    way: Way, names: Names, outside: StoreServer, url: str
) -> None:
    names.lead("public.test", ["127.0.0.1"])
    with suppress(SottoError):  # the public host may well take what is left of such an address
        way(url.format(port=outside.port))


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "unix", "data", "javascript", ""])
def test_no_other_scheme_is_opened(way: Way, scheme: str) -> None:
    refused(way, f"{scheme}://example.com/a")


def test_a_proxy_in_the_environment_is_refused(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:sesame@10.0.0.1:3128")
    assert "proxy" in refused(way, "http://example.com/a")


# Where it leads later


@pytest.mark.usefixtures("inside")
def test_a_name_that_changes_after_the_lookup_is_not_looked_up_again(
    way: Way, names: Names, outside: StoreServer, path: str, take: Answer
) -> None:
    names.lead("rebind.test", ["127.0.0.1"], ["127.0.0.2"])
    outside.answers[path] = [take]
    way(f"http://rebind.test:{outside.port}/a")
    assert outside.paths() == [path]
    assert names.lookups == ["rebind.test"]


@pytest.mark.usefixtures("inside")
def test_a_name_that_changes_before_a_retry_is_refused(
    way: Way, names: Names, outside: StoreServer, path: str
) -> None:
    names.lead("rebind.test", ["127.0.0.1"], ["127.0.0.2"])
    outside.answers[path] = [polite(status(503))]
    refused(way, f"http://rebind.test:{outside.port}/a")
    assert outside.paths() == [path]


@pytest.mark.usefixtures("inside")
def test_a_name_that_changes_before_a_redirect_is_refused(
    way: Way, names: Names, outside: StoreServer, path: str
) -> None:
    names.lead("rebind.test", ["127.0.0.1"], ["127.0.0.2"])
    outside.answers[path] = [polite(redirect(f"http://rebind.test:{outside.port}/b", 307))]
    refused(way, f"http://rebind.test:{outside.port}/a")
    assert outside.paths() == [path]


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/b",
        "//127.0.0.2:{port}/b",
        "http://user:sesame@127.0.0.2:{port}/b?sig=sesame",
        "http://public.test:{port}\\@127.0.0.2:{port}/b",
        "http://inside.test:{port}/b",
        "http://169.254.169.254/latest?sig=sesame",
        "http://[fd00:ec2::254]/latest",
        "http://2130706434:{port}/b",
        "http://[::ffff:127.0.0.2]:{port}/b",
        "file:///etc/passwd",
        "gopher://127.0.0.2:{port}/_x",
        "http://[::1",
        "http://a..b/",
    ],
)
def test_a_redirect_from_a_public_host_to_anything_private_is_refused(
    way: Way, names: Names, outside: StoreServer, path: str, target: str, code: int
) -> None:
    names.lead("public.test", ["127.0.0.1"])
    names.lead("inside.test", ["127.0.0.2"])
    outside.answers[path] = [polite(redirect(target.format(port=outside.port), code))]
    refused(way, f"http://public.test:{outside.port}/a")


def polite(answer: Answer) -> Answer:
    """Give `answer`, to a PUT once its body is read."""
    return lambda handler: (after_body(answer) if handler.command == "PUT" else answer)(handler)
