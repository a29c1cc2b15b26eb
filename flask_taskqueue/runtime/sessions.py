"""The application's session: whether it holds changes, and what follows its commit."""

from __future__ import annotations

import logging
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
from ..store import (
    NO_COMMIT,
    JoinedChange,
    TrackedTransaction,
    track,
    tracked_by_this_thread,
    untrack,
)

logger: logging.Logger = logging.getLogger("flask_taskqueue")

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
"""The application context of the transactional handler that runs, if one does."""


def watch(session: Any) -> None:
    """Follow the sessions of a Flask-SQLAlchemy extension; harmless when it is done twice."""
    if (
        session not in _watched
    ):  # sa.event.contains goes by ids, which come back when another application's session is gone
        _watched.add(session)
        sa.event.listen(session, "after_begin", _begun)
        sa.event.listen(session, "before_commit", _committing)
        sa.event.listen(
            session, "after_commit", _committed, insert=True
        )  # before the application's, which may add tasks
        sa.event.listen(session, "after_rollback", _rolled_back, insert=True)
        sa.event.listen(session, "after_soft_rollback", _rolled_back_to)
        sa.event.listen(session, "after_transaction_end", _ended)


def has_changes(session: Session) -> bool:
    """Whether the session holds changes that are not committed, flushed or not, in any of its
    databases.

    Where the statements that ran do not tell, the database is asked. In a transactional handler,
    whose transaction will be committed or rolled back whatever it holds, it always does.
    """
    if (
        not session.is_active
    ):  # in a hook behind its commit or rollback, or to be rolled back: there is nothing to join
        return False
    mine = followed(session)
    if is_handlers() or any(one.has_written(ask=False) for one in mine):
        return True
    if session.new or session.deleted or any(session.is_modified(one) for one in session.dirty):
        return True
    return any(one.has_written() for one in mine)


def followed(session: Session) -> list[TrackedTransaction]:
    """The connections that the session's transaction has."""
    found: list[TrackedTransaction] = session.info.get(_FOLLOWED, [])
    return found


def is_current(app: Flask) -> bool:
    """Whether the caller is in a context of this application, which its session is bound to."""
    return has_app_context() and current_app._get_current_object() is app  # type: ignore[attr-defined]


def join(
    session: Session,
    connection: sa.Connection,
    names: Sequence[str],
    committed: Callable[[], object],
    then: Sequence[Callable[[], object]],
) -> None:
    """Note a change of the queue's that was made on a connection of the session's; see `Joined`.

    When the transaction, or the savepoint it was made in, is rolled back, nothing follows. When it
    just ends, a warning names the tasks.
    """
    joined = JoinedChange(names, committed, then)
    for one in followed(session):
        if one.connection is connection:
            one.join(joined)
            return
    _follow(session, connection).join(
        joined
    )  # a transaction that began before the session was watched


@contextmanager
def no_commit(session: Session) -> Iterator[None]:
    """Within this a commit raises `BadTransactionStateError`, of the session or of its
    connection; savepoints may come and go.
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
    """Within this no session of this thread keeps others from writing to a SQLite file.

    One that holds no changes lets go of the lock it may have, and begins again as it began. Raises
    `BadTransactionStateError` for one that holds some: to wait for it would be to wait for oneself.
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
    """Whether the session of this context is that of a transactional handler."""
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
    """A savepoint, or the transaction, was rolled back because the application asked for it."""
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
        logger.warning(
            "the session was closed without a commit, and with it went what was added to its "
            "transaction: %s. Commit the session, "
            "roll it back if that was meant, or add such tasks with transactional=False",
            ", ".join(lost[:_MOST_NAMED])
            + (f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""),
        )
    for call in dict.fromkeys(call for one in ended for call in one.take_due()):
        call()
