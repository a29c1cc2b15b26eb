"""The application's session: whether it holds changes, and what follows its commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
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
    inherited,
    track,
    tracked_here,
    untrack,
)

_logger = get_logger()

_FOLLOWED = "taskqueue_followed"
_LEFT = "taskqueue_left_savepoint"
"""Whether the session's savepoint has ended, and its hooks run.

The session cannot be used in them, but the connection has gone on to the transaction around it.
"""
_MOST_NAMED = 50

_CHANGES_IN_THE_WAY = (
    "the session holds changes of the SQLite file that are not committed, and this "
    "would wait for them for ever: "
    "commit the session first, or have it be part of the session's transaction (without "
    "transactional=False)"
)
_SAVEPOINT_IN_THE_WAY = (
    "the session has an open savepoint in the SQLite file, and so perhaps the lock "
    "that this needs: end the savepoint first, "
    "or have it be part of the session's transaction (transactional=True)"
)

_PARENT_IN_THE_WAY = (
    "this process was forked while a transaction of its parent had the SQLite file in use, and "
    "for SQLite this process has it in use for ever: fork before the transaction, or use the "
    "multiprocessing start method spawn"
)

_watched: WeakSet[Any] = WeakSet()
_NOTHING: AbstractContextManager[object] = nullcontext()


@dataclass(frozen=True, slots=True)
class _Handler:
    """A running transactional handler: its application context, and the registry of its session."""

    context: object
    registry: Any


_handler: ContextVar[_Handler | None] = ContextVar("taskqueue_handler", default=None)


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
    holds. The end of a savepoint does not end what was changed around it.
    """
    if is_handlers():
        return True
    # In a hook after its commit or rollback, or due to be rolled back: there is nothing to join.
    if not session.is_active and not session.in_nested_transaction():
        return False
    mine = followed(session)
    if any(one.has_written(ask=False) for one in mine):
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


def connection_of(session: Session, bound: sa.Engine | sa.Connection) -> sa.Connection:
    """Return the connection that the session's transaction uses for what it is bound to.

    Raises SQLAlchemy's InvalidRequestError if the transaction takes no more changes.
    """
    if session.info.get(_LEFT):
        for one in followed(session):
            if one.engine is bound:
                return one.connection
    return session.connection(bind_arguments={"bind": bound})


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
def no_commit(session: Session, registry: Any) -> Iterator[None]:
    """Forbid commits of the session and of its connections, within this context.

    A commit raises `BadTransactionStateError`; savepoints can come and go. The session that takes
    its place in its ``registry``, because the handler removed it, must not be committed either.
    Other sessions may be.
    """
    token = _handler.set(_Handler(_context(), registry))
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
    """Return a context in which no session of the caller blocks writes to a SQLite file.

    A session without changes releases the lock that it may have, and begins again as it began.
    Raises `BadTransactionStateError` for a session with changes, because waiting for it would mean
    that this thread waits for itself.
    """
    if any(one.may_lock(file) for one in inherited()):
        raise BadTransactionStateError(_PARENT_IN_THE_WAY)
    in_the_way = [one for one in tracked_here(_context()) if one.may_lock(file)]
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
    return handler is not None and _context() is handler.context


def _context() -> object:
    """Return the current application context, or None."""
    return app_ctx._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]


def _begun(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    if not transaction.nested:
        _follow(session, connection)


def _follow(session: Session, connection: sa.Connection) -> TrackedTransaction:
    together: list[TrackedTransaction] = session.info.setdefault(_FOLLOWED, [])
    one = track(connection, together, _context(), shared=connection.in_nested_transaction())
    together.append(one)
    return one


def _committing(session: Session) -> None:
    handler = _handler.get()
    if handler is None or not is_handlers() or session.in_nested_transaction():
        return
    if handler.registry.has() and handler.registry() is session:
        raise BadTransactionStateError(NO_COMMIT)


def _committed(session: Session) -> None:
    _over(session, committed=True)


def _rolled_back(session: Session) -> None:
    _over(session, committed=False)


def _over(session: Session, *, committed: bool) -> None:
    if session.in_nested_transaction():
        session.info[_LEFT] = True
        return
    for one in followed(session):
        one.end(committed=committed)


def _rolled_back_to(session: Session, _transaction: SessionTransaction) -> None:
    """Forget dropped changes, because the application asked for the rollback.

    It rolled back a savepoint or the whole transaction.
    """
    for one in followed(session):
        one.dropped.clear()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.info.pop(_LEFT, None)
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


if hasattr(os, "register_at_fork"):
    # A child of a handler has no part in its transaction.
    os.register_at_fork(after_in_child=lambda: _handler.set(None))
