"""The http transport: sends real requests over connections of the requests library."""

from __future__ import annotations

import contextvars
import errno
import threading
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPException, LineTooLong, RemoteDisconnected
from typing import Literal

import urllib3
from requests.exceptions import InvalidHeader
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as PoolTimeoutError

from ...core.delivery.delivery import Delivery
from ...core.delivery.verdict import OutgoingRequest, Reply
from .deadline_http import AddressRefusedError, DeadlineAdapter, Objection, deadline, no_objection
from .final_response import InvalidLengthError
from .kept import Lookups, NotReceivedError, SeveredError, anew

_CHUNK = 4096
_DEFAULTS = {"User-Agent": "Flask-TaskQueue", "Accept": "*/*", "Accept-Encoding": "identity"}
_ONCE = urllib3.Retry(0, read=False)


class HttpTransport:
    """A transport with one adapter of requests per thread, its connections kept between tasks.

    Sessions of requests are not used: what they would do for a request (cookies, redirects,
    proxies, netrc, hooks) is not wanted here, and costs more than sending it. The deadline is
    total. Redirects are never followed, nor their bodies read. A reply is read up to ``reply_cap``
    bytes, as sent (identity encoding), and not drained beyond.
    """

    proves = False

    def __init__(
        self, *, reply_cap: int, connect_timeout: float, objection: Objection = no_objection
    ) -> None:
        self._cap = reply_cap
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=None)
        self._objection = objection
        self.reset()

    def reset(self) -> None:
        """Forget connections and threads without closing anything.

        After a fork they are the parent's.
        """
        self._local = threading.local()
        self._adapters: list[DeadlineAdapter] = []
        self._lookups = Lookups()

    def close(self) -> None:
        """Close every connection."""
        for adapter in self._adapters:
            adapter.close()

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send a request; trouble on the way is reported in the reply, not raised."""
        return contextvars.copy_context().run(self._send, request, delivery)

    def _send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        deadline.set(delivery.expires)
        anew.set(delivery.record.last_reason == "connection")
        try:
            while True:
                try:
                    return self._exchange(request)
                except NotReceivedError:
                    # only a kept connection raises this, and there is now one fewer of them
                    continue
        except (HTTPError, OSError, ValueError) as error:
            return _trouble(error, delivery)

    def _exchange(self, request: OutgoingRequest) -> Reply:
        pool, target = self._pool(request.url)
        response = pool.urlopen(
            request.method,
            target,
            request.body or None,
            _headers(request.headers),
            retries=_ONCE,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )
        return self._read(response)

    def _read(self, response: urllib3.BaseHTTPResponse) -> Reply:
        body = b""
        unread = 300 <= response.status < 400 or (
            response.status == 204 and "transfer-encoding" in response.headers
        )
        try:
            if not unread:
                for chunk in response.stream(_CHUNK, decode_content=False):
                    body += chunk
                    if len(body) > self._cap:
                        break
        finally:
            truncated = unread or len(body) > self._cap
            if truncated:
                # otherwise the rest would be read before the connection is used again
                response.close()
            else:
                response.release_conn()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(
            status=response.status,
            headers=headers,
            body=body[: self._cap],
            truncated=len(body) > self._cap,
        )

    def _pool(self, url: str) -> tuple[HTTPConnectionPool, str]:
        """Return this thread's connections for a URL, and what to request there."""
        adapter: DeadlineAdapter | None = getattr(self._local, "adapter", None)
        if adapter is None:
            adapter = self._local.adapter = DeadlineAdapter(self._lookups, self._objection)
            self._adapters.append(adapter)
        parts = _parsed(url)
        return adapter.pool(parts), parts.request_uri


_parsed = lru_cache(maxsize=1024)(urllib3.util.parse_url)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request, with our defaults for those it lacks.

    Raises InvalidHeader for a header of several lines.
    """
    names = {name.lower() for name in given}
    values = "".join(given.values())
    if "\n" in values or "\r" in values:  # http.client would send it, folded
        raise InvalidHeader("a header has more than one line")
    return {
        **{name: value for name, value in _DEFAULTS.items() if name.lower() not in names},
        **given,
    }


def _trouble(error: Exception, delivery: Delivery) -> Reply:
    """Return a reply that says in our own words what went wrong.

    The words of requests contain the whole URL.
    """
    kind: Literal["timeout", "connection", "tls", "refused"]
    causes = _causes(error)
    if isinstance(error, AddressRefusedError):
        kind, text = "refused", str(error)
    elif isinstance(error, SeveredError):
        return Reply(
            status=None, headers={}, body=b"", error=str(error), kind="connection", severed=True
        )
    elif any(
        isinstance(cause, NewConnectionError) for cause in causes
    ):  # ConnectTimeoutError is a base of it
        kind, text = "connection", f"the connection failed: {_root(causes)}"
    elif any(isinstance(cause, ConnectTimeoutError) for cause in causes):
        kind, text = "timeout", "no connection within the time allowed"
    elif any(
        isinstance(cause, OSError) and cause.errno == errno.ETIMEDOUT for cause in causes
    ):  # from the probes, not from the deadline
        kind, text = "connection", "the connection failed: the other side does not answer any more"
    elif any(isinstance(cause, TimeoutError | PoolTimeoutError) for cause in causes):
        kind, text = (
            "timeout",
            f"no reply within the deadline of {delivery.expires - delivery.started:g} s",
        )
    elif any(isinstance(cause, SSLError) for cause in causes):
        kind, text = "tls", "the TLS certificate was not accepted, or the handshake failed"
    else:
        kind, text = "connection", f"the connection failed: {_root(causes)}"
    return Reply(status=None, headers={}, body=b"", error=text, kind=kind)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and those that it was raised for."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is not None and cause not in found:
            found.append(cause)
            reason = getattr(cause, "reason", None)
            inner = [argument for argument in cause.args if isinstance(argument, BaseException)]
            waiting += [
                cause.__cause__,
                cause.__context__,
                reason if isinstance(reason, BaseException) else None,
                *inner,
            ]
    return found


def _root(causes: list[BaseException]) -> str:
    system = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if system:
        return str(system[-1].strerror)
    if any(isinstance(cause, RemoteDisconnected) for cause in causes):
        return "it was closed without a reply"
    if any(isinstance(cause, InvalidLengthError) for cause in causes):
        return "the reply has a Content-Length that is no length, or several"
    if type(causes[-1]) in (HTTPException, LineTooLong):
        return "the reply has too many headers, or too long ones"
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return "the reply is cut off, or is not HTTP"
    return type(causes[-1]).__name__
