"""Threats: the server that a task goes to does harm by how it answers."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from flask_taskqueue import Settings
from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.core.states import State
from flask_taskqueue.engine.transports.deadline_http import tls_context
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.apps import bench
from tests.certificates import Authority
from tests.databases import TestDatabase
from tests.misbehaving import (
    Behaviour,
    delivery,
    forever,
    ok,
    plain,
    request,
    server,
    silent,
    stalled,
)
from tests.waiting import wait_until

TOTAL = 1.0
AMPLE = 60.0
"""A deadline that only a reply which is read without end would reach."""
CAP = 16_384


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport that keeps 16 kB of a reply."""
    one = HttpTransport(reply_cap=CAP, connect_timeout=TOTAL)
    yield one
    one.close()


def send(
    transport: HttpTransport, url: str, body: bytes = b"x", *, deadline: float = TOTAL
) -> Reply:
    """Send a request, and return the reply."""
    return transport.send(*delivery(url, deadline, body))


SLOW: dict[str, Behaviour] = {
    "dripping body": forever(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.05),
    "dripping chunks": forever(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05
    ),
    "dripping head": forever(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", 0.05),
    "dripping status": forever(b"HTTP/1.1 200 ", b"O", 0.05),
    "100 Continue for ever": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "silent": silent,
}


class TestSlowlorisTarget:
    """However a server drags it out, for ever if it is let, the delivery ends at its deadline."""

    @pytest.mark.slow
    @pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
    def test_the_deadline_is_total(self, transport: HttpTransport, behave: Behaviour) -> None:
        """Not per read: as a timeout, with the deadline in the error."""
        with server(behave) as url:
            started = time.monotonic()
            reply = send(transport, url)
            took = time.monotonic() - started
        assert (reply.status, reply.kind) == (None, "timeout")
        assert took >= TOTAL - 0.05
        assert "deadline of 1 s" in str(reply.error)

    @pytest.mark.slow
    def test_an_upload_that_stalls(self, transport: HttpTransport) -> None:
        """Sending is under the deadline too."""
        with server(stalled) as url:
            reply = send(transport, url, body=b"x" * 50_000_000)
        assert reply.kind == "timeout"

    @pytest.mark.slow
    def test_a_handshake_that_never_comes(self, transport: HttpTransport) -> None:
        """TLS is under the deadline too."""
        with server(silent) as url:
            reply = send(transport, url.replace("http:", "https:"))
        assert reply.kind == "timeout"

    @pytest.mark.slow
    def test_a_name_server_that_does_not_answer(
        self, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The look-up is left behind in its thread."""
        answer = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer.wait(AMPLE) and [])
        reply = send(transport, "http://slow.example/")
        assert not answer.is_set()
        answer.set()
        assert reply.kind == "timeout"

    @pytest.mark.slow
    def test_name_servers_that_do_not_answer_hold_up_no_other_name(
        self, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many they are, and however often their names are asked for: each is looked up
        once at a time.
        """
        answer, real, asked = threading.Event(), socket.getaddrinfo, Counter[str]()

        def find(host: str, *rest: Any) -> Any:
            asked[host] += 1
            if host.startswith("slow"):
                assert answer.wait(60)
            return real("127.0.0.1" if host.startswith("slow") else host, *rest)

        monkeypatch.setattr(socket, "getaddrinfo", find)
        names = [f"slow{number % 20}.example" for number in range(40)]
        with ThreadPoolExecutor(len(names)) as waiting, server(ok) as url:
            try:
                kinds = [
                    waiting.submit(lambda name=name: send(transport, f"http://{name}/").kind)
                    for name in names
                ]
                wait_until(lambda: len(asked) == 20, what="all of them are asked for")
                for _ in range(5):
                    assert send(transport, url, deadline=AMPLE).status == 200
                assert {kind.result(60) for kind in kinds} == {"timeout"}
            finally:
                answer.set()
        assert {asked[name] for name in names} == {1}


LONG = b"X-Long: " + b"x" * 60_000 + b"\r\n"
BOMBS: dict[str, tuple[Behaviour, int | None]] = {
    "endless": (forever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), 200),
    "endless chunks": (
        forever(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65_536 + b"\r\n",
        ),
        200,
    ),
    "one chunk of a terabyte": (
        forever(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n", b"x" * 65_536
        ),
        200,
    ),
    "a gzip bomb of 210 MB": (
        forever(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
            gzip.compress(b"\0" * 210_000_000, 1),
        ),
        200,
    ),
    "a redirect with an endless body": (
        forever(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b"x" * 65_536),
        302,
    ),
    "headers without end": (forever(b"HTTP/1.1 200 OK\r\n", LONG), None),
    "a header line without end": (forever(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536), None),
    "a status line without end": (forever(b"HTTP/1.1 200 ", b"x" * 65_536), None),
    "interim answers without end": (
        forever(b"", b"HTTP/1.1 100 Continue\r\n" + LONG + b"\r\n"),
        None,
    ),
}


class TestResponseBomb:
    """A reply costs the memory of what is kept of it, not of what is sent."""

    @pytest.mark.parametrize(("behave", "status"), BOMBS.values(), ids=BOMBS)
    def test_memory_stays_flat(
        self, transport: HttpTransport, behave: Behaviour, status: int | None
    ) -> None:
        """As it was sent, up to the cap and no further; the process grows by less than 5 MB
        over five of them, headers by less than 15.
        """
        process, deadline = psutil.Process(), AMPLE if status else TOTAL
        with server(behave) as url:
            send(transport, url, deadline=deadline)
            before = process.memory_info().rss
            for _ in range(5 if status else 1):
                reply = send(transport, url, deadline=deadline)
                assert (reply.status, len(reply.body)) == (status, CAP if status == 200 else 0)
                if behave is BOMBS["headers without end"][0]:
                    assert "too many headers" in str(reply.error)
            assert process.memory_info().rss - before < (5_000_000 if status else 15_000_000)

    def test_headers_that_no_column_holds(self, database: TestDatabase) -> None:
        """They are stored up to 16 kB, so that the database takes them and the dispatcher goes
        on.
        """

        def many(connection: socket.socket) -> None:
            request(connection)
            connection.sendall(
                b"HTTP/1.1 500 Oops\r\n"
                + b"".join(b"X-%d: %s\r\n" % (n, b"\xe9" * 500) for n in range(60))
                + b"\r\n"
            )

        with (
            server(many) as url,
            bench(database.url, TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"]) as queue,
        ):
            queue.tasks.worker("/w")(lambda: None)
            task = queue.tasks.add(url, retry={"task_retry_limit": 0})
            good = queue.tasks.add("/w")
            queue.tasks.drain()
            assert (queue.tasks.get(task.id).state, queue.tasks.get(good.id).state) == (
                State.DEAD,
                State.SUCCEEDED,
            )
            store = queue.store
            with store.reading() as connection:
                (attempt,) = store.finished_tasks.attempts(connection, task.id)
            assert 0 < len(attempt.reply_headers) <= CAP
            assert json.loads(attempt.reply_headers)["x-0"].startswith("é")


class TestTlsStrippingAndWrongCertificates:
    """A server that cannot prove its name gets nothing; the task is tried again, with the
    reason ``tls``.
    """

    @pytest.fixture
    def authority(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
        """An authority that this process trusts."""
        one = Authority(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(one.bundle))
        return one

    @pytest.mark.parametrize(
        ("certificate", "reason"),
        [
            ({"host": "127.0.0.1"}, "success"),
            ({"host": "127.0.0.1", "self_signed": True}, "tls"),
            ({"host": "other.example"}, "tls"),
            ({"host": "127.0.0.1", "days": -1}, "tls"),
            (None, "tls"),
        ],
        ids=["good", "self-signed", "wrong host", "expired", "no TLS at all"],
    )
    def test_the_task_is_tried_again(
        self,
        certificate: dict[str, str | int | bool] | None,
        reason: str,
        authority: Authority,
        sqlite_database: TestDatabase,
    ) -> None:
        """Nothing is sent, not in the clear either."""
        heads: list[bytes] = []

        def answer(connection: socket.socket) -> None:
            heads.append(request(connection))
            connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        context = None if certificate is None else authority.server(**certificate)  # type: ignore[arg-type]
        with (
            server(answer if context else plain, context) as url,
            bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"]) as queue,
        ):
            task = queue.run(
                queue.tasks.add(url.replace("http:", "https:"), retry={"min_backoff_seconds": 60})
            )
            attempts = queue.attempts(task)
        assert [(number, why) for number, why, _ in attempts] == [(1, reason)]
        assert task.state is (State.SUCCEEDED if reason == "success" else State.SCHEDULED)
        assert len(heads) == (reason == "success")

    def test_verification_cannot_be_switched_off(self) -> None:
        """There is no setting for it, and the context asks for a certificate that fits the name."""
        assert not [
            name for name in Settings.__dataclass_fields__ if "verify" in name or "insecure" in name
        ]
        context = tls_context()
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2

    def test_where_the_system_has_no_authorities(self, authority: Authority) -> None:
        """Those that requests brings are trusted beside the one that ``SSL_CERT_FILE`` names."""
        assert (
            ssl.create_default_context().cert_store_stats()["x509_ca"]
            < 10
            < tls_context().cert_store_stats()["x509_ca"]
        )
