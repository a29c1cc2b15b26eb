"""Tracking: listening to the statements of engines whose transactions are tracked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import ContextVar
from threading import get_ident
from typing import Any
from weakref import ReferenceType, WeakSet, WeakValueDictionary, ref

import sqlalchemy as sa

from ...core.errors import BadTransactionStateError
from .refusals import NO_COMMIT, goes_on, refuse_commit
from .statement import StatementKind, read_statement
from .transaction import TrackedTransaction
from .writes import names_of

_followed: WeakValueDictionary[int, TrackedTransaction] = WeakValueDictionary()
"""The tracked transactions by the ids of their connections, which they keep alive."""
_KEPT = "taskqueue_kept"
_begun: ContextVar[tuple[ReferenceType[TrackedTransaction], ...]] = ContextVar(
    "taskqueue_begun", default=()
)
"""The transactions that have begun in this context of Python, or in the one it is a copy of."""
_inherited: list[TrackedTransaction] = []
_engines: WeakSet[sa.Engine] = WeakSet()


def track(
    connection: sa.Connection,
    together: Sequence[TrackedTransaction],
    owner: object,
    *,
    within: bool,
) -> TrackedTransaction:
    """Track the transaction that has begun on a connection.

    It is tracked for as long as the caller keeps the returned value, or until `untrack`.
    ``together`` are all that are to be committed with it, ``owner`` is the context to which its
    session belongs, in whatever threads that runs. ``within`` says that somebody else began
    the transaction, may have written before, and is going to end it.
    """
    followed = _find(connection) if within or _KEPT in vars(connection) else None
    if followed is None:
        followed = TrackedTransaction(connection, together, owner, shared=within)
        for name in _savepoints(connection):
            followed.levels.begin(name, followed.levels.innermost.counted)
    followed.together, followed.owner, followed.thread = together, owner, get_ident()
    followed.is_within = within
    engine = followed.engine
    if engine not in _engines:
        _engines.add(engine)
        sa.event.listen(engine, "before_cursor_execute", _before, retval=True)
        sa.event.listen(engine, "after_cursor_execute", _after)
        sa.event.listen(engine, "handle_error", _failed)
        sa.event.listen(engine, "commit", _committing)
        sa.event.listen(engine, "rollback", _rolling_back)
        sa.event.listen(engine, "prepare_twophase", _preparing)
    _followed[id(connection)] = followed
    earlier = (begun for begun in _begun.get() if _is_tracked(begun()))
    _begun.set((*earlier, ref(followed)))
    return followed


def untrack(followed: TrackedTransaction) -> None:
    """Stop tracking a connection."""
    if _is_tracked(followed):
        del _followed[id(followed.connection)]
        vars(followed.connection).pop(_KEPT, None)


def keep_tracking(followed: TrackedTransaction) -> bool:
    """Track a transaction until whoever began it ends it, if the queue's changes wait for that.

    Returns whether they do.
    """
    if waits := goes_on(followed) and followed.levels.have_joined:
        # The connection has it, so that a connection that nobody ends is collected with it.
        vars(followed.connection)[_KEPT] = followed
    return waits


def tracked_here(owner: object) -> list[TrackedTransaction]:
    """Return the tracked transactions that this thread has begun, or one that waits for it.

    The coroutine of an async view runs in another thread, for which the view's thread waits: the
    ``owner`` is the same there, and around an inner context it is in a copy of Python's context.
    """
    if not _followed:
        return []
    thread, begun = get_ident(), [reference() for reference in _begun.get()]
    return [
        transaction
        for transaction in [transaction() for transaction in _followed.valuerefs()]
        if transaction is not None
        and (
            transaction.thread == thread
            or (owner is not None and transaction.owner is owner)
            or transaction in begun
        )
    ]


def inherited() -> list[TrackedTransaction]:
    """Return the transactions that were open in the parent when this process was forked."""
    return _inherited


def _is_tracked(followed: TrackedTransaction | None) -> bool:
    return followed is not None and _find(followed.connection) is followed


def _find(connection: sa.Connection) -> TrackedTransaction | None:
    return _followed.get(id(connection))


def _savepoints(connection: sa.Connection) -> list[str]:
    """Return the names of the savepoints that are open on a connection, the outermost first."""
    names: list[str] = []
    nested: Any = connection.get_nested_transaction()
    while nested is not None:
        names.insert(0, nested._savepoint)
        nested = nested._previous_nested
    return names


def _committing(connection: sa.Connection) -> None:
    followed = _find(connection)
    if followed is None:
        return
    try:
        if not followed.may_commit:
            raise BadTransactionStateError(NO_COMMIT)
        refuse_commit(followed)
        _commit_others_first(followed)
        waits = followed.is_within and followed.levels.have_joined
        if waits:
            _commit(connection)  # what SQLAlchemy commits afterwards is empty
    except BaseException:
        # SQLAlchemy takes the transaction for ended now, and would return the connection with it.
        connection.dialect.do_rollback(connection.connection)
        raise
    if waits:
        followed.end(committed=True)
        untrack(followed)
        for call in followed.take_due():
            call()


def _rolling_back(connection: sa.Connection) -> None:
    followed = _find(connection)
    if followed is not None and followed.is_within:
        followed.end(committed=False)
        untrack(followed)


def _preparing(connection: sa.Connection, _xid: object) -> None:
    """Refuse what a commit would refuse: all is decided by the first phase of two."""
    followed = _find(connection)
    if followed is None:
        return
    if not followed.may_commit:
        raise BadTransactionStateError(NO_COMMIT)
    try:
        refuse_commit(followed)
    except BadTransactionStateError:
        # MariaDB would refuse SQLAlchemy's rollback, whose error would take the place of this one.
        connection.invalidate()
        raise


def _commit_others_first(followed: TrackedTransaction) -> None:
    """Commit the databases that are committed together with this one, if it holds tasks.

    So none of the tasks is stored, and run, if another of the commits fails. SQLAlchemy would
    commit them in any order; what it commits afterwards is empty.
    """
    for other in followed.together if followed.joined else ():
        connection = other.connection
        if other is followed or connection.closed or not connection.in_transaction():
            continue
        if not (followed.is_within or other.is_within):
            _commit(connection)


def _commit(connection: sa.Connection) -> None:
    dialect = connection.dialect
    try:
        dialect.do_commit(connection.connection)
    except dialect.loaded_dbapi.Error as error:
        raise sa.exc.DBAPIError.instance(
            None, None, error, dialect.loaded_dbapi.Error, dialect=dialect
        ) from error


def _before(
    connection: sa.Connection, _cursor: Any, text: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    followed = _find(connection)
    if followed is not None:
        statement = read_statement(text, names_of(connection))
        followed.before(statement, many=many)
        if statement.kind is StatementKind.COMMIT:
            refuse_commit(followed)
    return text, parameters


def _after(
    connection: sa.Connection, cursor: Any, text: str, _parameters: Any, context: Any, _many: bool
) -> None:
    followed = _find(connection)
    if followed is None:
        return
    statement = read_statement(text, names_of(connection))
    followed.has_read |= statement.kind in (StatementKind.READ, StatementKind.UNKNOWN)
    followed.after(statement, cursor, context)
    if getattr(context, "_is_server_side", False):
        followed.streams(statement, cursor)


def _failed(error: sa.engine.ExceptionContext) -> None:
    context: Any = error.execution_context
    if error.connection is None or context is None or error.is_disconnect:
        return
    if error.sqlalchemy_exception is None:  # not the database's, which may not be done
        return
    followed = _find(error.connection)
    if followed is not None:
        statement = read_statement(error.statement or "", names_of(error.connection))
        followed.failed(statement, many=context.executemany)


def _after_fork() -> None:
    _inherited.extend(_followed.values())
    _followed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
