"""The http transport, against servers that misbehave."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskqueue.core.delivery import Delivery
from flask_taskqueue.core.record import Record
from flask_taskqueue.core.reply import OutgoingRequest, Reply
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.misbehaving import Behaviour, forever, ok, request, server, silent, stalled

RECORD = Record(*[None] * len(Record._fields))  # type: ignore[arg-type]
TOTAL = 1.0
SLACK = 0.5


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport that keeps 16 kB of a reply."""
    one = HttpTransport(reply_cap=16_384, connect_timeout=TOTAL)
    yield one
    one.close()


def send(transport: HttpTransport, url: str, body: bytes = b"x", total: float = TOTAL, **headers: str) -> tuple[Reply, float]:
    """Send a request; the reply and the seconds it took."""
    started = time.monotonic()
    delivery = Delivery(record=RECORD, started=started, expires=started + total)
    reply = transport.send(OutgoingRequest("POST", url, headers, body), delivery)
    return reply, time.monotonic() - started


SLOW: dict[str, Behaviour] = {
    "dripping body": forever(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.05),
    "dripping head": forever(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", 0.05),
    "100 Continue for ever": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "silent": silent,
}


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
def test_the_deadline_is_total(transport: HttpTransport, behave: Behaviour) -> None:
    """However a server drags it out, the delivery ends at its deadline, as a timeout."""
    with server(behave) as url:
        reply, took = send(transport, url)
    assert (reply.status, reply.kind) == (None, "timeout")
    assert TOTAL - 0.05 <= took < TOTAL + SLACK
    assert "deadline of 1 s" in str(reply.error)


def test_an_upload_that_stalls_ends_at_the_deadline(transport: HttpTransport) -> None:
    """Sending is under the deadline too."""
    with server(stalled) as url:
        reply, took = send(transport, url, body=b"x" * 50_000_000)
    assert reply.kind == "timeout"
    assert took < TOTAL + SLACK


@pytest.mark.parametrize(
    "chunk", [b"x" * 65_536, gzip.compress(b"\0" * 10_000_000)], ids=["endless", "compressed to burst when it is unpacked"]
)
def test_a_reply_is_read_up_to_the_cap(transport: HttpTransport, chunk: bytes) -> None:
    """As it was sent, at once, and no further."""
    with server(forever(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n", chunk)) as url:
        reply, took = send(transport, url)
    assert (reply.status, len(reply.body), reply.truncated) == (200, 16_384, True)
    assert took < TOTAL


def test_a_redirect_is_not_followed_nor_its_body_read(transport: HttpTransport) -> None:
    """Its status is the reply, at once."""
    with server(forever(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"x" * 65_536)) as url:
        reply, took = send(transport, url)
    assert (reply.status, reply.body, reply.headers["location"]) == (302, b"", "http://127.0.0.1:1/")
    assert took < TOTAL


def test_connections_are_kept_and_cookies_are_not(transport: HttpTransport) -> None:
    """A thread's next delivery to a host goes over the same connection, with nothing carried over."""
    ports, heads = set(), []

    def behave(connection: socket.socket) -> None:
        ports.add(connection.getpeername()[1])
        while True:
            heads.append(request(connection).lower())
            connection.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    with server(behave) as url:
        for _ in range(5):
            assert send(transport, url)[0].status == 200
    assert len(ports) == 1
    assert len(heads) == 5
    assert not any(b"cookie" in head for head in heads)


def test_threads_have_sessions_of_their_own(transport: HttpTransport) -> None:
    """They send at the same time."""
    together = threading.Barrier(4, timeout=5)
    replies: list[int | None] = []

    def behave(connection: socket.socket) -> None:
        request(connection)
        together.wait()
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(behave) as url:
        threads = [threading.Thread(target=lambda: replies.append(send(transport, url, total=5)[0].status)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == [204] * 4


def test_a_refused_connection_and_garbage_are_told_without_the_url(transport: HttpTransport) -> None:
    """The sentence holds no query, in which secrets are."""
    with server(lambda connection: connection.sendall(b"nonsense\r\n\r\n")) as url:
        garbage, _ = send(transport, f"{url}/?token=secret")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused, _ = send(transport, f"http://127.0.0.1:{unused.getsockname()[1]}/?token=secret")
    for reply in (garbage, refused):
        assert (reply.status, reply.kind) == (None, "connection")
        assert "secret" not in str(reply.error)
    assert "refused" in str(refused.error)


def test_a_connection_that_was_closed_meanwhile_is_made_anew(transport: HttpTransport) -> None:
    """A server that closes idle connections costs no attempt."""
    served: list[int] = []

    def once(connection: socket.socket) -> None:
        request(connection)
        served.append(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(once) as url:
        for _ in range(3):
            assert send(transport, url)[0].status == 200
            time.sleep(0.05)
    assert len(served) == 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted_is_refused(transport: HttpTransport, tmp_path: Path) -> None:
    """Nothing is sent; there is no falling back."""
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, *files], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    trusting = HttpTransport(reply_cap=100, connect_timeout=TOTAL, ca_bundle=str(tmp_path / "cert"))
    with server(ok, context) as url:
        reply, _ = send(transport, url)
        trusted, _ = send(trusting, url)
    trusting.close()
    assert (reply.status, reply.kind) == (None, "tls")
    assert (trusted.status, trusted.body) == (200, b"ok")


def test_a_handshake_that_never_comes_ends_at_the_deadline(transport: HttpTransport) -> None:
    """TLS is under the deadline too."""
    with server(silent) as url:
        reply, took = send(transport, url.replace("http:", "https:"))
    assert reply.kind == "timeout"
    assert took < TOTAL + SLACK
