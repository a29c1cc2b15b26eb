"""Werkzeug's server, which serves under ``flask run`` and ``app.run``.

This module finds out when it begins to serve, which applications, and where; and it has the
reloader leave that process the time to end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ForkingMixIn
from subprocess import Popen
from types import FrameType
from typing import Any

from flask import Flask
from werkzeug._reloader import ReloaderLoop
from werkzeug.serving import BaseWSGIServer

Begin = Callable[[Flask, str | None], object]

_listeners: list[Begin] = []
_forks_requests_in: list[int] = []


def on_serving(begin: Begin) -> None:
    """Call ``begin(app, base_url)`` whenever a werkzeug server begins to serve in this process.

    Werkzeug offers no hook for this: neither the app nor anyone else is told before the first
    request. The parent process of a reloader makes a server too, but never serves.
    """
    if not _listeners:
        _watch()
    if begin not in _listeners:
        _listeners.append(begin)


def ends_with_its_request() -> bool:
    """Return whether this process was forked for a single request."""
    return hasattr(os, "getppid") and os.getppid() in _forks_requests_in


def _watch() -> None:
    serve, restart = BaseWSGIServer.serve_forever, ReloaderLoop.restart_with_reloader

    def serve_forever(server: BaseWSGIServer, poll_interval: float = 0.5) -> None:
        if isinstance(server, ForkingMixIn):
            _forks_requests_in.append(os.getpid())
        for app in _applications(server.app, []):
            for begin in _listeners:
                begin(app, _address(server))
        serve(server, poll_interval)

    def restart_with_reloader(reloader: ReloaderLoop) -> int:
        with _patient():
            return restart(reloader)

    BaseWSGIServer.serve_forever = serve_forever  # type: ignore[assignment, method-assign]
    ReloaderLoop.restart_with_reloader = restart_with_reloader  # type: ignore[assignment, method-assign]


@contextmanager
def _patient() -> Iterator[None]:
    """Have this process, the parent of a reloader, wait for its child when it is to end.

    By itself it kills the child a quarter of a second after Ctrl-C, and immediately after SIGTERM.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)
        child = _awaited(frame)
        if child is not None and len(told) == 1:
            child.terminate()  # in a terminal, it also gets each Ctrl-C itself
        elif (child is None or len(told) > 2) and callable(act := before[signal.Signals(number)]):
            act(number, frame)

    ended_by = [number for number, act in before.items() if callable(act)]
    for number in ended_by:
        signal.signal(number, tell)
    try:
        yield
    finally:
        for number in ended_by:
            signal.signal(number, before[number])


def _awaited(frame: FrameType | None) -> Popen[Any] | None:
    """Return the child for which the interrupted code waits."""
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, Popen):
                return value
        frame = frame.f_back
    return None


def _applications(served: object, seen: list[object]) -> Iterator[Flask]:
    """Yield the applications in the object that is served.

    It is an application, middleware around one or several, or a method of either.
    """
    if served is None or any(served is other for other in seen):
        return
    seen.append(served)
    if isinstance(served, Flask):
        yield served
        return
    mounts = getattr(served, "mounts", None)
    inner = [getattr(served, name, None) for name in ("app", "wsgi_app", "application", "__self__")]
    for part in [*inner, *(mounts.values() if isinstance(mounts, Mapping) else ())]:
        yield from _applications(part, seen)


def _address(server: BaseWSGIServer) -> str | None:
    """Return the base URL at which this machine can reach a server.

    None for a server on a Unix socket, which is a file.
    """
    host = server.host
    if "/" in host:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'http' if server.ssl_context is None else 'https'}://{host}:{server.port}"
