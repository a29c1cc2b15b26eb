"""Connections with a total deadline, for an adapter of requests.

The timeouts of requests and urllib3 apply to each read, so a server that drips bytes can hold its
client for ever. Here every step (name look-up, connecting, TLS, each send and each read) gets what
is left of one deadline.
"""

from __future__ import annotations

import contextvars
import socket
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Url

from .final_response import FinalResponse
from .kept import KeptConnection, Lookups, WatchedSocket

Objection = Callable[[str, int, str], str | None]
"""A function that says why a connection must not be made, or returns None if it may be.

It takes a host, a port and an address that the host leads to.
"""

deadline: contextvars.ContextVar[float] = contextvars.ContextVar("flask_taskqueue.http_deadline")
"""When the delivery of this context must be over, on the monotonic clock."""


PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""The options by which the system asks whether a silent peer is still there.

They say after how many seconds of silence it asks, how many seconds apart, and how often before it
gives up. A peer that vanished (its machine lost power, a firewall forgot the connection) says
nothing, and would otherwise be waited for until the deadline.
"""


class AddressRefusedError(HTTPError):
    """The refusal of a host that leads to an address that connections must not be made to."""


def remaining() -> float:
    """Return the seconds left, or raise TimeoutError when there are none."""
    left = deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


class _Timed:
    """Socket methods that wait no longer than the deadline allows."""

    _step: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._step = value
        super().settimeout(value)  # type: ignore[misc]

    def _arm(self) -> None:
        left = remaining()
        super().settimeout(left if self._step is None else min(self._step, left))  # type: ignore[misc]

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().recv_into(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        self._arm()
        return super().recv(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def send(self, *args: Any, **kwargs: Any) -> int:
        self._arm()
        return super().send(*args, **kwargs)  # type: ignore[misc, no-any-return]

    def sendall(self, data: Any, *args: Any) -> None:
        """Send the data in pieces, so that a reader that stalls is noticed."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view[:65536]) :]


class _Socket(WatchedSocket, _Timed, socket.socket):
    pass


class _TLSSocket(WatchedSocket, _Timed, ssl.SSLSocket):
    pass


class _Connecting:
    """The making of a connection: the look-up, then each address in turn.

    The look-up runs in a thread that can be left behind. The addresses that are checked are the
    ones that are connected to, so there is no second look-up that could give others. One bad
    address refuses them all.
    """

    lookups: Lookups
    objection: Objection

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        try:
            return self._connect(connection._dns_host, connection.port, connection.timeout)
        except TimeoutError as error:
            raise ConnectTimeoutError(
                connection, "no connection within the time allowed"
            ) from error
        except OSError as error:
            raise NewConnectionError(connection, str(error)) from error

    def _connect(self, host: str, port: int, step: float | None) -> socket.socket:
        limit = remaining() if step is None else min(step, remaining())
        found = self.lookups.find(host, port, limit)
        for *_, address in found:
            self._vet(host, port, str(address[0]))
        problem: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in found:
            sock = _Socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _keep_alive(sock)
                sock.settimeout(step)
                sock._arm()
                sock.connect(address)
                self._vet(host, port, sock.getpeername()[0])
                return sock
            except AddressRefusedError:
                sock.close()
                raise
            except OSError as error:
                problem = error
                sock.close()
        raise problem

    def _vet(self, host: str, port: int, address: str) -> None:
        complaint = self.objection(host, port, address)
        if complaint is not None:
            raise AddressRefusedError(complaint)


class DeadlineAdapter(HTTPAdapter):
    """An adapter of requests whose connections keep the deadline of their context.

    Each thread has its own.
    """

    def __init__(self, lookups: Lookups, objection: Objection) -> None:
        self._pools = _pools(lookups, objection)
        self._last: tuple[tuple[str | None, str | None, int | None], HTTPConnectionPool] | None = (
            None
        )
        super().__init__(
            max_retries=urllib3.Retry(0, read=False), pool_connections=10, pool_maxsize=2
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Set up the pools of connections.

        The constructor of the base class calls this.
        """
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def pool(self, url: Url) -> HTTPConnectionPool:
        """Return the connections for a URL, as the adapter's own `send` would take them.

        What `send` does around them is left out.
        """
        origin = url.scheme, url.host, url.port
        if self._last is None or self._last[0] != origin:
            self._last = (
                origin,
                self.poolmanager.connection_from_host(url.host, url.port, url.scheme),
            )
        return self._last[1]


def tls_context() -> ssl.SSLContext:
    """Return a context that always verifies certificates and host names.

    It trusts the authorities of OpenSSL, which ``SSL_CERT_FILE`` may name, and those that requests
    brings.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.sslsocket_class = _TLSSocket
    return context


def _pools(shared: Lookups, object_to: Objection) -> dict[str, type[HTTPConnectionPool]]:
    context = cache(tls_context)  # made when it is needed: this takes as long as a hundred requests

    class Connecting(_Connecting):
        lookups = shared
        objection = staticmethod(object_to)

    class Connection(KeptConnection, Connecting, HTTPConnection):
        response_class = FinalResponse

    class TLSConnection(KeptConnection, Connecting, HTTPSConnection):
        response_class = FinalResponse

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = TLSConnection

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, ssl_context=context())

    return {"http": Pool, "https": TLSPool}


def _keep_alive(sock: socket.socket) -> None:
    """Have the system check whether the peer is still there, with the options that it offers."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def no_objection(_host: str, _port: int, _address: str) -> str | None:
    """Allow every address: it is the application's own, which its configuration names."""
    return None
