"""A connection that was kept is closed as the next request comes: sent again only if nobody can
have read it, and counted otherwise.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.engine.transports import kept
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.apps import bench
from tests.certificates import Authority
from tests.databases import TestDatabase
from tests.misbehaving import delivery, ok, request, server, stopped_clock

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells what a peer has received"
)
TOTAL = 20.0

__all__ = ["stopped_clock"]
pytestmark = pytest.mark.usefixtures("stopped_clock")


@dataclass
class Rehearsed:
    """A server that answers, but treats the second request of its first connection as told;
    what it has read.
    """

    deed: Callable[[Rehearsed, socket.socket], None]
    read: list[bytes] = field(default_factory=list)
    about: threading.Event = field(default_factory=threading.Event)
    """Set when a request is about to be written on a kept connection that has just been found
    open.
    """
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: socket.socket) -> None:
        first = not self.read
        self.read.append(request(connection))
        connection.sendall(OK)
        if first:
            try:
                self.deed(self, connection)
            finally:
                self.done.set()


def reset(connection: socket.socket) -> None:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closes_before(play: Rehearsed, connection: socket.socket) -> None:
    assert play.about.wait(TOTAL)
    connection.close()


def resets_before(play: Rehearsed, connection: socket.socket) -> None:
    assert play.about.wait(TOTAL)
    reset(connection)


def reads_and_closes(play: Rehearsed, connection: socket.socket) -> None:
    play.read.append(request(connection))
    connection.close()


def reads_and_resets(play: Rehearsed, connection: socket.socket) -> None:
    play.read.append(request(connection))
    reset(connection)


def looks_and_closes(_: Rehearsed, connection: socket.socket) -> None:
    connection.recv(1, socket.MSG_PEEK)
    connection.close()


def begins_to_answer(play: Rehearsed, connection: socket.socket) -> None:
    play.read.append(request(connection))
    connection.sendall(OK[:9])
    reset(connection)


@pytest.fixture
def interleaved(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rehearsed], None]:
    """What lets a server do its deed between the check of a kept connection and the first byte
    of the request.
    """

    def interleave(play: Rehearsed) -> None:
        putrequest = HTTPConnection.putrequest

        def put(self: Any, *args: Any, **kwargs: Any) -> None:
            if getattr(self.sock, "answered_at", None) is not None:
                play.about.set()
                assert play.done.wait(TOTAL)
            putrequest(self, *args, **kwargs)

        monkeypatch.setattr(HTTPConnection, "putrequest", put)

    return interleave


@pytest.fixture(params=["http", "https"])
def context(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """What the server's connections are wrapped in."""
    if request.param == "http":
        return None
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    return authority.server("127.0.0.1")


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    one = HttpTransport(reply_cap=16_384, connect_timeout=TOTAL)
    yield one
    one.close()


def twice(transport: HttpTransport, url: str, body: bytes = b"x" * 100) -> Reply:
    """The reply to the second of two requests."""
    assert transport.send(*delivery(url, TOTAL, b"first")).status == 200
    return transport.send(*delivery(url, TOTAL, body))


@LINUX
@pytest.mark.parametrize("deed", [closes_before, resets_before])
@pytest.mark.parametrize("body", [b"", b"x", b"x" * 1_000_000])
def test_a_request_that_nobody_can_have_read_is_sent_again(
    transport: HttpTransport,
    context: ssl.SSLContext | None,
    interleaved: Callable[[Rehearsed], None],
    deed: Callable[[Rehearsed, socket.socket], None],
    body: bytes,
) -> None:
    """At once, in the same attempt: the peer had closed before a byte of it came."""
    play = Rehearsed(deed)
    interleaved(play)
    with server(play, context) as url:
        reply = twice(transport, url, body)
    if sys.version_info < (3, 13) and context is not None and body and deed is closes_before:
        # Before Python 3.13 the end of a TLS stream does not differ from a reset.
        assert reply.severed
    else:
        assert reply.status == 200
        assert len(play.read) == 2


@pytest.mark.parametrize(
    ("deed", "severed"),
    [(reads_and_closes, False), (reads_and_resets, True), (begins_to_answer, False)],
)
def test_a_request_that_may_have_been_read_is_not(
    transport: HttpTransport, deed: Callable[[Rehearsed, socket.socket], None], severed: bool
) -> None:
    """Not by the transport: it says what it knows, and an attempt is counted."""
    play = Rehearsed(deed)
    with server(play) as url:
        reply = twice(transport, url)
        assert (reply.status, reply.kind, reply.severed) == (None, "connection", severed)
        assert len(play.read) == 2


@pytest.mark.parametrize("deed", [reads_and_closes, reads_and_resets])
def test_a_new_connection_that_is_closed_is_no_such_case(
    transport: HttpTransport, deed: Callable[[Rehearsed, socket.socket], None]
) -> None:
    """Only a connection that was kept may be closed for no other reason than its age."""
    play = Rehearsed(deed)
    with server(lambda connection: deed(play, connection)) as url:
        reply = transport.send(*delivery(url, TOTAL))
    assert (reply.kind, reply.severed, len(play.read)) == ("connection", False, 1)


@pytest.mark.parametrize(
    ("deed", "ends"),
    [
        (looks_and_closes, [("connection", None), ("success", 200)]),
        (reads_and_resets, [("connection", None), ("success", 200)]),
        (reads_and_closes, [("connection", None)]),
    ],
)
def test_what_may_have_been_read_is_counted(
    sqlite_database: TestDatabase,
    deed: Callable[[Rehearsed, socket.socket], None],
    ends: list[tuple[str, int | None]],
) -> None:
    """A task whose connection was reset is attempted again, whatever its limit, and no request
    is read twice under one number.
    """
    play = Rehearsed(deed)
    with (
        server(play) as url,
        bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=[url.removeprefix("http://")]) as one,
    ):
        one.app.config["TESTING"] = False
        tasks = [
            one.tasks.add(f"{url}/{name}", retry={"task_retry_limit": 0}, serial_key="a")
            for name in ("first", "second")
        ]
        dispatcher, attempts = one.runtime.dispatcher(concurrency=1)
        while (wait := dispatcher.drain()) is not None and wait <= 0:
            pass
        dispatcher.stop(1)
        attempts.close()
        found = [(reason, status) for _, reason, status in sorted(one.attempts(tasks[1]))]
        assert one.attempts(tasks[0]) == [(1, "success", 200)]
    assert found == ends
    second = [head for head in play.read if b"/second" in head]
    assert (
        len({line for head in second for line in head.split(b"\r\n") if b"TaskRetryCount" in line})
        == len(second)
        <= len(ends)
    )


def noted(connections: list[socket.socket], connection: socket.socket) -> None:
    """Note a connection, and answer every request on it with 200."""
    connections.append(connection)
    ok(connection)


def test_after_trouble_with_a_connection_one_is_made_for_the_next_attempt(
    transport: HttpTransport,
) -> None:
    """So that the old connections of other threads do not make it fail again."""
    connections: list[socket.socket] = []
    with server(partial(noted, connections)) as url:
        for reason, made in ((None, 1), ("failure", 1), ("connection", 2), (None, 2)):
            outgoing, attempt = delivery(url, TOTAL)
            attempt.record = attempt.record._replace(last_reason=reason)
            assert transport.send(outgoing, attempt).status == 200
            assert len(connections) == made


def test_a_connection_that_was_idle_is_not_used_again(
    transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may be about to close it, gunicorn after two seconds, whatever has arrived."""
    connections: list[socket.socket] = []
    with server(partial(noted, connections)) as url:
        for now, made in ((100.0, 1), (100.9, 1), (101.8, 1), (102.9, 2), (103.0, 2)):
            monkeypatch.setattr(kept, "monotonic", lambda now=now: now)
            assert transport.send(*delivery(url, TOTAL)).status == 200
            assert len(connections) == made
