"""Connections kept between requests, and what is known of a request when the peer closes one.

A server closes an idle connection when it likes, so the next request may cross with the close.
Whether that request can have been handled is told by TCP: what the peer sends once its system has
received something acknowledges it. If the stream ends (FIN) and nothing of the request is
acknowledged, the peer had closed before a byte of it arrived, and nobody can have read one. A reset
(RST) shows nothing of the kind: the peer may have read the request, acknowledged nothing yet, and
broken off; or, if it is busy, have closed an idle connection that the request had reached unread.
The latter is avoided: a connection is used again within a second only.

Names are looked up in threads that can be left behind: the system's own look-up has no time limit.
"""

from __future__ import annotations

import contextvars
import socket
import ssl
import struct
import sys
import threading
from concurrent.futures import Future
from time import monotonic
from typing import Any

from urllib3.exceptions import HTTPError

from ...process.threads import NoThreadError, start_thread

Addresses = list[tuple[Any, ...]]
"""Addresses, as getaddrinfo returns them."""

_MOST = 256
"""The most threads that look up names at a time.

No process attempts so many tasks that it looks up this many names at once, unless hardly one has an
answer.
"""


class Lookups:
    """One look-up of each name at a time, in a thread of its own, for all who wait for it.

    So a name server that does not answer holds up nobody who looks for names of other servers.
    Nothing is cached: whoever asks after a look-up has ended has the name looked up anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Addresses]] = {}

    def find(self, host: str, port: int, limit: float) -> Addresses:
        """Return the addresses of a host.

        Raises TimeoutError after ``limit`` seconds, and OSError as getaddrinfo does, when too many
        look-ups are under way or when no thread can be started.
        """
        key = host, port
        with self._lock:
            found = self._running.get(key)
            if found is None:
                if len(self._running) >= _MOST:
                    raise OSError(
                        f"{_MOST} look-ups of other names are under way, and none has an answer"
                    )
                found = Future()
                try:
                    start_thread(self._look, key, found, name="taskqueue-lookup")
                except NoThreadError as error:
                    raise OSError(f"the name cannot be looked up: {error}") from error
                self._running[key] = found  # its thread waits for the lock to remove it
        return found.result(limit)

    def _look(self, key: tuple[str, int], found: Future[Addresses]) -> None:
        try:
            answer: Addresses | BaseException = list(
                socket.getaddrinfo(*key, 0, socket.SOCK_STREAM)
            )
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for the answer
            answer = error
        with self._lock:
            del self._running[key]
        if isinstance(answer, BaseException):
            found.set_exception(answer)
        else:
            found.set_result(answer)


anew: contextvars.ContextVar[bool] = contextvars.ContextVar("flask_taskqueue.anew", default=False)
"""Whether requests of this context must use a new connection."""

_CLOSED = "the connection was closed before the request arrived"
_BROKEN = "the connection, kept from an earlier request, broke before a byte of the reply came"
_IDLE = 1.0
"""The seconds after which an idle connection is not used again.

gunicorn closes one after two by default, which is sooner than other servers do.
"""
_ACKNOWLEDGED = 120
"""The offset of tcpi_bytes_acked in Linux's tcp_info."""


class NotReceivedError(HTTPError):
    """A kept connection that the peer had closed before anything of the request arrived."""


class SeveredError(HTTPError):
    """A kept connection that broke before a byte of the reply came.

    The request may have been read or not.
    """


class WatchedSocket:
    """Socket methods that note what becomes of a request on a kept connection."""

    answered_at: float | None = None
    """When the connection last brought a reply, on the monotonic clock; None if it never has."""
    severed: bool = False
    unreceived: bool = False
    _acknowledged: int | None = None
    sent: int = 0
    """The bytes of the request that are known to have been taken."""
    _heard = False
    _torn = False

    def watch(self) -> None:
        """Start to note what happens; called before each request but the first."""
        self._acknowledged = _acknowledged(self)
        self.sent = 0
        self._heard = self._torn = self.severed = self.unreceived = False

    def send(self, *args: Any, **kwargs: Any) -> int:
        try:
            count: int = super().send(*args, **kwargs)  # type: ignore[misc]
        except BrokenPipeError:  # the stream had ended before
            raise
        except OSError:
            self._torn = (
                self.sent > 0
            )  # what is read after a reset looks like the end of the stream
            raise
        self.sent += count
        return count

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        try:
            count: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]
        except ConnectionError:
            self.severed = self.answered_at is not None and not self._heard
            raise
        if count:
            self._heard = True
        elif self.answered_at is not None and not self._heard:
            self._judge_end()
        return count

    def _judge_end(self) -> None:
        known = self._acknowledged is not None and not self._torn
        self.unreceived = known and _acknowledged(self) == self._acknowledged
        self.severed = not known


class KeptConnection:
    """A connection of urllib3 that tells how a request failed for which it had been kept."""

    sock: Any

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be used again, which urllib3 asks before it does so."""
        connected: bool = super().is_connected  # type: ignore[misc]
        return connected and not anew.get() and monotonic() < (self.sock.answered_at or 0) + _IDLE

    def request(self, *args: Any, **kwargs: Any) -> None:
        sock = self.sock
        kept = None if sock is None or sock.answered_at is None else sock
        if kept is not None:
            kept.watch()
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        except (
            ssl.SSLEOFError
        ) as error:  # unlike after a broken pipe, urllib3 does not look for a reply
            if kept is None:
                raise
            if not kept.sent:
                raise NotReceivedError(_CLOSED) from error
            raise SeveredError(_BROKEN) from error
        except ConnectionResetError as error:  # urllib3 looks for a reply after it only since 2.2
            if kept is not None and not kept.sent:
                raise NotReceivedError(_CLOSED) from error
            raise

    def getresponse(self) -> Any:
        sock = self.sock
        try:
            response = super().getresponse()  # type: ignore[misc]
        except ConnectionError as error:
            if sock.unreceived:
                raise NotReceivedError(_CLOSED) from error
            if sock.severed:
                raise SeveredError(_BROKEN) from error
            raise
        sock.answered_at = monotonic()
        return response


def _acknowledged(sock: Any) -> int | None:
    """Return how many bytes of what was sent the peer's system has received.

    Returns None if the system does not report it.
    """
    if sys.platform != "linux":
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED + 8)
    if len(info) < _ACKNOWLEDGED + 8:
        return None
    count: int = struct.unpack_from("=Q", info, _ACKNOWLEDGED)[0]
    return count or None  # after a reply, 0 means that the system does not count
