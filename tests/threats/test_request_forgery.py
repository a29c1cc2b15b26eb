"""Threat: a task's URL makes the dispatcher call what its author could not reach (SSRF)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.verdict import Reply
from flask_taskqueue.core.errors import InvalidUrlError
from flask_taskqueue.core.security.targets import Targets
from flask_taskqueue.core.settings.app import Settings
from flask_taskqueue.core.states import State
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.apps import bench
from tests.databases import TestDatabase
from tests.misbehaving import delivery, listening, request, server

LITERALS = """
    127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0x7f.0x0.0x0.0x1
    0177.0.0.1 017700000001
    0 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1
    3232235777
    169.254.169.254 169.254.170.2 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe 100.64.0.1
    100.100.100.200 192.0.0.192 168.63.129.16
    192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 192.88.99.1 224.0.0.1 239.255.255.250 240.0.0.1
    255.255.255.255
    [::] [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1]
    [::ffff:169.254.169.254] [::127.0.0.1]
    [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::1] [2002:7f00:1::] [2002:a00:1::1] [2001::1]
    [2001:20::1] [2001:db8::1]
    [3fff::1] [5f00::1] [100::1] [fc00::1] [fd00:ec2::254] [fd20:ce::254] [fe80::1] [fec0::1]
    [ff02::1] [ff0e::1]
""".split()
NAMES = {
    "localhost": ["127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "app.localhost": ["::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "private.example": ["10.0.0.5"],
    "both.example": ["8.8.8.8", "127.0.0.1"],
    "both-the-other-way.example": ["127.0.0.1", "8.8.8.8"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "zone.example": ["fe80::1%lo"],
    "xn--lcalhost-54a.example": ["127.0.0.1"],
}


@pytest.fixture
def victim() -> Iterator[tuple[int, list[str]]]:
    """A server on every address of this machine, version 6 too; its port, and who connected."""
    with listening() as found:
        yield found


class Resolver:
    """Stands for the network's name servers: answers what a test says, each time the next
    answer.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]]
    ) -> None:
        self.asked = 0
        self._answers = answers
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *rest: Any) -> list[Any]:
        if host not in self._answers:
            return self._real(host, port, *rest)
        left = self._answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        self.asked += 1
        return [
            (
                socket.AF_INET6 if ":" in item else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (item, port),
            )
            for item in found
        ]


def policy(**config: Any) -> Targets:
    """The targets of a configuration."""
    return Targets.of(
        Settings.of({f"TASKQUEUE_{name.upper()}": value for name, value in config.items()})
    )


def send(targets: Targets, url: str) -> Reply:
    """Send as the dispatcher does, without the check of the URL."""
    transport = HttpTransport(reply_cap=100, connect_timeout=0.3, objection=targets.objection)
    try:
        return transport.send(*delivery(url))
    finally:
        transport.close()


class TestServerSideRequestForgeryByATargetUrl:
    """The address that is connected is the one that was checked; whatever is not meant is
    refused, and nothing connects.
    """

    def test_the_table_is_long_enough(self) -> None:
        """Sixty targets and more."""
        assert len({*LITERALS, *NAMES}) >= 60

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "https://example.com/",
            "//example.com/",
            "http://8.8.8.8/",
            "file:///etc/passwd",
        ],
    )
    def test_by_default_no_absolute_url_is_accepted(
        self, url: str, sqlite_database: TestDatabase
    ) -> None:
        """Tasks stay in the application."""
        with bench(sqlite_database.url) as queue, pytest.raises(InvalidUrlError):
            queue.tasks.add(url)

    @pytest.mark.parametrize("host", LITERALS)
    def test_an_address_that_is_not_public(self, host: str, victim: tuple[int, list[str]]) -> None:
        """However it is written: refused when added, and refused where the connection would be
        made.
        """
        port, connected = victim
        public = policy(targets="public", target_ports=[port])
        with pytest.raises(InvalidUrlError):
            public.check(f"http://{host}:{port}/")
        reply = send(public, f"http://{host}:{port}/")
        assert (reply.kind, connected) == ("refused", [])

    @pytest.mark.parametrize("host", NAMES)
    def test_a_name_that_leads_to_one(
        self, host: str, victim: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when only one of its addresses is bad."""
        Resolver(monkeypatch, {host: [NAMES[host]]})
        port, connected = victim
        reply = send(policy(targets="public", target_ports=[port]), f"http://{host}:{port}/")
        assert (reply.kind, connected) == ("refused", [])
        assert "not allowed as a target" in str(reply.error)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_resolver_that_answers_something_else_the_second_time(
        self, scheme: str, victim: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is no second time: a name is asked for once per connection, and what it
        answered is what is connected.
        """
        resolver = Resolver(monkeypatch, {"rebinding.example": [["192.0.2.1"], ["127.0.0.1"]]})
        port, connected = victim
        # 192.0.2.1 stands for a public address that does not answer.
        monkeypatch.setattr(
            "flask_taskqueue.core.security.targets.is_public",
            lambda address: str(address) == "192.0.2.1",
        )
        public = policy(targets="public", target_ports=[port])
        first = send(public, f"{scheme}://rebinding.example:{port}/")
        assert (first.kind in ("timeout", "connection"), resolver.asked, connected) == (True, 1, [])
        assert (
            send(public, f"{scheme}://rebinding.example:{port}/").kind,
            resolver.asked,
            connected,
        ) == ("refused", 2, [])

    def test_a_peer_that_is_not_the_address_that_was_asked_for(
        self, victim: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other end of the connection is looked at as well: 0.0.0.0 is this machine."""
        port, _ = victim
        public = policy(targets="public", target_ports=[port])
        monkeypatch.setattr(
            "flask_taskqueue.core.security.targets.is_public",
            lambda address: str(address) == "0.0.0.0",
        )
        assert send(public, f"http://0.0.0.0:{port}/").kind == "refused"

    @pytest.mark.parametrize(
        "location",
        [
            "http://127.0.0.1:{port}/",
            "//127.0.0.1:{port}/",
            "http://localhost:{port}/",
            "file:///etc/passwd",
        ],
    )
    def test_a_redirect_to_this_machine(self, location: str, victim: tuple[int, list[str]]) -> None:
        """Redirects are not followed, wherever they lead."""
        port, connected = victim
        head = (
            f"HTTP/1.1 302 Found\r\nLocation: {location.format(port=port)}\r\nContent-Length: "
            "0\r\n\r\n"
        ).encode()

        def redirect(connection: socket.socket) -> None:
            request(connection)
            connection.sendall(head)

        with server(redirect) as url:
            reply = send(policy(allowed_hosts=["127.0.0.1"]), url)
        assert (reply.status, connected) == (302, [])

    def test_proxies_and_netrc_of_the_environment(
        self, victim: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Neither has a part: a proxy would connect in our place, netrc would give passwords
        away.
        """
        heads: list[bytes] = []

        def answer(connection: socket.socket) -> None:
            heads.append(request(connection))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        port, connected = victim
        (tmp_path / ".netrc").write_text("default login netrc password netrc\n")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        for name in (
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
            "HTTPS_PROXY",
            "https_proxy",
        ):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        with server(answer) as url:
            assert send(policy(allowed_hosts=["127.0.0.1"]), url).status == 204
        assert connected == []
        assert b"uthorization" not in heads[0]

    def test_the_task_is_dead_and_says_why(
        self,
        victim: tuple[int, list[str]],
        monkeypatch: pytest.MonkeyPatch,
        sqlite_database: TestDatabase,
    ) -> None:
        """A refusal is no trouble that would pass: it is not tried again."""
        Resolver(monkeypatch, {"rebinding.example": [["127.0.0.1"]]})
        port, connected = victim
        with bench(
            sqlite_database.url, TASKQUEUE_TARGETS="public", TASKQUEUE_TARGET_PORTS=[port]
        ) as queue:
            task = queue.run(queue.tasks.add(f"http://rebinding.example:{port}/hook"))
        assert (task.state, task.attempts, connected) == (State.DEAD, 1, [])
        assert (
            task.last_error
            == "rebinding.example leads to 127.0.0.1, which is not allowed as a target"
        )

    def test_a_row_written_by_hand(
        self, victim: tuple[int, list[str]], sqlite_database: TestDatabase
    ) -> None:
        """Whoever can write the table is held to the same list."""
        port, connected = victim
        with bench(sqlite_database.url) as queue:
            queue.app.add_url_rule("/w", view_func=lambda: "", methods=["POST"])
            ids = [queue.tasks.add("/w").id for _ in range(3)]
            table = queue.store.database.tables.task
            forged = [
                {"url": f"http://127.0.0.1:{port}/"},
                {"target": f"http://127.0.0.1:{port}"},
                {"target": f"http://x@127.0.0.1:{port}"},
            ]
            with queue.store.database.engine.begin() as connection:
                for task_id, values in zip(ids, forged, strict=True):
                    connection.execute(sa.update(table).where(table.c.id == task_id).values(values))
            queue.tasks.drain()
            states = [queue.tasks.get(task_id).state for task_id in ids]
        assert (states, connected) == ([State.DEAD] * 3, [])
