"""The server of werkzeug, which serves under ``flask run`` and ``app.run``: when it begins to,
which applications, and where.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from socketserver import ForkingMixIn

from flask import Flask
from werkzeug.serving import BaseWSGIServer

Begin = Callable[[Flask, str | None], object]

_listeners: list[Begin] = []
_forks_requests_in: list[int] = []


def on_serving(begin: Begin) -> None:
    """Have ``begin(application, base URL)`` called whenever a server of werkzeug begins to serve an
    application in this process.

    There is nothing to ask for that: neither the application nor anybody else is told before the
    first request. The parent of a reloader makes a server too, and never serves.
    """
    if not _listeners:
        _watch()
    if begin not in _listeners:
        _listeners.append(begin)


def ends_with_its_request() -> bool:
    """Whether this process was forked for a single request."""
    return hasattr(os, "getppid") and os.getppid() in _forks_requests_in


def _watch() -> None:
    serve = BaseWSGIServer.serve_forever

    def serve_forever(server: BaseWSGIServer, poll_interval: float = 0.5) -> None:
        if isinstance(server, ForkingMixIn):
            _forks_requests_in.append(os.getpid())
        for app in _applications(server.app, []):
            for begin in _listeners:
                begin(app, _address(server))
        serve(server, poll_interval)

    BaseWSGIServer.serve_forever = serve_forever  # type: ignore[assignment, method-assign]


def _applications(served: object, seen: list[object]) -> Iterator[Flask]:
    """The applications in what is served: it is one, or middleware around some, or a method of
    such.
    """
    if served is None or any(served is one for one in seen):
        return
    seen.append(served)
    if isinstance(served, Flask):
        yield served
        return
    mounts = getattr(served, "mounts", None)
    inner = [getattr(served, name, None) for name in ("app", "wsgi_app", "application", "__self__")]
    for one in [*inner, *(mounts.values() if isinstance(mounts, Mapping) else ())]:
        yield from _applications(one, seen)


def _address(server: BaseWSGIServer) -> str | None:
    """The base URL of a server, as this machine can reach it; None for a socket that is a file."""
    host = server.host
    if "/" in host:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'http' if server.ssl_context is None else 'https'}://{host}:{server.port}"
