"""An answer is given as it is, or stored with a link to it, or refused with the ways out."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.file_server import hang, status
from tests.store_server import StoreServer, after_body

from sotto.errors import RequestError, ResultTooLarge, UploadFailed
from sotto.net import Net, NetLimits
from sotto.request import parse
from sotto.settings import Settings, SettingsError
from sotto.worker.delivery import ENVELOPE, Delivery, Target
from sotto.worker.storage import Bucket, bucket_of_job, bucket_of_settings, key_of, region_of

S3_CONFIG = {
    "accessId": "AKIAOPEN",
    "accessSecret": "sesame/secret+key",
    "bucketName": "bucket",
    "endpointUrl": "https://s3.eu-west-1.amazonaws.com",
}
ANSWER = {
    "segments": [{"id": 1, "text": "Öffne dich"}, {"id": 2, "text": "一二三"}],
    "detected_language": "de",
    "language_probability": 0.9,
    "transcription": "Öffne dich 一二三",
    "duration": 3.5,
    "model": "base",
    "device": "cpu",
    "timings": {"total": 1.5},
    "warnings": ["best_of: is idle"],
}
SIZE = len(json.dumps(ANSWER, ensure_ascii=False).encode())


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer() as server:
        yield server


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the guard, as an operator may, so that a caller may name 127.0.0.1."""
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sotto.net.exchange.PAUSES_S", (0.0, 0.0, 0.0))


def delivery(bucket: Bucket | None = None, limit_bytes: int = 10**7) -> Delivery:
    net = Net(NetLimits(connect_timeout_s=5, read_timeout_s=5, fetch_timeout_s=20, max_bytes=1))
    return Delivery(net, bucket, limit_bytes, 3600)


def target_of(ours: Delivery, options: dict[str, Any] | None = None, **job: Any) -> Target:
    request = parse({"audio_base64": "AAAA", **(options or {})})
    return ours.target({"id": "job-1", **job}, request)


def delivered(
    ours: Delivery, options: dict[str, Any] | None = None, output: Any = ANSWER, **job: Any
) -> Any:
    return asyncio.run(ours.deliver(target_of(ours, options, **job), output))


def bucket_at(store: StoreServer, **changes: Any) -> Bucket:
    values = {"name": "bucket", "access_id": "AKIAOPEN", "access_secret": "sesame"}
    return Bucket(store.url("/"), **{**values, "by_operator": True, **changes})


def refusal(config: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        target_of(delivery(), s3Config=config)
    message = str(caught.value)
    assert "sesame" not in message
    assert message.isprintable()
    assert len(message) < 300
    return caught.value


# s3Config


@pytest.mark.parametrize("config", [[], "", "sesame", 0, False, True, 1.5, [S3_CONFIG]])
def test_an_s3_config_that_is_no_object_is_refused(config: object) -> None:
    assert refusal(config).field == "s3Config"


@pytest.mark.parametrize("field", S3_CONFIG)
@pytest.mark.parametrize("value", [None, 0, True, 1.5, [], {}, ["sesame"], "", " ", "sesame\n"])
def test_a_field_of_the_wrong_kind_is_refused_by_name(field: str, value: object) -> None:
    assert refusal({**S3_CONFIG, field: value}).field == f"s3Config.{field}"


@pytest.mark.parametrize("field", S3_CONFIG)
@pytest.mark.parametrize(
    "value", ["sesame" * 10**6, "\x00", "a\x1b[31m", "a\r\nHost: evil", "\ud800", "日本", "a b c"]
)
def test_a_field_that_is_huge_or_has_odd_characters_is_refused_by_name(
    field: str, value: str
) -> None:
    assert refusal({**S3_CONFIG, field: value}).field == f"s3Config.{field}"


@pytest.mark.parametrize("field", S3_CONFIG)
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    left = {name: value for name, value in S3_CONFIG.items() if name != field}
    assert "missing" in str(refusal(left))
    assert refusal(left).field == f"s3Config.{field}"


@pytest.mark.parametrize("extra", ["secretKey", "access_id", "", "sesame" * 1000, "\x1b", "\ud800"])
def test_a_field_that_is_not_its_own_is_refused_with_those_that_are(extra: str) -> None:
    error = refusal({**S3_CONFIG, extra: "sesame"})
    assert error.field == "s3Config"
    assert all(name in str(error) for name in S3_CONFIG)


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a", "ab", "../etc", "a/b", "a?b", "a#b", "a%2fb", "-ab", ".ab", "a" * 64, "a\tb"],
)
def test_a_bucket_whose_name_would_steer_the_address_is_refused(name: str) -> None:
    assert refusal({**S3_CONFIG, "bucketName": name}).field == "s3Config.bucketName"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "file:///etc/passwd",
        "ftp://host/",
        "//host",
        "host",
        "http://",
        "http:///a",
        "http://user:sesame@host/",
        "http://sesame@host/",
        "http://host/?sig=sesame",
        "http://host/#sesame",
        "http://host\\@evil/",
        "http://host:99999/",
        "http://host:port/",
        "http://[::1",
        "http://[zz]/",
        "http://host/a b",
        "http://host//a",
        "http://host/" + "a/" * 50,
    ],
)
def test_an_endpoint_that_is_no_plain_address_is_refused(url: str) -> None:
    assert refusal({**S3_CONFIG, "endpointUrl": url}).field == "s3Config.endpointUrl"


def test_a_wrong_s3_config_is_refused_even_if_it_would_not_be_needed(store: StoreServer) -> None:
    with pytest.raises(RequestError, match="s3Config"):
        target_of(delivery(bucket_at(store)), {"upload_url": "https://host/a"}, s3Config={})


def test_keys_as_stores_hand_them_out_pass() -> None:
    for change in (
        {"accessSecret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE+KEY="},
        {"accessId": "user_2f21CfO73Mm2Uq2lEGFiEF24IPw", "accessSecret": "rps_ABC-123"},
        {"bucketName": "my.bucket-1", "endpointUrl": "http://127.0.0.1:9000"},
        {"bucketName": "Upper_case", "endpointUrl": "https://project.supabase.co/storage/v1/s3"},
        {"endpointUrl": "https://[2606:4700::1111]:9000/"},
        {"region": "fr-par"},
        {"region": None},
    ):
        assert bucket_of_job({**S3_CONFIG, **change}).access_id


def test_a_bucket_does_not_show_its_keys() -> None:
    shown = repr(bucket_of_job(S3_CONFIG))
    assert "sesame" not in shown
    assert "AKIAOPEN" not in shown


# upload and upload_url


def test_an_upload_without_a_store_is_refused() -> None:
    with pytest.raises(RequestError, match=r"upload_url.*s3Config.*SOTTO_S3_") as caught:
        target_of(delivery(), {"upload": True})
    assert caught.value.field == "upload"


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "http://host:99999/", "http://[::1", "http://host/\n", "https:"]
)
def test_an_upload_url_that_cannot_be_opened_is_refused_before_work(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        target_of(delivery(), {"upload_url": f"{url}\x00?sig=sesame"})
    assert caught.value.field == "upload_url"
    assert "sesame" not in str(caught.value)


# What is given as it is


def test_a_small_answer_is_given_as_it_is(store: StoreServer) -> None:
    ours = delivery(bucket_at(store))
    assert delivered(ours) is ANSWER
    assert delivered(ours, s3Config=S3_CONFIG) is ANSWER
    assert store.requests == []


def test_the_limit_counts_the_bytes_of_the_json_that_is_sent() -> None:
    assert len(json.dumps(ANSWER, ensure_ascii=False)) < SIZE
    assert delivered(delivery(limit_bytes=SIZE + len(ENVELOPE))) is ANSWER
    with pytest.raises(ResultTooLarge) as caught:
        delivered(delivery(limit_bytes=SIZE + len(ENVELOPE) - 1))
    message = str(caught.value)
    assert str(SIZE) in message
    assert all(way in message for way in ("upload_url", "s3Config", "SOTTO_S3_*"))


def test_an_answer_that_is_text_is_given_as_it_is() -> None:
    assert delivered(delivery(), output="1\n00:00:00,000 --> ...") == "1\n00:00:00,000 --> ..."


def test_an_answer_that_is_not_json_is_no_delivery(store: StoreServer) -> None:
    with pytest.raises(ValueError, match="JSON"):
        delivered(delivery(bucket_at(store)), {"upload": True}, {"duration": math.nan})
    assert store.requests == []


# What is stored


@pytest.mark.usefixtures("private")
def test_an_answer_goes_to_the_callers_address_with_the_callers_headers(
    store: StoreServer,
) -> None:
    options = {
        "upload_url": store.url("/a/b.json?X-Signature=sesame#part").replace("://", "://u:sesame@"),
        "upload_headers": {"Content-Type": "application/json", "X-Key": "sesame"},
    }
    summary = delivered(delivery(limit_bytes=1), options)
    assert json.loads(store.stored["/a/b.json"]) == ANSWER
    assert store.paths() == ["/a/b.json?X-Signature=sesame"]
    assert store.requests[0][1]["X-Key"] == "sesame"
    assert summary == {
        "result_url": store.url("/a/b.json"),
        "result_bytes": SIZE,
        "result_expires_s": None,
        "duration": 3.5,
        "detected_language": "de",
        "model": "base",
        "device": "cpu",
        "segments": 2,
        "timings": {"total": 1.5},
        "warnings": ["best_of: is idle"],
    }


@pytest.mark.usefixtures("private")
def test_a_large_answer_goes_to_the_jobs_own_bucket_before_the_operators(
    store: StoreServer,
) -> None:
    with StoreServer() as of_job:
        config = {**S3_CONFIG, "bucketName": "mine", "endpointUrl": of_job.url("/")}
        summary = delivered(delivery(bucket_at(store), limit_bytes=1), s3Config=config)
        assert json.loads(of_job.stored["/mine/sotto/job-1.json"]) == ANSWER
        assert summary["result_url"].startswith(of_job.url("/mine/sotto/job-1.json?"))
    assert store.requests == []


def test_a_large_answer_goes_to_the_operators_bucket_though_it_is_private(
    store: StoreServer,
) -> None:
    summary = delivered(delivery(bucket_at(store), limit_bytes=1))
    assert json.loads(store.stored["/bucket/sotto/job-1.json"]) == ANSWER
    assert store.requests[0][1]["Content-Type"] == "application/json"
    assert summary["result_expires_s"] == 3600
    assert summary["result_bytes"] == SIZE


def test_a_small_answer_is_stored_when_the_caller_asks(store: StoreServer) -> None:
    summary = delivered(delivery(bucket_at(store)), {"upload": True})
    assert summary["segments"] == 2
    assert "transcription" not in summary
    assert json.loads(store.stored["/bucket/sotto/job-1.json"]) == ANSWER


def test_an_answer_that_is_text_is_stored_as_json_too(store: StoreServer) -> None:
    summary = delivered(delivery(bucket_at(store), limit_bytes=1), output="WEBVTT\n")
    assert set(summary) == {"result_url", "result_bytes", "result_expires_s"}
    assert json.loads(store.stored["/bucket/sotto/job-1.json"]) == "WEBVTT\n"


def test_a_bucket_that_is_named_by_its_host_is_not_named_again() -> None:
    bucket = Bucket("https://Bucket.s3.eu-west-1.amazonaws.com/", "bucket", "id", "secret")
    link = bucket.link("sotto/a.json", 60)
    assert link.startswith("https://Bucket.s3.eu-west-1.amazonaws.com/sotto/a.json?")


def test_a_store_that_fails_is_told_without_its_secrets(
    store: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    store.answers["/bucket/sotto/job-1.json"] = [after_body(status(500))]
    with pytest.raises(UploadFailed) as caught:
        delivered(delivery(bucket_at(store), limit_bytes=1))
    assert str(caught.value) == f"{store.url('/bucket/sotto/job-1.json')}: the server answers 500"
    for secret in ("sesame", "AKIAOPEN", "ignature"):
        assert secret not in caplog.text
        assert secret not in str(caught.value)


def test_a_job_that_is_cancelled_during_its_upload_ends_at_once(store: StoreServer) -> None:
    store.answers["/bucket/sotto/job-1.json"] = [after_body(hang())]

    async def run() -> None:
        ours = delivery(bucket_at(store), limit_bytes=1)
        running = asyncio.create_task(ours.deliver(target_of(ours), ANSWER))
        await asyncio.to_thread(store.asked.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    started = time.monotonic()
    asyncio.run(run())  # which waits for the thread of the upload
    assert time.monotonic() - started < 4


# Keys and regions


@pytest.mark.parametrize("job_id", ["job-1", "sync-5f2c6a1e-u1", "local_test"])
def test_a_plain_job_id_is_the_name_of_its_answer(job_id: str) -> None:
    assert key_of(job_id) == f"sotto/{job_id}.json"


def test_job_ids_that_would_steer_the_key_have_keys_of_their_own_in_the_same_folder() -> None:
    odd = ["..", ".", "../..", "/", "a/b", "a.b", "a-b/", "a?b", "%2e%2e", "é", "\ud800", "\x00"]
    odd += ["a" * 129, "a" * 10**6, "a\nb"]
    keys = [key_of(job_id) for job_id in odd]
    assert len(set(keys)) == len(keys)
    assert all(key.removeprefix("sotto/").removesuffix(".json").isalnum() for key in keys)
    assert keys == [key_of(job_id) for job_id in odd]


def test_answers_of_jobs_without_an_id_do_not_replace_each_other() -> None:
    assert key_of("") != key_of("")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://s3.amazonaws.com", "us-east-1"),
        ("https://s3.us-west-2.amazonaws.com/", "us-west-2"),
        ("https://s3-us-west-2.amazonaws.com", "us-west-2"),
        ("https://s3.dualstack.ap-southeast-3.amazonaws.com", "ap-southeast-3"),
        ("https://s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://bucket.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://my-app-1.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3api-eur-is-1.runpod.io/", "eur-is-1"),
        ("https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ("https://s3.eu-central-2.wasabisys.com", "eu-central-2"),
        ("https://0123456789abcdef.r2.cloudflarestorage.com", "us-east-1"),
        ("http://127.0.0.1:9000", "us-east-1"),
        ("http://[::1]:9000", "us-east-1"),
    ],
)
def test_the_region_is_the_one_that_the_host_names(url: str, region: str) -> None:
    assert region_of(url) == region


def test_a_region_that_is_given_comes_before_the_hosts() -> None:
    bucket = bucket_of_job({**S3_CONFIG, "region": "eu-south-9"})
    assert "%2Feu-south-9%2Fs3%2F" in bucket.link("a", 60)
    assert "%2Feu-west-1%2Fs3%2F" in bucket_of_job(S3_CONFIG).link("a", 60)


# The operator's settings

S3_SETTINGS = {
    "s3_endpoint_url": "http://127.0.0.1:9000",
    "s3_bucket": "bucket",
    "s3_access_id": "AKIAOPEN",
    "s3_access_secret": "sesame",
}


def test_without_settings_there_is_no_bucket() -> None:
    assert bucket_of_settings(Settings()) is None


@pytest.mark.parametrize("missing", S3_SETTINGS)
def test_settings_without_one_of_their_parts_are_refused_by_name(missing: str) -> None:
    left = {name: value for name, value in S3_SETTINGS.items() if name != missing}
    with pytest.raises(SettingsError, match=f"^SOTTO_{missing.upper()}: is missing") as caught:
        bucket_of_settings(Settings(**left))
    assert "sesame" not in str(caught.value)


def test_all_settings_that_cannot_be_used_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        bucket_of_settings(
            Settings(
                s3_endpoint_url="http://user:sesame@host:99999",
                s3_bucket="a/b",
                s3_access_secret="sesame sesame",
            )
        )
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "SOTTO_S3_ENDPOINT_URL",
        "SOTTO_S3_BUCKET",
        "SOTTO_S3_ACCESS_ID",
        "SOTTO_S3_ACCESS_SECRET",
    ]
    assert "sesame" not in str(caught.value)


def test_the_operators_bucket_is_the_one_of_the_settings() -> None:
    bucket = bucket_of_settings(Settings(**S3_SETTINGS, s3_region="here-1"))
    assert bucket == Bucket(
        "http://127.0.0.1:9000", "bucket", "AKIAOPEN", "sesame", "here-1", by_operator=True
    )
