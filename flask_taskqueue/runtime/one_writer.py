"""Databases with one writer at a time: how the caller's own transactions do not keep it waiting."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext

import sqlalchemy as sa

from ..core.errors import BadTransactionStateError
from ..store import inherited, tracked_here
from .sessions import caller

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

_OTHER_CONNECTION_IN_THE_WAY = (
    "the same SQLite file was changed on another connection of the session (by another bind), and "
    "this would wait for that change for ever: commit it first, or use one bind for the file"
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
    if any(one.may_lock(file) for one in inherited()):
        raise BadTransactionStateError(_PARENT_IN_THE_WAY)
    in_the_way = [one for one in tracked_here(caller()) if one.may_lock(file)]
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


def refuse_other_writers(file: str, connection: sa.Connection) -> None:
    """Raise `BadTransactionStateError` if the caller has changed a SQLite file elsewhere.

    That is, on another connection than this, which would wait for it.
    """
    for one in tracked_here(caller()):
        if one.connection is not connection and one.may_lock(file) and one.has_written():
            raise BadTransactionStateError(_OTHER_CONNECTION_IN_THE_WAY)
