"""The wsgi transport: calls the application in this process."""

from __future__ import annotations

import contextvars
import io
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import chain
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from flask import Flask

from ...core.delivery.delivery import ENVIRON_KEY, Delivery
from ...core.delivery.verdict import OutgoingRequest, Reply


class WsgiTransport:
    """A transport that calls the application, with its own environ and context per delivery.

    The whole application runs: middleware, hooks, error handlers. ``base_url`` is what the
    application believes to be its address.
    """

    proves = True

    def __init__(self, app: Flask, base_url: str, reply_cap: int) -> None:
        self._app = app
        self._cap = reply_cap
        self._template = lru_cache(maxsize=256)(partial(_template, base_url))

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Call the application; exceptions that pass its error handlers are raised here."""
        delivery.context = contextvars.Context()
        return delivery.context.run(self._send, request, delivery)

    def close(self) -> None:
        """Do nothing, because nothing is held."""

    def reset(self) -> None:
        """Do nothing, because nothing is held."""

    def _send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        environ = self._environ(request)
        environ[ENVIRON_KEY] = delivery
        started: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], error: Any = None
        ) -> Callable[[bytes], object]:
            if error is not None:
                raise error[1].with_traceback(error[2])
            started.append((status, headers))
            return written.append

        chunks = self._app(environ, start_response)
        body = self._read(written, chunks)
        if not started:
            raise RuntimeError("the application did not call start_response")
        status, headers = started[-1]
        return Reply(
            status=int(status[:3]),
            headers={name.lower(): value for name, value in headers},
            body=body[: self._cap],
            truncated=len(body) > self._cap,
        )

    def _environ(self, request: OutgoingRequest) -> dict[str, Any]:
        environ = self._template(request.method, request.url).copy()
        environ["wsgi.input"] = io.BytesIO(request.body)
        environ["CONTENT_LENGTH"] = str(len(request.body))
        for name, value in request.headers.items():
            environ[_environ_key(name)] = value
        return environ

    def _read(self, written: Iterable[bytes], chunks: Iterable[bytes]) -> bytes:
        """Return the body of the reply, read to its end so that the handler runs to its end.

        One byte beyond the cap is kept.
        """
        body = bytearray()
        try:
            for chunk in chain(written, chunks):
                if len(body) <= self._cap:
                    body += chunk[: self._cap + 1 - len(body)]
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return bytes(body)


@lru_cache(maxsize=1024)
def _environ_key(name: str) -> str:
    """Return a header's key in an environ (PEP 3333)."""
    key = name.upper().replace("-", "_")
    return key if key == "CONTENT_TYPE" else f"HTTP_{key}"


def _template(base_url: str, method: str, url: str) -> dict[str, Any]:
    """Return what is equal in the environs of all tasks with this method and URL."""
    parts = urlsplit(base_url)
    path, _, query = url.partition("?")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SCRIPT_NAME": parts.path.rstrip("/"),
        "SERVER_NAME": parts.hostname or "localhost",
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": parts.netloc,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
