"""The http transport, against servers that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.verdict import OutgoingRequest, Reply
from flask_taskqueue.core.states import Record
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.misbehaving import ok, request, server, stopped_clock

RECORD = Record(*[None] * len(Record._fields))  # type: ignore[arg-type]
TOTAL = 60.0
SLACK = 0.5

__all__ = ["stopped_clock"]
pytestmark = pytest.mark.usefixtures("stopped_clock")


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport that keeps 16 kB of a reply."""
    one = HttpTransport(reply_cap=16_384, connect_timeout=TOTAL)
    yield one
    one.close()


def send(
    transport: HttpTransport, url: str, body: bytes = b"x", total: float = TOTAL, **headers: str
) -> Reply:
    """Send a request, and return the reply."""
    started = time.monotonic()
    delivery = Delivery(record=RECORD, started=started, expires=started + total)
    return transport.send(OutgoingRequest("POST", url, headers, body), delivery)


def test_connections_are_kept_and_cookies_are_not(transport: HttpTransport) -> None:
    """A thread's next delivery to a host goes over the same connection, with nothing carried
    over.
    """
    ports, heads = set(), []

    def behave(connection: socket.socket) -> None:
        ports.add(connection.getpeername()[1])
        while True:
            heads.append(request(connection).lower())
            connection.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    with server(behave) as url:
        for _ in range(5):
            assert send(transport, url).status == 200
    assert len(ports) == 1
    assert len(heads) == 5
    assert not any(b"cookie" in head for head in heads)


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early "
        b"Hints\r\n\r\n",
    ],
)
def test_an_answer_belongs_to_its_own_request(transport: HttpTransport, before: bytes) -> None:
    """Whatever informs of it before: the final one is the reply, and the next request gets the
    next.
    """

    def behave(connection: socket.socket) -> None:
        for status in (b"200 OK", b"500 No", b"204 Nothing"):
            request(connection)
            connection.sendall(before + b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    with server(behave) as url:
        assert [send(transport, url).status for _ in range(3)] == [200, 500, 204]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FORGED = b"HTTP/1.1 299 Forged\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (OK + b"more", 200),
        (OK + FORGED, 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + FORGED, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: -1\r\n\r\n", 204),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n", 304),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n" + FORGED, 304),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n", 101),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\nok", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            200,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: "
            b"x\r\n\r\n" + FORGED,
            200,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + FORGED, None),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 1001 + b"Content-Length: 0\r\n\r\n", None),
        (b"nonsense\r\n\r\n" + FORGED, None),
    ],
)
def test_whatever_is_odd_about_a_reply_ends_its_connection(
    transport: HttpTransport, reply: bytes, status: int | None
) -> None:
    """The next request goes over another one, whose answer it gets."""
    connections: list[int] = []

    def behave(connection: socket.socket) -> None:
        connections.append(1)
        odd = len(connections) == 1
        while True:
            request(connection)
            connection.sendall(reply if odd else b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    with server(behave) as url:
        assert [send(transport, url).status for _ in range(3)] == [status, 503, 503]
    assert len(connections) == 2


@pytest.mark.parametrize(
    "reply",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nContent-Type: "
        b"multipart/mixed\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 999 + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n"
        + b"X-A: %s\r\n" % (b"a" * 30_000) * 8
        + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX-A: 1\r\n\r\nok",
    ],
)
def test_a_reply_that_is_merely_unusual_keeps_its_connection(
    transport: HttpTransport, reply: bytes
) -> None:
    """A length that is told twice, trailers, up to a thousand headers."""
    connections: list[int] = []

    def behave(connection: socket.socket) -> None:
        connections.append(1)
        while True:
            request(connection)
            connection.sendall(reply)

    with server(behave) as url:
        replies = [send(transport, url) for _ in range(3)]
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok")] * 3
    assert len(connections) == 1


def test_the_body_of_a_reply_to_head_is_nobodys(transport: HttpTransport) -> None:
    """A length alone is as it should be; a body ends the connection."""
    connections: list[int] = []

    def behave(connection: socket.socket) -> None:
        connections.append(1)
        while True:
            head = request(connection)
            asked = b"/body" in head
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 67\r\n\r\n" + (FORGED if asked else b"")
            )

    def head(url: str) -> int | None:
        now = time.monotonic()
        delivery = Delivery(record=RECORD, started=now, expires=now + TOTAL)
        return transport.send(OutgoingRequest("HEAD", url, {}, b""), delivery).status

    with server(behave) as url:
        assert [head(f"{url}/length"), head(f"{url}/body"), head(f"{url}/length")] == [
            200,
            200,
            200,
        ]
    assert len(connections) == 2


@pytest.mark.slow
def test_a_server_that_only_informs_is_a_timeout(transport: HttpTransport) -> None:
    """The deadline is total."""

    def behave(connection: socket.socket) -> None:
        request(connection)
        while True:
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(0.05)

    with server(behave) as url:
        assert send(transport, url, total=1).kind == "timeout"


def test_threads_have_sessions_of_their_own(transport: HttpTransport) -> None:
    """They send at the same time."""
    together = threading.Barrier(4, timeout=60)
    replies: list[int | None] = []

    def behave(connection: socket.socket) -> None:
        request(connection)
        together.wait()
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(behave) as url:
        threads = [
            threading.Thread(target=lambda: replies.append(send(transport, url).status))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == [204] * 4


def test_a_refused_connection_and_garbage_are_told_without_the_url(
    transport: HttpTransport,
) -> None:
    """The sentence holds no query, in which secrets are."""
    with server(lambda connection: connection.sendall(b"nonsense\r\n\r\n")) as url:
        garbage = send(transport, f"{url}/?token=secret")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = send(transport, f"http://127.0.0.1:{unused.getsockname()[1]}/?token=secret")
    for reply in (garbage, refused):
        assert (reply.status, reply.kind) == (None, "connection")
        assert "secret" not in str(reply.error)
    assert "refused" in str(refused.error)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"", "it was closed without a reply"),
        (b"SSH-2.0-x\r\n", "cut off, or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "cut off, or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", "cut off, or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Le", "cut off, or is not HTTP"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: ", "cut off, or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "cut off, or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "cut off, or is not HTTP"),
        *(
            (b"HTTP/1.1 200 OK\r\n%s\r\n\r\nok" % lengths, "Content-Length that is no length")
            for lengths in (
                b"Content-Length: -1",
                b"Content-Length: two",
                b"Content-Length:",
                b"Content-Length: +2",
                b"Content-Length: 0_2",
                b"Content-Length: \xb2",
                b"Content-Length: " + b"9" * 5000,
                b"Content-Length: 2, 3",
                b"Content-Length: 2\r\nContent-Length: 3",
            )
        ),
    ],
)
def test_a_reply_that_breaks_off_is_told_in_words(
    transport: HttpTransport, reply: bytes, said: str
) -> None:
    """And not by the names of Python's exceptions."""

    def behave(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(reply)

    with server(behave) as url:
        found = send(transport, url)
        assert (found.status, found.kind) == (None, "connection")
        assert said in str(found.error)


def test_a_connection_that_was_closed_meanwhile_is_made_anew(transport: HttpTransport) -> None:
    """A server that closes idle connections costs no attempt."""
    served: list[int] = []

    def once(connection: socket.socket) -> None:
        request(connection)
        served.append(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(once) as url:
        for _ in range(3):
            assert send(transport, url).status == 200
            time.sleep(0.05)
    assert len(served) == 3


def test_a_server_is_told_who_asks_unless_the_task_says_it_itself(transport: HttpTransport) -> None:
    """Each header goes out once, whatever its case."""
    heads: list[list[bytes]] = []

    def behave(connection: socket.socket) -> None:
        while True:
            heads.append(request(connection).lower().split(b"\r\n"))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(behave) as url:
        send(transport, f"{url}/a?b=%20#c")
        send(transport, url, **{"user-agent": "mine", "accept": "text/plain"})
    ours, theirs = heads
    assert ours[0] == b"post /a?b=%20 http/1.1"
    assert {b"user-agent: flask-taskqueue", b"accept: */*", b"accept-encoding: identity"} < set(
        ours
    )
    assert theirs[0] == b"post / http/1.1"
    assert {b"user-agent: mine", b"accept: text/plain", b"accept-encoding: identity"} < set(theirs)
    assert [len({line.split(b":")[0] for line in head}) for head in heads] == [
        len(head) for head in heads
    ]


def test_a_header_of_several_lines_is_not_sent(transport: HttpTransport) -> None:
    """Nor folded."""
    heads: list[bytes] = []
    with server(lambda connection: heads.append(request(connection))) as url:
        for value in ("a\r\nHost: b", "a\r\n b", "a\nb", "a\rb"):
            assert send(transport, url, **{"X-A": value}).kind == "connection"
    assert heads == []


def test_more_hosts_than_are_kept(transport: HttpTransport) -> None:
    """A connection that was closed for others is made anew."""
    with ExitStack() as servers:
        urls = [servers.enter_context(server(ok)) for _ in range(12)]
        assert [send(transport, url).status for url in [*urls, *urls, urls[-1]]] == [200] * 25
