"""S3 buckets, a job's own or the operator's: how an answer is put there and the link to it.

Invariant: nothing here opens a connection, and no message holds a value that it was given: people
mix up which one is the secret.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sotto.errors import RequestError
from sotto.net import Destination, openable
from sotto.settings import Settings, SettingsError, variable

S3_CONFIG = "s3Config"
DEFAULT_REGION = "us-east-1"
PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
REGION_IN_HOST = re.compile(r"(?<![a-z0-9])[a-z]{2,3}(?:-[a-z]+)+-\d{1,3}(?![a-z0-9-])")


class Rule(NamedTuple):
    """Whether a text can be a field of a bucket, and what can be in words."""

    fits: Callable[[str], object]
    words: str


ENDPOINT = re.compile(r"https?://[\w.:\[\]-]{1,300}(/[\w.~-]{1,100}){0,10}/?", re.ASCII)
KEY = re.compile(r"[!-~]{1,512}")
RULES = {
    "endpoint_url": Rule(
        lambda url: ENDPOINT.fullmatch(url) and openable(url),
        "the http(s) address of the store, without a user, a query or a fragment",
    ),
    "name": Rule(
        re.compile(r"[A-Za-z0-9][\w.-]{2,62}", re.ASCII).fullmatch,
        "the bucket's name: 3 to 63 letters, digits, dots, hyphens or underscores",
    ),
    "access_id": Rule(KEY.fullmatch, "the access key, without spaces"),
    "access_secret": Rule(KEY.fullmatch, "the secret key, without spaces"),
    "region": Rule(
        re.compile(r"[A-Za-z0-9-]{1,64}").fullmatch, "the store's region, such as eu-west-1"
    ),
}
OF_A_JOB = {
    "accessId": "access_id",
    "accessSecret": "access_secret",
    "bucketName": "name",
    "endpointUrl": "endpoint_url",
    "region": "region",
}
"""The fields of `s3Config` as the platform names them, and `region`, for hosts that hide it."""
OF_THE_SETTINGS = {
    "s3_endpoint_url": "endpoint_url",
    "s3_bucket": "name",
    "s3_access_id": "access_id",
    "s3_access_secret": "access_secret",
    "s3_region": "region",
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the keys to it. `by_operator`: it may be at a private address."""

    endpoint_url: str
    name: str
    access_id: str = field(repr=False)
    access_secret: str = field(repr=False)
    region: str | None = None
    by_operator: bool = False

    def destination(self, key: str, body: bytes) -> Destination:
        """Where and with which headers `body` is PUT under `key`: signed, good for minutes.

        The signature is in the headers and covers the body: not every store takes one in the
        address, the platform's own does not, and none can then take a body that is not whole.
        """
        request = self._request("PUT", key, body)
        request.headers["Content-Type"] = "application/json"
        _auth().S3SigV4Auth(*self._signer()).add_auth(request)
        return Destination(request.url, dict(request.headers.items()), self.by_operator)

    def link(self, key: str, lifetime_s: int) -> str:
        """The address at which anyone can read what lies under `key`, for `lifetime_s`."""
        request = self._request("GET", key, None)
        _auth().S3SigV4QueryAuth(*self._signer(), expires=lifetime_s).add_auth(request)
        return str(request.url)

    def _request(self, method: str, key: str, body: bytes | None) -> Any:
        from botocore.awsrequest import AWSRequest

        return AWSRequest(method=method, url=self._address(key), data=body)

    def _address(self, key: str) -> str:
        """Path style, which every store has, unless the endpoint is already that of the bucket."""
        base = _without_default_port(self.endpoint_url).rstrip("/")
        of_bucket = (urlsplit(base).hostname or "").startswith(f"{self.name.lower()}.")
        return f"{base}/{key}" if of_bucket else f"{base}/{self.name}/{key}"

    def _signer(self) -> tuple[Any, str, str]:
        from botocore.credentials import Credentials

        credentials = Credentials(self.access_id, self.access_secret)
        return credentials, "s3", self.region or region_of(self.endpoint_url)


def bucket_of_job(config: object) -> Bucket:
    """The bucket that a job's `s3Config` names. Raises RequestError, naming the field at fault."""
    names = ", ".join(OF_A_JOB)
    if not isinstance(config, Mapping):
        raise RequestError(S3_CONFIG, f"expected an object with {names}")
    if not set(config) <= set(OF_A_JOB):
        raise RequestError(S3_CONFIG, f"has a field that is not one of its own; they are {names}")
    given = {OF_A_JOB[name]: value for name, value in config.items() if value is not None}
    for name, of_bucket in OF_A_JOB.items():
        reason = _wrong(of_bucket, given.get(of_bucket))
        if reason:
            raise RequestError(f"{S3_CONFIG}.{name}", reason)
    return Bucket(**given)


def bucket_of_settings(settings: Settings) -> Bucket | None:
    """The operator's bucket, None without one.

    Raises SettingsError with one line for every variable that is missing beside the others or
    cannot be used.
    """
    given = {ours: getattr(settings, name) for name, ours in OF_THE_SETTINGS.items()}
    if all(value is None for ours, value in given.items() if ours != "region"):
        return None
    reasons = {name: _wrong(ours, given[ours]) for name, ours in OF_THE_SETTINGS.items()}
    problems = [f"{variable(name)}: {reason}" for name, reason in reasons.items() if reason]
    if problems:
        raise SettingsError("\n".join(problems))
    return Bucket(**given, by_operator=True)


def key_of(job_id: str) -> str:
    """The key of a job's answer: the same each time, its own, and no way out of its folder."""
    if not job_id:
        job_id = uuid.uuid4().hex
    elif not PLAIN_ID.fullmatch(job_id):
        job_id = hashlib.sha256(job_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sotto/{job_id}.json"


def region_of(endpoint_url: str) -> str:
    """The region that the store's host names: `us-west-2` of `s3.us-west-2.amazonaws.com`.

    A bucket's name, which may look like one, stands before it.
    """
    found = REGION_IN_HOST.findall((urlsplit(endpoint_url).hostname or "").lower())
    return found[-1] if found else DEFAULT_REGION


def _wrong(of_bucket: str, value: object) -> str | None:
    """What is wrong with the value of a bucket's field, if anything is."""
    rule = RULES[of_bucket]
    if value is None:
        return None if of_bucket == "region" else f"is missing; give {rule.words}"
    if not isinstance(value, str) or not rule.fits(value):
        return f"cannot be used; give {rule.words}"
    return None


def _without_default_port(url: str) -> str:
    """As it goes into the request's Host, so that the signature is over the same."""
    return re.sub(r"^(http://[^/]+):80(?=/|$)|^(https://[^/]+):443(?=/|$)", r"\1\2", url)


def _auth() -> Any:
    """The signing half of botocore, imported when first needed."""
    import botocore.auth

    # At DEBUG it logs what it signs and the signature.
    logging.getLogger("botocore.auth").setLevel(logging.INFO)
    return botocore.auth
