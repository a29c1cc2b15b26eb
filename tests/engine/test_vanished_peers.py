"""Peers that vanish, as a machine does that loses its power."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flask_taskqueue.engine.transports import deadline_http
from flask_taskqueue.engine.transports.deadline_http import PROBES
from flask_taskqueue.engine.transports.http import HttpTransport
from tests.certificates import Authority
from tests.engine.test_http_transport import send
from tests.misbehaving import request, server

PEER = """
import socket, time
listener = socket.create_server(("0.0.0.0", 8000))
print("ready", flush=True)
connection, _ = listener.accept()
connection.recv(65536)
print("asked", flush=True)
time.sleep(3600)
"""


@dataclass
class Machine:
    """A network of its own that can be cut off, on one cable with this one."""

    name: str
    address: str

    def run(self, *command: str) -> None:
        """Run a command of the system; raise when it is not allowed."""
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def cut(self) -> None:
        """Lose whatever comes, and say nothing of it."""
        self.run("ip", "netns", "exec", self.name, "ip", "address", "flush", "dev", "peer")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Where the system lets a test make one."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("no networks can be made here")
    number = os.getpid() % 60_000
    one = Machine(f"taskqueue-{number}", f"10.213.{number // 250}.2")
    here, near = f"tq{number}", f"10.213.{number // 250}.1/30"
    inside = ("ip", "netns", "exec", one.name)
    try:
        one.run("ip", "netns", "add", one.name)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("no networks can be made here")
    try:
        one.run(
            "ip", "link", "add", here, "type", "veth", "peer", "name", "peer", "netns", one.name
        )
        one.run("ip", "address", "add", near, "dev", here)
        one.run("ip", "link", "set", here, "up")
        one.run(*inside, "ip", "address", "add", f"{one.address}/30", "dev", "peer")
        one.run(*inside, "ip", "link", "set", "peer", "up")
        yield one
    finally:
        subprocess.run(("ip", "netns", "delete", one.name), check=False, capture_output=True)
        subprocess.run(("ip", "link", "delete", here), check=False, capture_output=True)


@pytest.mark.skipif(
    not hasattr(socket, "TCP_KEEPIDLE"), reason="the system does not let it be said"
)
@pytest.mark.parametrize("secure", [False, True])
def test_the_system_looks_whether_a_peer_is_there(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On each connection, with TLS too."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    transport = HttpTransport(reply_cap=100, connect_timeout=10)

    def behave(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        connection.recv(1)

    with server(behave, authority.server("127.0.0.1") if secure else None) as url:
        assert send(transport, url, total=30).status == 204
        connection = transport._pool(url)[0]._get_conn()
        told = {
            name: connection.sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in PROBES
        }
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert told == PROBES
        connection.close()
        transport.close()


@pytest.mark.slow
def test_a_peer_that_vanishes_is_no_matter_of_the_deadline(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's probes find out, here within seconds of a deadline of an hour, and the
    attempt says that the connection failed.
    """
    monkeypatch.setattr(
        deadline_http, "PROBES", {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}
    )
    transport = HttpTransport(reply_cap=100, connect_timeout=10)
    command = ("ip", "netns", "exec", machine.name, sys.executable, "-c", PEER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        said = peer.stdout
        assert said is not None
        assert said.readline() == "ready\n"
        cutting = threading.Thread(target=lambda: said.readline() and machine.cut())
        cutting.start()
        try:
            began = time.monotonic()
            reply = send(transport, f"http://{machine.address}:8000/", total=3600)
            took = time.monotonic() - began
        finally:
            peer.kill()
            cutting.join()
            transport.close()
    assert (reply.kind, reply.status) == ("connection", None)
    assert (reply.error or "").startswith("the connection failed: ")
    assert took < 600
