"""The final response to a request, whose connection is reused only if nothing was odd."""

from __future__ import annotations

import email.errors
import http.client
import re
import socket
from contextlib import suppress
from typing import Any

_HEADER_DEFECTS = (
    email.errors.MissingHeaderBodySeparatorDefect,
    email.errors.FirstHeaderLineIsContinuationDefect,
)
_LENGTH = re.compile("[0-9]{1,18}")
_HEADERS = 1000
_HEAD_SIZE = 262_144
_PIECE = 32_768
"""The bytes of headers that http.client is handed at a time.

It takes no line of more than twice that.
"""


class InvalidLengthError(http.client.HTTPException):
    """A response has a Content-Length that is no length, or several that differ."""


class FinalResponse(http.client.HTTPResponse):
    """A response that skips the responses of 1xx that come before it (RFC 9110, 15.2).

    It takes up to a thousand headers. http.client skips 100 only and takes 103 (Early Hints) for
    the answer, so that the real one is read as the answer to the next request on the connection.
    Whatever could make the next request's answer another's ends the connection: bytes behind the
    body, a body where there must be none, more than one length, 101. The connection is shut down,
    so that whoever takes it next finds it closed.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._socket = sock
        self._odd = False
        super().__init__(sock, *args, **kwargs)

    def begin(self) -> None:
        """Read up to the end of the headers."""
        stream: Any = self.fp
        try:
            super().begin()
        finally:
            if isinstance(self.fp, _Head):
                self.fp = stream
        self._check_length()
        self._odd = self._is_ambiguous()

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        while 100 <= status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            http.client.parse_headers(self.fp)
            version, status, reason = super()._read_status()  # type: ignore[misc]
        self.fp: Any = _Head(self.fp)
        return version, status, reason

    def _check_length(self) -> None:
        """Raise `InvalidLengthError` if nobody can know where the body ends (RFC 9112, 6.3)."""
        lengths = self._lengths()
        bodiless = self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED)
        if not lengths or bodiless or self.status < 200 or "Transfer-Encoding" in self.headers:
            return
        if self._method == "HEAD":  # type: ignore[attr-defined]
            return
        length = lengths.pop()
        if lengths or not _LENGTH.fullmatch(length):
            raise InvalidLengthError
        self.length: int | None = int(length)  # also of a list of equal ones

    def _lengths(self) -> set[str]:
        return {
            length.strip()
            for given in self.headers.get_all("Content-Length", ())
            for length in given.split(",")
        }

    def _is_ambiguous(self) -> bool:
        """Return whether client and server may differ about where the response ends."""
        lengths = self._lengths()
        encoded = "Transfer-Encoding" in self.headers
        has_body = encoded or bool(lengths - {"0"})
        bodiless = self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.RESET_CONTENT)
        cut = any(isinstance(defect, _HEADER_DEFECTS) for defect in self.headers.defects)
        return self.status < 200 or cut or len(lengths) + encoded > 1 or (bodiless and has_body)

    def _close_conn(self) -> None:
        """Shut the connection down if the response was odd or bytes follow it.

        Called when the body has been read to its end.
        """
        if self.fp is not None and not self.will_close and (self._odd or self._has_more()):
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        super()._close_conn()  # type: ignore[misc]

    def _has_more(self) -> bool:
        """Return whether something follows the body already.

        It would be in the place of the answer to the next request.
        """
        stream: Any = self.fp
        try:
            self._socket.settimeout(0)
            return bool(stream.peek(1))
        except OSError:  # over TLS: nothing to read now
            return False
        finally:
            self._socket.settimeout(None)  # each step sets its own from the deadline


class _Head:
    """The headers of a response, handed to http.client in large pieces.

    http.client takes each piece for one line, because it allows only few lines. If the connection
    ends before the empty line, the response is cut off, however good its status.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._size = 0
        self._count = 0

    def readline(self, _limit: int) -> bytes:
        """Return some headers, or the empty line at the end."""
        piece = b""
        while len(piece) < _PIECE:
            line = self._next()
            if line in (b"\r\n", b"\n"):
                if piece:
                    self._lines.append(line)
                    return piece
                return line
            piece += line
        return piece

    def _next(self) -> bytes:
        if self._lines:
            return self._lines.pop()
        line: bytes = self._stream.readline(_PIECE + 1)
        if not line.endswith(b"\n") and len(line) <= _PIECE:
            raise http.client.IncompleteRead(line)  # http.client takes an end for the empty line
        self._size += len(line)
        self._count += 1
        if len(line) > _PIECE or self._size > _HEAD_SIZE or self._count > _HEADERS + 1:
            raise http.client.HTTPException("the headers of the reply are too many or too long")
        return line
