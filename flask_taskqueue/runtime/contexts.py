"""Application contexts: which app a caller means, and what is part of a handler's transaction."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask, current_app, has_app_context, has_request_context, request
from flask.globals import app_ctx

from ..core.errors import BadTransactionStateError

_IN_ENVIRON = "flask_taskqueue.transactional_handler"
"""Where the environ of a request has its handler, which copies of the request's context share."""

_BESIDE = (
    "a transactional handler runs here, but in another application context than this one (of "
    "app_context() or copy_current_request_context()), so this change would not be part of its "
    "transaction: make it in the handler's own context, or use transactional=False to make it "
    "whatever becomes of the handler"
)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Handler:
    """A running transactional handler: its application context, its session, and its thread."""

    context: Any
    registry: Any
    """The registry of scoped sessions that the session is from."""
    session: Any
    thread: int

    def is_elsewhere(self, session: Any) -> bool:
        """Return whether ``db.session`` leads to this session instead, in a thread of its own."""
        return (
            session is not self.session
            and threading.get_ident() != self.thread
            and self.registry.has()
            and self.registry() is session
        )


_running: ContextVar[Handler | None] = ContextVar("taskqueue_handler", default=None)


@contextmanager
def running(session: Any, registry: Any) -> Iterator[None]:
    """Run a transactional handler in the caller's context."""
    handler = Handler(caller(), registry, session, threading.get_ident())
    token, environ = _running.set(handler), request.environ
    environ[_IN_ENVIRON] = handler
    try:
        yield
    finally:
        environ.pop(_IN_ENVIRON, None)
        _running.reset(token)


def own_handler() -> Handler | None:
    """Return the transactional handler whose session is the caller's."""
    handler = _running.get()
    return handler if handler is not None and caller() is handler.context else None


def refuse_beside_handler() -> None:
    """Raise `BadTransactionStateError` in a context within a transactional handler's.

    A change whose ``transactional`` was not given there is neither part of the handler's
    transaction nor meant to be made whatever becomes of it. Contexts of other apps are not meant.
    """
    handler = _running.get()
    if handler is None and has_request_context():
        handler = request.environ.get(_IN_ENVIRON)
    if handler is not None and caller() is not handler.context and is_current(handler.context.app):
        raise BadTransactionStateError(_BESIDE)


def chosen_app(apps: Collection[Flask]) -> Flask:
    """Return the current application or, outside of any, the only one of ``apps``.

    Raises RuntimeError if the current one is none of them, or if none can be chosen.
    """
    if has_app_context():
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        if app not in apps:
            raise RuntimeError(
                f"this TaskQueue is not set up for application {app.name!r}: call "
                "tasks.init_app(app)"
            )
        return app
    if len(apps) != 1:
        raise RuntimeError(
            "outside of an application context it must be clear which application is "
            "meant, and this TaskQueue is set up for "
            f"{len(apps)}: use it inside 'with app.app_context():'"
        )
    return next(iter(apps))


def in_bare_context(app: Flask, look: Callable[[], Result]) -> Result:
    """Call a function in a context of an app whose teardown functions never run.

    They would end what is the caller's, such as the session of its thread, or miss what a request
    has set up. So the context is pushed in a copy of the caller's and dropped with that.
    """

    def pushed() -> Result:
        app.app_context().push()
        return look()

    return copy_context().run(pushed)


def caller() -> object:
    """Return the application context that the caller's session belongs to, or None."""
    return app_ctx._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]


def is_current(app: Flask) -> bool:
    """Return whether the caller is in a context of this application.

    The application's session is bound to that context.
    """
    return has_app_context() and current_app._get_current_object() is app  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    # A child of a handler has no part in its transaction.
    os.register_at_fork(after_in_child=lambda: _running.set(None))
