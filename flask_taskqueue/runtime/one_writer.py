"""The checks that no caller waits for a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

import sqlalchemy as sa

from ..core.errors import BadTransactionStateError
from ..store import (
    Database,
    Kept,
    TrackedTransaction,
    has_written_here,
    inherited,
    tracked_here,
)
from .contexts import caller

_CHANGED_BEFORE = (
    "the session's transaction has changed the queue, and this could wait for it for ever: commit "
    "the session first (a single change can be part of its transaction: transactional=True)"
)
_CHANGED_AROUND = (
    "another session of this thread, that of an outer application context perhaps, has changed the "
    "queue in a transaction that is still open, and this could wait for it for ever: commit that "
    "session first, or make the change with it, outside of the inner context"
)

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
_OTHER_SESSION_IN_THE_WAY = (
    "another session of this thread, that of an outer application context perhaps, holds changes "
    "or an open savepoint in the SQLite file, and this would wait for it for ever: commit that "
    "session first, or make the change with it, outside of the inner context"
)
_OTHER_CONNECTION_IN_THE_WAY = (
    "the same SQLite file was changed on another connection of the session (by another bind), and "
    "this would wait for that change for ever: commit it first, or use one bind for the file"
)
_OUTSIDE_IN_THE_WAY = (
    "a transaction that this thread has begun outside of db.session, with a Session or connection "
    "of its own, has changed the SQLite file, and this would wait for it for ever: commit it "
    "first, or make its changes with db.session, which a task can be part of"
)
_PARENT_IN_THE_WAY = (
    "this process was forked while a transaction of its parent had the SQLite file in use, and "
    "for SQLite this process has it in use for ever: fork before the transaction, or use the "
    "multiprocessing start method spawn"
)

_NOTHING: AbstractContextManager[object] = nullcontext()


def making_way(file: str) -> AbstractContextManager[object]:
    """Return a context in which no session of the caller blocks writes to a SQLite file.

    A session without changes releases the lock that it may have, and begins again as it began.
    Raises `BadTransactionStateError` for a session with changes, because waiting for it would mean
    that this thread waits for itself.
    """
    if any(transaction.may_lock(file) for transaction in inherited()):
        raise BadTransactionStateError(_PARENT_IN_THE_WAY)
    in_the_way = [
        transaction for transaction in tracked_here(caller()) if transaction.may_lock(file)
    ]
    if has_written_here(file, *(transaction.connection for transaction in in_the_way)):
        raise BadTransactionStateError(_OUTSIDE_IN_THE_WAY)
    if not in_the_way:
        return _NOTHING
    for transaction in in_the_way:
        if transaction.has_written() or transaction.in_savepoint:
            raise BadTransactionStateError(
                _OTHER_SESSION_IN_THE_WAY
                if not _is_own(transaction)
                else _CHANGES_IN_THE_WAY
                if transaction.has_written()
                else _SAVEPOINT_IN_THE_WAY
            )
    with ExitStack() as stack:
        for transaction in in_the_way:
            stack.enter_context(transaction.making_way())
        return stack.pop_all()


def refuse_other_writers(file: str, connection: sa.Connection) -> None:
    """Raise `BadTransactionStateError` if the caller has changed a SQLite file elsewhere.

    That is, on another connection than this, which would wait for it.
    """
    tracked = tracked_here(caller())
    if has_written_here(file, connection, *(transaction.connection for transaction in tracked)):
        raise BadTransactionStateError(_OUTSIDE_IN_THE_WAY)
    for transaction in tracked:
        if (
            transaction.connection is not connection
            and transaction.may_lock(file)
            and transaction.has_written()
        ):
            raise BadTransactionStateError(
                _OTHER_CONNECTION_IN_THE_WAY if _is_own(transaction) else _OTHER_SESSION_IN_THE_WAY
            )


def refuse_to_wait(
    database: Database,
    needed: Kept,
    isolated: Callable[[], sa.Connection | None],
    *,
    joins: bool,
) -> None:
    """Raise `BadTransactionStateError` if the caller could wait for a transaction of its own.

    That is, for one that keeps what is ``needed`` from others, because it has changed the queue, or
    tried to. What ``joins`` the transaction of the caller's session does not wait for that one.
    ``isolated`` returns the connection on which everything happens in a test that is going to be
    rolled back, or None.
    """
    tracked = tracked_here(caller())
    tables = tables_of(database) if tracked else ""
    keeping = [transaction for transaction in tracked if transaction.levels.keeps(tables, needed)]
    others = [transaction for transaction in keeping if not _is_own(transaction)]
    if len(keeping) > len(others) and not joins:
        raise BadTransactionStateError(_CHANGED_BEFORE)
    if others and database.own_engine:  # without one, all happens on one connection
        shared = isolated()
        if any(transaction.connection is not shared for transaction in others):
            raise BadTransactionStateError(_CHANGED_AROUND)


def tables_of(database: Database) -> str:
    """Return a name that the same tables have in each application of this process.

    Tables on servers of different names may have it too.
    """
    url = database.engine.url
    return f"{url.get_backend_name()} {url.database} {database.tables.task.fullname}"


def _is_own(transaction: TrackedTransaction) -> bool:
    """Return whether a transaction is that of the session of the caller's context."""
    return transaction.owner is not None and transaction.owner is caller()
