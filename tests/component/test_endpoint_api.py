"""The client of RunPod's APIs over real HTTP: one clear sentence for all that can go wrong."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.file_server import FileServer, drip, hang, raw, whole
from tests.platform_api import PlatformApi

from sotto.endpoint import exchange
from sotto.endpoint.api import API_URL, JOBS_URL, Api, ApiError, api_url, jobs_url, key_from

KEY = PlatformApi.key
PODS = "/v2/pods"
STOP = {"action": "stop"}


@pytest.fixture
def platform() -> Iterator[PlatformApi]:
    with PlatformApi() as platform:
        platform.add_pod("pod1")
        yield platform


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(platform: PlatformApi, pauses: list[float]) -> Iterator[Api]:
    with Api(KEY, platform.url, pause=pauses.append) as api:
        yield api


def error_of(api: Api, method: str = "get", path: str = PODS, *args: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        getattr(api, method)(path, *args)
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return caught.value


# The key and the address


@pytest.mark.parametrize("environ", [{}, {"RUNPOD_API_KEY": ""}, {"RUNPOD_API_KEY": " \n"}])
def test_a_key_that_is_not_set_is_told_with_what_to_do(environ: dict[str, str]) -> None:
    with pytest.raises(ApiError, match=r"RUNPOD_API_KEY: not set; create a key .*`export"):
        key_from(environ)


def test_a_key_is_taken_without_the_space_around_it() -> None:
    assert key_from({"RUNPOD_API_KEY": " rpa_x\n"}) == "rpa_x"


@pytest.mark.parametrize("key", ["rpa sesame", "rpa\nsesame", "rpä_sesame", "\x00sesame", ""])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(ApiError) as caught:
        Api(key)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.runpod.io",
        "ftp://api.runpod.io",
        "https://",
        "https://[sesame",
        "https://se same",
        "https://host:port",
        "https://host:99999",
        "https://me:sesame@host",
        "https://host?key=sesame",
        "https://host#sesame",
        "http://api.runpod.io",
        "http://10.0.0.1",
        "http://127.0.0.1.sesame.example",
    ],
)
def test_an_address_to_which_no_key_may_go_is_refused_unseen(url: str) -> None:
    with pytest.raises(ApiError, match="RUNPOD_API_URL, RUNPOD_JOBS_URL: ") as caught:
        Api(KEY, url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://api.example/", "http://127.0.0.1:80", "http://[::1]:80"])
def test_an_address_of_ones_own_is_taken(url: str) -> None:
    Api(KEY, url)


def test_the_addresses_can_be_set_by_the_environment() -> None:
    assert (api_url({}), jobs_url({})) == (API_URL, JOBS_URL)
    environ = {"RUNPOD_API_URL": "https://a", "RUNPOD_JOBS_URL": "https://b"}
    assert (api_url(environ), jobs_url(environ)) == ("https://a", "https://b")


@pytest.mark.parametrize(
    "path",
    ["", "v2/pods", "/v2/../x", "/v2/./x", "/v2//x", "/v2/pods/a b", "/v2/pods?x", "/..", "/"],
)
def test_a_path_that_leads_elsewhere_is_refused(api: Api, path: str) -> None:
    assert "not a path of the API" in str(error_of(api, "get", path))


# Answers that refuse


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, "is refused (400): no such thing as that"),
        (401, "the API key is not accepted (401): no such thing as that; check RUNPOD_API_KEY"),
        (403, "the API key has no right to do this (403): no such thing as that; give the key"),
        (404, "there is no such thing, or the key may not see it (404)"),
        (405, "is refused (405)"),
        (409, "that cannot be done in the present state (409)"),
        (418, "is refused (418)"),
        (422, "is refused (422)"),
    ],
)
def test_a_refusal_is_one_sentence_and_final(
    platform: PlatformApi, api: Api, pauses: list[float], status: int, told: str
) -> None:
    platform.fail("GET", PODS, status, body={"title": "T", "detail": "no such thing as that."})
    error = error_of(api)
    assert str(error).startswith(f"GET /v2/pods: {told}")
    assert (error.status, error.may_have_acted, error.may_pass) == (status, False, False)
    assert pauses == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", ""),
        (b"<html>no</html>", ""),
        (b"[" * 100_000, ""),
        (b"null", ""),
        (b'["detail"]', ""),
        (b"{}", ""),
        (b'{"detail": null, "title": 3}', ""),
        (b'{"error": "so it is"}', ": so it is"),
        (b'{"detail": "a\\u001b[2J\\nb", "errors": ["c", 4, null, {}]}', ": a [2J b; c"),
        (b'{"detail": "key ' + KEY.encode() + b'"}', ": key ***"),
        (b'{"detail": "' + b"x" * 5000 + b'"}', ": " + "x" * 297 + "..."),
    ],
)
def test_what_the_api_says_is_shown_as_far_as_it_can_be(
    platform: PlatformApi, api: Api, body: bytes, detail: str
) -> None:
    platform.fail("GET", PODS, 422, body=body)
    assert str(error_of(api)) == f"GET /v2/pods: is refused (422){detail}"


def test_values_of_an_environment_do_not_come_back_in_a_message(
    platform: PlatformApi, api: Api
) -> None:
    body = {"detail": "env.TOKEN: 'open sesame' is too long, and so is sesame"}
    platform.fail("PATCH", "/v2/serverless", 422, body=body)
    sent = {"env": {"TOKEN": "open sesame", "OTHER": "sesame", "SHORT": "i"}}
    error = error_of(api, "patch", "/v2/serverless/a", sent)
    assert str(error).endswith("(422): env.TOKEN: '***' is too long, and so is ***")


@pytest.mark.parametrize("said", ["-- BEGIN\nopen\n\tsesame\n", "-- BEGIN open sesame"])
def test_a_value_of_several_lines_does_not_come_back_in_a_message(
    platform: PlatformApi, api: Api, said: str
) -> None:
    platform.fail("PATCH", "/v2/serverless", 422, body={"detail": f"env.PEM: '{said}' is no key"})
    sent = {"env": {"PEM": "-- BEGIN\nopen\n\tsesame\n", "BLANK": " \n \n "}}
    error = error_of(api, "patch", "/v2/serverless/a", sent)
    assert str(error).endswith("(422): env.PEM: '***' is no key")


def test_a_redirect_is_not_followed(platform: PlatformApi, api: Api) -> None:
    with FileServer() as elsewhere:
        elsewhere.answers["/"] = [whole(b"{}")]
        for status in (301, 302, 303, 307, 308):
            platform.fail("GET", PODS, status, body=b"", headers={"Location": elsewhere.url()})
            error = error_of(api)
            assert f"redirected to another address, where the key is not sent ({status})" in str(
                error
            )
            assert str(elsewhere.port) not in str(error)
        assert elsewhere.requests == []


# Answers that are none


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff", b"NaN", b"[" * 100_000])
def test_an_answer_that_is_not_json_is_told(platform: PlatformApi, api: Api, body: bytes) -> None:
    platform.fail("GET", PODS, 200, body=body)
    error = error_of(api)
    assert str(error).startswith("GET /v2/pods: the answer is not JSON; is http://127.0.0.1:")
    assert error.may_have_acted


def test_an_answer_without_end_is_cut_off(
    platform: PlatformApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", 100_000)
    platform.fail("GET", PODS, 200, body=b'"' + b"x" * 10_000_000 + b'"')
    assert str(error_of(api)) == "GET /v2/pods: the answer has more than 100000 bytes"


def test_an_answer_that_shrinks_and_grows_is_cut_off(
    platform: PlatformApi, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", 100_000)
    bomb = gzip.compress(b" " * 50_000_000)
    platform.fail("GET", PODS, 200, body=bomb, headers={"Content-Encoding": "gzip"})
    assert "more than 100000 bytes" in str(error_of(api))


@pytest.mark.parametrize("answer", [hang(), drip(b'"' + b"x" * 100_000 + b'"', 0.02)])
def test_an_answer_that_does_not_come_is_told(answer: Any, pauses: list[float]) -> None:
    with (
        FileServer() as server,
        Api(KEY, server.url(""), timeout_s=0.2, pause=pauses.append) as api,
    ):
        server.answers[PODS] = [answer]
        error = error_of(api)
    assert str(error).endswith(f"127.0.0.1:{server.port} does not answer within 0.2 s")
    assert error.may_have_acted
    assert len(pauses) == 3


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        raw(b"\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        raw(b"HTTP/9 what\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
    ],
)
def test_an_answer_that_breaks_off_or_is_no_http_is_told(answer: Any) -> None:
    with FileServer() as server, Api(KEY, server.url(""), pause=lambda _: None) as api:
        server.answers[PODS] = [answer]
        error = error_of(api)
    assert str(error).endswith(f"127.0.0.1:{server.port} broke the connection off")
    assert error.may_have_acted


def test_a_port_where_nobody_listens_is_told_and_nothing_was_done() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = error_of(Api(KEY, f"http://127.0.0.1:{port}", pause=lambda _: None), "post", PODS, {})
    assert str(error) == f"POST /v2/pods: 127.0.0.1:{port} cannot be reached"
    assert not error.may_have_acted


def test_a_server_without_a_certificate_is_told(platform: PlatformApi) -> None:
    secure = Api(KEY, platform.url.replace("http:", "https:"), pause=lambda _: None)
    assert "broke the connection off" in str(error_of(secure))


# The key's way


def test_the_key_goes_as_a_header_and_no_netrc_takes_its_place(
    platform: PlatformApi, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    assert len(api.get(PODS)["pods"]) == 1
    assert platform.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert platform.headers[0]["User-Agent"].startswith("sotto/")


def test_a_query_is_sent_along(platform: PlatformApi, api: Api) -> None:
    assert api.get("/v2/catalog/gpus", include="AVAILABILITY", product="SERVERLESS")["gpus"]
    assert platform.calls() == [("GET", "/v2/catalog/gpus")]


# Trying again


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 520, 522, 524])
def test_what_may_pass_is_tried_again_with_growing_pauses(
    platform: PlatformApi, api: Api, pauses: list[float], status: int
) -> None:
    platform.fail("GET", PODS, status, times=3)
    assert len(api.get(PODS)["pods"]) == 1
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [501, 505])
def test_a_failure_that_no_time_mends_is_final(
    platform: PlatformApi, api: Api, pauses: list[float], status: int
) -> None:
    platform.fail("GET", PODS, status, body={"detail": "unknown"})
    error = error_of(api)
    assert str(error) == f"GET /v2/pods: the API fails ({status}): unknown"
    assert (error.may_have_acted, error.may_pass, pauses) == (True, False, [])


def test_what_does_not_pass_is_told_after_four_attempts(platform: PlatformApi, api: Api) -> None:
    platform.fail("GET", PODS, 503, times=9, body={"detail": "down"})
    error = error_of(api)
    assert str(error) == "GET /v2/pods: the API fails (503): down; try again later"
    assert len(platform.requests) == 4


def test_the_api_says_how_long_to_wait(
    platform: PlatformApi, api: Api, pauses: list[float]
) -> None:
    platform.fail("GET", PODS, 429, headers={"Retry-After": "12"})
    platform.fail("GET", PODS, 429, headers={"Retry-After": "soon"})
    api.get(PODS)
    assert pauses == [12.0, 2.0]


def test_a_wait_that_is_too_long_is_left_to_the_person(
    platform: PlatformApi, api: Api, pauses: list[float]
) -> None:
    platform.fail("GET", PODS, 429, headers={"Retry-After": "3600"}, body={})
    assert str(error_of(api)) == "GET /v2/pods: too many requests (429); try again in 3600 s"
    assert pauses == []


def test_a_post_that_may_have_acted_is_never_sent_twice(platform: PlatformApi, api: Api) -> None:
    for trouble in (platform.hang, platform.drop):
        trouble("POST", f"{PODS}/pod1/action")
        assert error_of(api, "post", f"{PODS}/pod1/action", STOP).may_have_acted
    for status in (500, 502, 503, 504, 520, 522, 524):
        platform.fail("POST", f"{PODS}/pod1/action", status)
        assert error_of(api, "post", f"{PODS}/pod1/action", STOP).may_have_acted
    assert len(platform.requests) == 9


def test_a_post_that_surely_did_not_act_is_sent_again(platform: PlatformApi, api: Api) -> None:
    platform.fail("POST", f"{PODS}/pod1/action", 429, times=2)
    assert api.post(f"{PODS}/pod1/action", STOP)["status"] == "EXITED"
    assert len(platform.requests) == 3


def test_a_post_that_may_be_repeated_is(platform: PlatformApi, api: Api) -> None:
    platform.drop("POST", "/graphql", times=2)
    assert api.post("/graphql", {"query": "{ myself }"}, is_repeatable=True)["data"]
    assert len(platform.requests) == 3


def test_a_patch_is_sent_again_after_a_lost_answer(platform: PlatformApi, api: Api) -> None:
    made = platform.add_endpoint()
    platform.hang("PATCH", "/v2/serverless")
    assert api.patch(f"/v2/serverless/{made['id']}", {"timeout": 60_000})["timeout"] == 60_000
    assert len(platform.requests) == 2


def test_a_delete_whose_answer_was_lost_is_done(platform: PlatformApi, api: Api) -> None:
    made = platform.add_endpoint()
    platform.hang("DELETE", "/v2/serverless")
    api.delete(f"/v2/serverless/{made['id']}")
    assert platform.endpoints == {}


@pytest.mark.parametrize("status", [None, 429])
def test_a_delete_of_what_never_was_there_is_an_error(
    platform: PlatformApi, api: Api, status: int | None
) -> None:
    if status:
        platform.fail("DELETE", "/v2/serverless", status)
    assert error_of(api, "delete", "/v2/serverless/nothing").status == 404


def test_an_answer_without_content_is_none(platform: PlatformApi, api: Api) -> None:
    assert api.post(f"{PODS}/pod1/action", {"action": "terminate"}) is None
