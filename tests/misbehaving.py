"""Servers that do as they are told, or not at all as they should."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.verdict import OutgoingRequest
from flask_taskqueue.core.states import Record
from flask_taskqueue.engine.transports import kept

RECORD = Record(*[None] * len(Record._fields))  # type: ignore[arg-type]

Behaviour = Callable[[socket.socket], None]


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """For connections no time passes, so that they are kept however slow the machine is."""
    monkeypatch.setattr(kept, "monotonic", lambda: 0.0)


@contextmanager
def server(behave: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that treats each connection as told; its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(1)
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            if context is None:
                behave(connection)
                return
            with context.wrap_socket(connection, server_side=True) as wrapped:
                behave(wrapped)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
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


def request(connection: socket.socket) -> bytes:
    """Read a request, its body included."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
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


def plain(connection: socket.socket) -> None:
    """Answer whatever comes as a server without TLS does."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def silent(connection: socket.socket) -> None:
    """Read, and never answer."""
    while connection.recv(65_536):
        pass


def stalled(_connection: socket.socket) -> None:
    """Do not even read."""
    time.sleep(5)


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A server that accepts on every address of this machine, and the peers that connected."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        connected: list[str] = []

        def accept() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                connected.append(str(peer[0]))
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1], connected
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def delivery(
    url: str, total: float = 1.0, body: bytes = b"x", **headers: str
) -> tuple[OutgoingRequest, Delivery]:
    """A request, and the delivery it is part of."""
    started = time.monotonic()
    return OutgoingRequest("POST", url, headers, body), Delivery(
        record=RECORD, started=started, expires=started + total
    )
