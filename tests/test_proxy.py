"""The proxy by which tests take databases away."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests import outages
from tests.outages import Proxy


def test_a_connection_that_was_just_accepted_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is switched off after it took a client and before it knows it."""
    connected = outages._connected

    def cut_then(address: str | tuple[str, int]) -> socket.socket:
        proxy.switch(False)
        return connected(address)

    monkeypatch.setattr(outages, "_connected", cut_then)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(f"mysql://127.0.0.1:{server.getsockname()[1]}/")
        with (
            socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
            suppress(ConnectionResetError),
        ):
            assert client.recv(1) == b""
