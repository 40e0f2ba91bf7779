"""Answers in real S3 stores: moto's server, and one that checks each signature by the book."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer
from tests.file_server import Answer, Handler, status, whole
from tests.store_server import StoreHandler, StoreServer, after_body, taken

from sotto.errors import UploadFailed
from sotto.net import Net, NetLimits
from sotto.request import parse
from sotto.settings import Settings
from sotto.worker.delivery import Delivery
from sotto.worker.storage import bucket_of_settings

LIMIT_BYTES = 10_000_000
SECRET = "sesame/secret+key"
LARGE = {
    "segments": [{"id": n, "text": f"{n}: " + "Öffne dich. 一二三 " * 1500} for n in range(1500)],
    "transcription": "kept short",
    "duration": 36_000.0,
    "warnings": [],
}
TOO_LARGE = {"transcription": "x" * LIMIT_BYTES}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str) -> Any:
    """A client of moto's server, which has nothing but an empty bucket named `bucket`."""
    requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
    client = boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="AKIAOPEN",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="bucket")
    return client


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the guard, as an operator may, so that a caller may name 127.0.0.1."""
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")


def settings(endpoint_url: str, **changes: Any) -> Settings:
    values = {
        "s3_endpoint_url": endpoint_url,
        "s3_bucket": "bucket",
        "s3_access_id": "AKIAOPEN",
        "s3_access_secret": SECRET,
    }
    return Settings(**{**values, **changes})


def config(endpoint_url: str, **changes: str) -> dict[str, str]:
    values = {
        "accessId": "AKIAOPEN",
        "accessSecret": SECRET,
        "bucketName": "bucket",
        "endpointUrl": endpoint_url,
    }
    return {**values, **changes}


def deliver(
    of_worker: Settings, output: dict[str, Any], job_id: str = "job-1", **job: Any
) -> dict[str, Any]:
    """What a worker with these settings gives out for a job whose answer is `output`."""
    net = Net(NetLimits(connect_timeout_s=10, read_timeout_s=30, fetch_timeout_s=60, max_bytes=1))
    delivery = Delivery(net, bucket_of_settings(of_worker), LIMIT_BYTES, 3600)
    request = parse({"audio_base64": "AAAA"})
    target = delivery.target({"id": job_id, "input": {}, **job}, request)
    summary = asyncio.run(delivery.deliver(target, output))
    assert isinstance(summary, dict)
    return summary


def keys(s3: Any) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket="bucket").get("Contents", [])]


# A large answer and the link to it


def check_large(summary: dict[str, Any]) -> None:
    assert summary["result_bytes"] > 50_000_000
    assert summary["segments"] == len(LARGE["segments"])
    assert len(json.dumps(summary)) < 2000
    stored = requests.get(summary["result_url"], timeout=30)
    assert stored.headers["Content-Type"] == "application/json"
    assert len(stored.content) == summary["result_bytes"]
    assert json.loads(stored.content) == LARGE


def test_fifty_megabytes_reach_the_operators_store_and_the_link_gives_them_back(
    s3: Any, moto: str
) -> None:
    check_large(deliver(settings(moto), LARGE))
    assert keys(s3) == ["sotto/job-1.json"]


@pytest.mark.usefixtures("private")
def test_fifty_megabytes_reach_the_jobs_own_store_and_the_link_gives_them_back(
    s3: Any, moto: str
) -> None:
    check_large(deliver(Settings(), LARGE, s3Config=config(f"{moto}/")))
    assert keys(s3) == ["sotto/job-1.json"]


def test_a_jobs_own_store_inside_is_refused_though_the_operators_is_there_too(
    s3: Any, moto: str
) -> None:
    with pytest.raises(UploadFailed, match="not on the public internet"):
        deliver(settings(moto), TOO_LARGE, s3Config=config(moto))
    assert keys(s3) == []


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "a.b", "a/b?c=d#e", "日本 \ud800", ""])
def test_a_link_works_whatever_the_job_is_called(s3: Any, moto: str, job_id: str) -> None:
    summary = deliver(settings(moto), TOO_LARGE, job_id)
    [key] = keys(s3)
    assert re.fullmatch(r"sotto/[0-9a-f]+\.json", key)
    assert requests.get(summary["result_url"], timeout=30).json() == TOO_LARGE


def test_a_job_that_is_run_again_replaces_its_answer(s3: Any, moto: str) -> None:
    deliver(settings(moto), TOO_LARGE)
    check_large(deliver(settings(moto), LARGE))
    assert keys(s3) == ["sotto/job-1.json"]


# Stores that refuse


def refused(of_worker: Settings, **job: Any) -> str:
    with pytest.raises(UploadFailed) as caught:
        deliver(of_worker, TOO_LARGE, **job)
    message = str(caught.value)
    for secret in (SECRET, "sesame", "AKIA", "X-Amz", "Signature="):
        assert secret not in message
    return message


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_told(moto: str) -> None:
    message = refused(settings(moto, s3_bucket="elsewhere"))
    assert message.endswith("/elsewhere/sotto/job-1.json: the server answers 404 NoSuchBucket")


@pytest.fixture
def strict_moto(s3: Any, moto: str) -> Iterator[str]:
    """Moto's server, which from now on wants to know who asks."""
    before = requests.post(f"{moto}/moto-api/reset-auth", data=b"0", timeout=10)
    yield moto
    previous = before.json()["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]
    requests.post(f"{moto}/moto-api/reset-auth", data=str(previous).encode(), timeout=10)


def test_keys_that_the_store_does_not_know_are_told(strict_moto: str) -> None:
    assert "403 InvalidAccessKeyId" in refused(settings(strict_moto))


# Signatures, checked on what arrives by a reader of the specification


def signature(text: str, secret: str, scope: str) -> str:
    sign_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        sign_key = hmac.new(sign_key, part.encode(), hashlib.sha256).digest()
    return hmac.new(sign_key, text.encode(), hashlib.sha256).hexdigest()


def fault(handler: Handler, body: bytes, region: str) -> str | None:
    """Why the request is not signed as AWS Signature Version 4 wants it, as S3 calls it."""
    url = urlsplit(handler.path)
    query = dict(parse_qsl(url.query))
    if "X-Amz-Signature" in query:
        fields = {name.removeprefix("X-Amz-"): value for name, value in query.items()}
        payload = "UNSIGNED-PAYLOAD"
    else:
        scheme, _, rest = handler.headers["Authorization"].partition(" ")
        fields = {**dict(part.split("=", 1) for part in rest.split(", ")), "Algorithm": scheme}
        fields["Date"] = handler.headers["X-Amz-Date"]
        payload = hashlib.sha256(body).hexdigest()
        if handler.headers["X-Amz-Content-SHA256"] != payload:
            return "XAmzContentSHA256Mismatch"
    access_id, _, scope = fields["Credential"].partition("/")
    if access_id != "AKIAOPEN":
        return "InvalidAccessKeyId"
    signed = fields["SignedHeaders"].split(";")
    canonical = "\n".join(
        [
            handler.command,
            url.path,
            "&".join(
                f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
                for name, value in sorted(query.items())
                if name != "X-Amz-Signature"
            ),
            *(f"{name}:{handler.headers[name].strip()}" for name in signed),
            "",
            ";".join(signed),
            payload,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([fields["Algorithm"], fields["Date"], scope, digest])
    expected_scope = f"{fields['Date'][:8]}/{region}/s3/aws4_request"
    right = scope == expected_scope and "host" in signed
    if right and fields["Signature"] == signature(text, SECRET, scope):
        return None
    return "SignatureDoesNotMatch"


def strict(region: str) -> Answer:
    """Take and give only what is signed right."""

    def answer(handler: Handler) -> None:
        assert isinstance(handler, StoreHandler)
        body = handler.body() if handler.command == "PUT" else b""
        code = fault(handler, body, region)
        if code is not None:
            echo = (
                f"<Error><Code>{code}</Code><Sent>{handler.path} {handler.headers}</Sent></Error>"
            )
            status(403, echo.encode())(handler)
        elif handler.command == "PUT":
            handler.store.stored[handler.bare_path] = body
            handler.head(200, Content_Length=0)
        else:
            whole(handler.store.stored[handler.bare_path])(handler)

    return answer


@pytest.fixture
def by_the_book() -> Iterator[StoreServer]:
    with StoreServer() as server:
        server.answers["/store/v1/bucket/sotto/job-1.json"] = [strict("eu-south-9")]
        yield server


def test_what_is_put_and_the_link_to_it_are_signed_by_the_book(by_the_book: StoreServer) -> None:
    of_worker = settings(by_the_book.url("/store/v1"), s3_region="eu-south-9")
    link = deliver(of_worker, TOO_LARGE)["result_url"]
    assert requests.get(link, timeout=30).json() == TOO_LARGE
    assert requests.get(f"{link}0", timeout=30).status_code == 403
    assert (
        requests.get(link.replace("Expires=3600", "Expires=36000"), timeout=30).status_code == 403
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"accessSecret": "sesame"}, "SignatureDoesNotMatch"),
        ({"accessId": "AKIAOTHER"}, "InvalidAccessKeyId"),
        ({"region": "eu-north-9"}, "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.usefixtures("private")
def test_wrong_credentials_are_told_by_the_stores_own_word_for_it(
    by_the_book: StoreServer, change: dict[str, str], code: str
) -> None:
    of_job = {**config(by_the_book.url("/store/v1"), region="eu-south-9"), **change}
    assert refused(Settings(), s3Config=of_job).endswith(f"the server answers 403 {code}")
    assert by_the_book.stored == {}


def test_a_store_that_fails_twice_gets_the_answer_whole(
    by_the_book: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))
    path = "/bucket/sotto/job-1.json"
    by_the_book.answers[path] = [after_body(status(500)), after_body(status(500)), taken()]
    deliver(settings(by_the_book.url("/")), LARGE)
    assert json.loads(by_the_book.stored[path]) == LARGE
    assert by_the_book.paths() == [path] * 3
