"""The transaction of a handler: its changes and the end of its task commit together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

from flask import Response

from ..core.delivery import Delivery
from ..core.outcome import VERDICT_HEADER
from ..core.record import Record
from ..runtime import Runtime
from ..sessions import no_commit

_transacting: ContextVar[bool] = ContextVar("taskqueue_transacting", default=False)


def in_transaction(runtime: Runtime, delivery: Delivery, call: Callable[[], Response]) -> Response:
    """Run ``call`` in one transaction of the application's session.

    A 2xx commits its changes and the task's completion together, so they happen exactly once,
    whatever dies when. All else, an exception too, rolls back. So does a lease that was lost
    meanwhile: then somebody else attempts the task, and only one of both can commit.
    """
    token = _transacting.set(True)
    try:
        asked = time.monotonic()
        with runtime.store.database.write_lock:
            delivery.waited = time.monotonic() - asked
            return _in_transaction(runtime, delivery, call)
    finally:
        _transacting.reset(token)


def report_progress(runtime: Runtime, record: Record, progress: str) -> None:
    """Store how far a handler has come; in its own transaction where that holds the only write lock there is."""
    store = runtime.store
    if _transacting.get() and _locks_by_writing(runtime):
        store.tasks.report(runtime.binding.session_connection(), record, progress)
    else:
        store.transact(lambda connection: store.tasks.report(connection, record, progress))


def _locks_by_writing(runtime: Runtime) -> bool:
    return runtime.store.database.dialect.locks_by_writing


def _in_transaction(runtime: Runtime, delivery: Delivery, call: Callable[[], Response]) -> Response:
    session = runtime.binding.session
    completions = runtime.store.completions
    done = False
    try:
        if _locks_by_writing(runtime) and not completions.fence(runtime.binding.session_connection(), delivery.record):
            return _lost()
        with no_commit():
            response = call()
            if not 200 <= response.status_code < 300:
                return response
            session.flush()
        if not completions.complete(runtime.binding.session_connection(), delivery.record, response.status_code):
            return _lost()
        session.commit()
        done = delivery.recorded = True
        return response
    finally:
        if not done:
            session.rollback()


def _lost() -> Response:
    response = Response("the lease of this task was lost; nothing was changed", 409, mimetype="text/plain")
    response.headers[VERDICT_HEADER] = "lost"
    return response
