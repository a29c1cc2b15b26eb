"""The http transport, against servers that misbehave."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_taskqueue.core.delivery import Delivery
from flask_taskqueue.core.record import Record
from flask_taskqueue.core.reply import OutgoingRequest, Reply
from flask_taskqueue.engine.transports.http import HttpTransport

RECORD = Record(*[None] * len(Record._fields))  # type: ignore[arg-type]
TOTAL = 1.0
SLACK = 0.5

Behaviour = Callable[[socket.socket], None]


@contextmanager
def server(behave: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that treats each connection as told; its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        try:
            behave(context.wrap_socket(connection, server_side=True) if context else connection)
        except (OSError, ValueError):
            return
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in connections:
            connection.close()


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


def request(connection: socket.socket) -> bytes:
    """Read a request, its body included."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65_536)
    return head


def ok(connection: socket.socket) -> None:
    """Answer every request on a connection with 200."""
    while True:
        request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Two: 2\r\n\r\nok")


def forever(head: bytes, chunk: bytes, pause: float = 0.0) -> Behaviour:
    """Answer with a head, then the same chunk again and again."""

    def behave(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(head)
        while True:
            connection.sendall(chunk)
            time.sleep(pause)

    return behave


def silent(connection: socket.socket) -> None:
    """Read, and never answer."""
    while connection.recv(65_536):
        pass


def stalled(_connection: socket.socket) -> None:
    """Do not even read."""
    time.sleep(5)


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


def test_the_environment_has_no_part(transport: HttpTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, and no netrc in place of a header of ours."""
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(request(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with server(behave) as url:
        assert send(transport, url, Authorization="Bearer mine")[0].status == 204
    assert b"Bearer mine" in heads[0]


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
