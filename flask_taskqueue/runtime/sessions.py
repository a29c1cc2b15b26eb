"""The application's session: whether it holds changes, and what follows its commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from ..core.errors import BadTransactionStateError
from ..process.logs import get_logger
from ..store import (
    NO_COMMIT,
    UNDONE,
    JoinedChange,
    TrackedTransaction,
    goes_on,
    keep_tracking,
    track,
    untrack,
)
from .contexts import caller, own_handler, running

_logger = get_logger()

_FOLLOWED = "taskqueue_followed"
_KNOWN = "taskqueue_known"
"""Whether the session's transaction is followed from its beginning."""
_LEFT = "taskqueue_left_savepoint"
"""Whether the session's savepoint has ended, and its hooks run.

The session cannot be used in them, but the connection has gone on to the transaction around it.
"""
_MOST_NAMED = 50

_COMMITS_BY_ITSELF = (
    "the session's connection commits each statement at once (AUTOCOMMIT), so there is no "
    "transaction that the task could be part of: leave that option out, or use transactional=False"
)
_UNKNOWN = (
    "this session's transaction began before the queue knew the session, which has taken the place "
    "of the db.session that tasks.init_app() was called with, so nobody can tell what it has "
    "changed: end the transaction first (commit or rollback), or replace db.session before that"
)
_OTHER_THREAD = (
    "the transactional handler runs in a thread of its own, as coroutines do, and db.session is "
    "another one there, because its scope is the thread (session_options={'scopefunc': ...}), so "
    "what it changes would not be part of the handler's transaction: leave scopefunc out, make the "
    "handler a plain function, or leave out transactional=True"
)
_SHARED = (
    "the session's transaction, or its savepoint, has ended while the queue was changed in it, so "
    "nobody can tell whether the change is part of it: another thread uses the same session. Give "
    "each thread a session of its own, as an application context of its own does"
)
_watched: WeakSet[Any] = WeakSet()

Begun = tuple[SessionTransaction | None, SessionTransaction | None]
"""The transaction of a session and its innermost savepoint."""


def watch(session: Any) -> None:
    """Follow the sessions of a Flask-SQLAlchemy extension; harmless if repeated."""
    # sa.event.contains compares ids, which are reused once another application's session is gone.
    if session not in _watched:
        _watched.add(session)
        sa.event.listen(session, "after_transaction_create", _created)
        # Before the application's own listeners, which may write or add tasks.
        sa.event.listen(session, "after_begin", _begun, insert=True)
        sa.event.listen(session, "before_attach", _refuse_elsewhere)
        sa.event.listen(session, "before_commit", _committing)
        sa.event.listen(session, "after_commit", _committed, insert=True)
        sa.event.listen(session, "after_rollback", _rolled_back, insert=True)
        sa.event.listen(session, "after_soft_rollback", _rolled_back_to)
        sa.event.listen(session, "after_transaction_end", _ended)


def current(session: Any) -> Session:
    """Return the caller's session of Flask-SQLAlchemy's, which is followed from now on.

    Raises `BadTransactionStateError` if its transaction began before it was followed.
    """
    watch(session)
    found: Session = session()
    if found.in_transaction() and not found.info.get(_KNOWN):
        raise BadTransactionStateError(_UNKNOWN)
    return found


def refuse_autocommit(session: Session) -> None:
    """Raise `BadTransactionStateError` if a connection of the session commits by itself."""
    if any(transaction.is_autocommit for transaction in followed(session)):
        raise BadTransactionStateError(_COMMITS_BY_ITSELF)


def refuse_undone(session: Session) -> None:
    """Raise `BadTransactionStateError` if the queue's changes of the transaction are undone."""
    if any(transaction.is_undone for transaction in followed(session)):
        raise BadTransactionStateError(UNDONE)


def has_changes(session: Session) -> bool:
    """Return whether the session holds uncommitted changes, flushed or not, in any database.

    If the statements that ran do not show it, the database is asked. In a transactional handler the
    answer is always True, because its transaction will be committed or rolled back whatever it
    holds. The end of a savepoint does not end what was changed around it.
    """
    if own_handler() is not None:
        return True
    # In a hook after its commit or rollback, or due to be rolled back: there is nothing to join.
    if not session.is_active and not session.in_nested_transaction():
        return False
    mine = followed(session)
    if any(transaction.has_written(ask=False) for transaction in mine):
        return True
    if session.new or session.deleted or any(session.is_modified(row) for row in session.dirty):
        return True
    return any(transaction.has_written() for transaction in mine)


def followed(session: Session) -> list[TrackedTransaction]:
    """Return the connections that the session's transaction has."""
    found: list[TrackedTransaction] = session.info.get(_FOLLOWED, [])
    return found


def connection_of(session: Session, bound: sa.Engine | sa.Connection) -> sa.Connection:
    """Return the connection that the session's transaction uses for what it is bound to.

    Raises SQLAlchemy's InvalidRequestError if the transaction takes no more changes.
    """
    if session.info.get(_LEFT):
        for transaction in followed(session):
            if transaction.engine is bound:
                return transaction.connection
    return session.connection(bind_arguments={"bind": bound})


def join(
    session: Session,
    connection: sa.Connection,
    names: Sequence[str],
    committed: Callable[[], object],
    then: Sequence[Callable[[], object]],
    is_stored: Callable[[], bool],
    known: Begun,
) -> None:
    """Record a change to the queue that was made on one of the session's connections.

    See `JoinedChange` for what follows it, and for ``is_stored``. If the transaction, or the
    savepoint in which the change was made, is rolled back, nothing follows. If the transaction just
    ends, a warning names the tasks. ``known`` are the session's transactions (`begun`) in which the
    change was made. Raises `BadTransactionStateError` if another thread has ended one of them.
    """
    change = JoinedChange(names, committed, then, is_stored)
    if known == begun(session):
        tracked(session, connection).join(change)
    try:
        refuse_ended(session, known)
    except BadTransactionStateError:
        for transaction in followed(session):
            transaction.levels.leave_out(change)
        raise


def begun(session: Session) -> Begun:
    """Return the transactions that the session has begun."""
    return session.get_transaction(), session.get_nested_transaction()


def refuse_ended(session: Session, known: Begun) -> None:
    """Raise `BadTransactionStateError` if the session's transactions are no longer these."""
    if known != begun(session):
        raise BadTransactionStateError(_SHARED)


def tracked(session: Session, connection: sa.Connection) -> TrackedTransaction:
    """Return the transaction of one of the session's connections, which is tracked from now on."""
    for transaction in followed(session):
        if transaction.connection is connection:
            return transaction
    # The transaction began before the session was watched.
    return _follow(session, connection, connection.in_nested_transaction())


@contextmanager
def no_commit(session: Session, registry: Any) -> Iterator[None]:
    """Forbid commits of the session and of its connections, within this context.

    A commit raises `BadTransactionStateError`; savepoints can come and go. The session that takes
    its place in its ``registry``, because the handler removed it, must not be committed either.
    Other sessions may be.
    """
    kept = followed(session)
    for transaction in kept:
        transaction.may_commit = False
    try:
        with running(session, registry):
            yield
    finally:
        for transaction in kept:
            transaction.may_commit = True


def _created(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info[_KNOWN] = True


def _begun(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    _refuse_elsewhere(session)
    if not transaction.nested:
        # SQLAlchemy tells nobody what its join_transaction_mode has come to.
        _, begun, commits, _ = transaction._connections[connection]
        _follow(session, connection, not commits or begun is connection.get_nested_transaction())


def _refuse_elsewhere(session: Session, _object: object = None) -> None:
    handler = own_handler()
    if handler is not None and handler.is_elsewhere(session):
        raise BadTransactionStateError(_OTHER_THREAD)


def _follow(session: Session, connection: sa.Connection, within: bool) -> TrackedTransaction:
    together: list[TrackedTransaction] = session.info.setdefault(_FOLLOWED, [])
    transaction = track(connection, together, caller(), within=within)
    together.append(transaction)
    return transaction


def _committing(session: Session) -> None:
    handler = own_handler()
    if handler is None or session.in_nested_transaction():
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
    for transaction in followed(session):
        if not goes_on(transaction):
            transaction.end(committed=committed)
        elif not committed:
            transaction.dropped.clear()


def _rolled_back_to(session: Session, _transaction: SessionTransaction) -> None:
    """Forget dropped changes, because the application asked for the rollback.

    It rolled back a savepoint or the whole transaction.
    """
    for transaction in followed(session):
        transaction.dropped.clear()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.info.pop(_LEFT, None)
    if transaction.parent is not None:
        return
    session.info.pop(_KNOWN, None)
    ended: list[TrackedTransaction] = session.info.pop(_FOLLOWED, [])
    lost = []
    for gone in ended:
        lost += [name for joined in gone.dropped for name in joined.names]
        gone.dropped.clear()
        if not keep_tracking(gone):
            lost += [name for joined in gone.joined for name in joined.names]
            untrack(gone)
    if lost:
        _logger.warning(
            "the session was closed without a commit, and with it went what was added to its "
            "transaction: %s. Commit the session, "
            "roll it back if that was meant, or add such tasks with transactional=False",
            ", ".join(lost[:_MOST_NAMED])
            + (f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""),
        )
    for call in dict.fromkeys(call for gone in ended for call in gone.take_due()):
        call()
