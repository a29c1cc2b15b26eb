"""A request that claims to be a delivery over HTTP.

Its claim and its body are taken before anything in the app can read from it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, cast

from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_content_length

from ..core.delivery import signatures
from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import Verdict
from ..core.urls import as_host, as_seen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


INCOMING_KEY = "flask_taskqueue.incoming"
"""The environ key of the `IncomingRequest`, in requests that claim to be deliveries."""

_PIECE = 65_536


@dataclass(slots=True, eq=False)
class IncomingRequest:
    """What a request claims, and what is found out about it.

    It stays the same object throughout, even though middleware copies environs. ``body`` holds the
    bytes that the signature has to cover. It is None if they need not be examined, because the
    headers are malformed or stale, or because no delivery has such a body, for example one that is
    longer than a task can have.
    """

    headers: Mapping[str, str]
    queue: str
    attempt: int | None
    body: bytes | None = None
    delivery: Delivery | None = None
    """The delivery that the request is, once that is proven."""
    examined: bool = False
    stale: bool = False
    """Whether it is a genuine delivery of an attempt that is not under way."""
    verdict: Verdict | None = None
    """What became of the request, recorded where its view was seen to run."""
    by_worker: bool = False
    """Whether a worker's view answered the request."""
    reported: bool = False
    """Whether the application has been told of an exception in this request."""
    _signed_for: str | Literal[False] | None = None

    def signed_for(self, environ: WSGIEnvironment, route_keys: Sequence[bytes]) -> str | None:
        """Return the host that the request is signed for, or None if it is not signed.

        That is "" for the app's own routes, or the host that a target of the app names. The first
        look counts, because a signature is fresh for some minutes only.
        """
        if self._signed_for is None:
            self._signed_for = self._find_signed(environ, route_keys)
        return self._signed_for if isinstance(self._signed_for, str) else None

    def _find_signed(
        self, environ: WSGIEnvironment, route_keys: Sequence[bytes]
    ) -> str | Literal[False]:
        if self.body is None or self.attempt is None:
            return False
        method = environ["REQUEST_METHOD"].upper()
        path = as_seen(
            environ.get("PATH_INFO", "").encode("latin-1"), environ.get("QUERY_STRING", "")
        )
        for host in ("", as_host(environ.get("HTTP_HOST", ""))):
            keys = signatures.attempt_keys(route_keys, method, path, self.queue, self.attempt, host)
            if signatures.verify(keys, self.headers, self.body, time.time()):
                return host
        return False


def receive(environ: WSGIEnvironment, most: int, now: float) -> IncomingRequest:
    """Return the claim of a request that carries a signature of Standard Webhooks.

    If all of the signature's headers are well formed and fresh, the body is read, up to ``most``
    bytes, and put back, so that later readers get the whole of it.
    """
    headers = {
        name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
        for name in signatures.HEADERS
    }
    attempt = _attempt(environ.get("HTTP_X_TASKQUEUE_TASKRETRYCOUNT", ""))
    incoming = IncomingRequest(headers, environ.get("HTTP_X_TASKQUEUE_QUEUENAME", ""), attempt)
    if attempt is not None and signatures.fresh_message_id(headers, now) is not None:
        incoming.body = _take_body(environ, most)
    environ[INCOMING_KEY] = incoming
    return incoming


def _attempt(count: str) -> int | None:
    return int(count) + 1 if count.isascii() and count.isdigit() and len(count) < 10 else None


def _take_body(environ: WSGIEnvironment, most: int) -> bytes | None:
    """Return the body, and leave it in the environ to be read again.

    None for a body that no delivery has, of which no more is read than it takes to see that.
    """
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    length = get_content_length(environ)
    if length is None and "wsgi.input_terminated" not in environ:
        return b""  # no server and no framework would read anything here
    if length is not None and length > most:
        return None
    rest = cast(IO[bytes], environ["wsgi.input"])
    body = _read(rest, most + 1 if length is None else length)
    if len(body) > most if length is None else len(body) < length:
        environ["wsgi.input"] = io.BufferedReader(_Joined(body, rest))
        return None
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _read(stream: IO[bytes], size: int) -> bytes:
    """Return this many bytes, or fewer if the stream ends or breaks earlier."""
    body = bytearray()
    try:
        while len(body) < size and (piece := stream.read(min(size - len(body), _PIECE))):
            body += piece
    # Werkzeug's streams, which middleware may have put there, raise HTTPException.
    except (OSError, HTTPException):
        pass
    return bytes(body)


class _Joined(io.RawIOBase):
    """A stream of what was already read, followed by the rest, with its errors."""

    def __init__(self, begin: bytes, rest: IO[bytes]) -> None:
        self._begin = io.BytesIO(begin)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._begin.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)
