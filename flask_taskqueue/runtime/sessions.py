"""The application's session: whether it holds changes, and what follows its commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from flask import Flask, current_app, has_app_context
from flask.globals import app_ctx
from sqlalchemy.orm import Session, SessionTransaction

from ..core.errors import BadTransactionStateError
from ..process.logs import get_logger
from ..store import (
    NO_COMMIT,
    JoinedChange,
    TrackedTransaction,
    track,
    tracked_by_this_thread,
    untrack,
)

_logger = get_logger()

_FOLLOWED = "taskqueue_followed"
_MOST_NAMED = 50

_CHANGES_IN_THE_WAY = (
    "this thread's session holds changes of the SQLite file that are not committed, and this "
    "would wait for them for ever: "
    "commit the session first, or have it be part of the session's transaction (without "
    "transactional=False)"
)
_SAVEPOINT_IN_THE_WAY = (
    "this thread's session has an open savepoint in the SQLite file, and so perhaps the lock "
    "that this needs: end the savepoint first, "
    "or have it be part of the session's transaction (transactional=True)"
)

_watched: WeakSet[Any] = WeakSet()
_NOTHING: AbstractContextManager[object] = nullcontext()

_handler: ContextVar[object] = ContextVar("taskqueue_handler", default=None)
"""The application context of the running transactional handler, or None."""


def watch(session: Any) -> None:
    """Follow the sessions of a Flask-SQLAlchemy extension; harmless if repeated."""
    # sa.event.contains compares ids, which are reused once another application's session is gone.
    if session not in _watched:
        _watched.add(session)
        sa.event.listen(session, "after_begin", _begun)
        sa.event.listen(session, "before_commit", _committing)
        # Before the application's own listeners, which may add tasks.
        sa.event.listen(session, "after_commit", _committed, insert=True)
        sa.event.listen(session, "after_rollback", _rolled_back, insert=True)
        sa.event.listen(session, "after_soft_rollback", _rolled_back_to)
        sa.event.listen(session, "after_transaction_end", _ended)


def has_changes(session: Session) -> bool:
    """Return whether the session holds uncommitted changes, flushed or not, in any database.

    If the statements that ran do not show it, the database is asked. In a transactional handler the
    answer is always True, because its transaction will be committed or rolled back whatever it
    holds.
    """
    # In a hook after its commit or rollback, or due to be rolled back: there is nothing to join.
    if not session.is_active:
        return False
    mine = followed(session)
    if is_handlers() or any(one.has_written(ask=False) for one in mine):
        return True
    if session.new or session.deleted or any(session.is_modified(one) for one in session.dirty):
        return True
    return any(one.has_written() for one in mine)


def followed(session: Session) -> list[TrackedTransaction]:
    """Return the connections that the session's transaction has."""
    found: list[TrackedTransaction] = session.info.get(_FOLLOWED, [])
    return found


def is_current(app: Flask) -> bool:
    """Return whether the caller is in a context of this application.

    The application's session is bound to that context.
    """
    return has_app_context() and current_app._get_current_object() is app  # type: ignore[attr-defined]


def join(
    session: Session,
    connection: sa.Connection,
    names: Sequence[str],
    committed: Callable[[], object],
    then: Sequence[Callable[[], object]],
) -> None:
    """Record a change to the queue that was made on one of the session's connections.

    See `JoinedChange` for what follows it. If the transaction, or the savepoint in which the change
    was made, is rolled back, nothing follows. If the transaction just ends, a warning names the
    tasks.
    """
    joined = JoinedChange(names, committed, then)
    for one in followed(session):
        if one.connection is connection:
            one.join(joined)
            return
    # The transaction began before the session was watched.
    _follow(session, connection).join(joined)


@contextmanager
def no_commit(session: Session) -> Iterator[None]:
    """Forbid commits of the session and of its connections, within this context.

    A commit raises `BadTransactionStateError`; savepoints can come and go.
    """
    token = _handler.set(app_ctx._get_current_object())  # type: ignore[attr-defined]
    kept = followed(session)
    for one in kept:
        one.may_commit = False
    try:
        yield
    finally:
        for one in kept:
            one.may_commit = True
        _handler.reset(token)


def making_way(file: str) -> AbstractContextManager[object]:
    """Return a context in which no session of this thread blocks writes to a SQLite file.

    A session without changes releases the lock that it may have, and begins again as it began.
    Raises `BadTransactionStateError` for a session with changes, because waiting for it would mean
    that this thread waits for itself.
    """
    in_the_way = [one for one in tracked_by_this_thread() if one.may_lock(file)]
    if not in_the_way:
        return _NOTHING
    for one in in_the_way:
        if one.has_written() or one.in_savepoint:
            raise BadTransactionStateError(
                _CHANGES_IN_THE_WAY if one.has_written() else _SAVEPOINT_IN_THE_WAY
            )
    with ExitStack() as stack:
        for one in in_the_way:
            stack.enter_context(one.making_way())
        return stack.pop_all()


def is_handlers() -> bool:
    """Return whether the session of this context is a transactional handler's."""
    handler = _handler.get()
    return handler is not None and has_app_context() and app_ctx._get_current_object() is handler  # type: ignore[attr-defined]


def _begun(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    if not transaction.nested:
        _follow(session, connection)


def _follow(session: Session, connection: sa.Connection) -> TrackedTransaction:
    one = track(connection, shared=connection.in_nested_transaction())
    session.info.setdefault(_FOLLOWED, []).append(one)
    return one


def _committing(session: Session) -> None:
    if _handler.get() is not None and not session.in_nested_transaction():
        raise BadTransactionStateError(NO_COMMIT)


def _committed(session: Session) -> None:
    if not session.in_nested_transaction():
        for one in followed(session):
            one.end(committed=True)


def _rolled_back(session: Session) -> None:
    if not session.in_nested_transaction():
        for one in followed(session):
            one.end(committed=False)


def _rolled_back_to(session: Session, _transaction: SessionTransaction) -> None:
    """Forget dropped changes, because the application asked for the rollback.

    It rolled back a savepoint or the whole transaction.
    """
    for one in followed(session):
        one.dropped.clear()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    ended: list[TrackedTransaction] = session.info.pop(_FOLLOWED, [])
    for one in ended:
        untrack(one)
    lost = [
        name for one in ended for joined in (*one.dropped, *one.joined) for name in joined.names
    ]
    if lost:
        _logger.warning(
            "the session was closed without a commit, and with it went what was added to its "
            "transaction: %s. Commit the session, "
            "roll it back if that was meant, or add such tasks with transactional=False",
            ", ".join(lost[:_MOST_NAMED])
            + (f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""),
        )
    for call in dict.fromkeys(call for one in ended for call in one.take_due()):
        call()
