"""Joining: a change of the queue that is made in the transaction of the app's session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from flask import has_app_context
from sqlalchemy.orm import Session

from ..core.errors import BadTransactionStateError
from ..core.tasks.task import Commitment
from ..runtime import Runtime, one_writer, sessions
from ..runtime.contexts import is_current
from ..store import Kept, goes_on, has_freed_places, has_met_taken, refuse_within

T = TypeVar("T")

_TWO_PHASES = (
    "db.session takes part in a transaction of two phases that somebody else has begun, and nobody "
    "tells the queue whether that is committed: let the session begin it (twophase=True), or use "
    "transactional=False"
)
_OUTER_LOCK = (
    "db.session is bound to a connection whose transaction somebody else has begun, and which may "
    "hold the lock that this needs: have it be part of that transaction (without "
    "transactional=False), or end the transaction first"
)


def is_within_another(runtime: Runtime, session: Session) -> bool:
    """Return whether the session takes part in a transaction that somebody else has begun.

    What that has written before is not known, so a task belongs to it. A test that the test kit
    runs on such a connection has everything there.
    """
    if runtime.test_connection is not None:
        return False
    if is_current(runtime.app):  # in a context of another app, the session has its engines
        bound = runtime.binding.bound
        if isinstance(bound, sa.Connection) and not bound.closed and bound.in_transaction():
            return True
    return any(goes_on(transaction) for transaction in sessions.followed(session))


def refuse_outer_lock(runtime: Runtime) -> None:
    """Raise `BadTransactionStateError` if a change of its own could wait for such a transaction."""
    database = runtime.store.database
    if runtime.binding.db is None or runtime.test_connection is not None:
        return
    if (
        database.dialect.locks_by_writing
        and not database.in_memory
        and has_app_context()
        and is_within_another(runtime, runtime.binding.session())
    ):
        raise BadTransactionStateError(_OUTER_LOCK)


def join_change(
    runtime: Runtime,
    work: Callable[[sa.Connection], T],
    follow: Callable[[T], Sequence[Callable[[], object]]],
    name: Callable[[T], list[str]],
    waits: bool,
    done: Callable[[sa.Connection], T | None] | None,
) -> tuple[T, Commitment]:
    """Run ``work(connection)`` in the session's transaction; see `make_change`.

    What ``follow(result)`` returns is called after the commit.
    """
    database = runtime.store.database
    session = sessions.current(runtime.binding.session)
    try:
        with database.joined():
            connection = sessions.connection_of(session, runtime.binding.bound)
    except sa.exc.InvalidRequestError as error:
        raise BadTransactionStateError(
            f"the session has no transaction that the change could be part of: {error}. Roll "
            "it back, begin one (autobegin=False), or use transactional=False"
        ) from error
    begun = sessions.begun(session)
    _refuse_unseen_end(runtime, session, connection)
    sessions.refuse_autocommit(session)
    sessions.refuse_undone(session)
    if database.dialect.locks_by_writing and not database.in_memory:
        one_writer.refuse_other_writers(database.file, connection)
    runtime.refuse_to_wait(Kept.ROWS if waits else Kept.INSERTS, joins=True)
    with _unended(session, begun), database.joined():
        database.open_within(connection)
        runtime.store.ensure_queues(connection)
        runtime.store.queues.take_write_lock(connection)
        with _kept(runtime, session, connection, waits):
            result = work(connection)
        has_freed = has_freed_places(connection)
    commitment = Commitment(is_committed=False)
    then: list[Callable[[], object]] = [
        runtime.store.committed,
        *([runtime.release_waiting] if has_freed else []),
    ]
    sessions.join(
        session,
        connection,
        name(result),
        commitment.commit,
        [*then, *follow(result)],
        lambda: done is not None and done(connection) is not None,
        begun,
    )
    return result, commitment


def _refuse_unseen_end(runtime: Runtime, session: Session, connection: sa.Connection) -> None:
    """Raise `BadTransactionStateError` if nobody would tell how the transaction ends."""
    transaction = sessions.tracked(session, connection)
    if runtime.test_connection is connection:
        transaction.is_within = False  # a commit of the session is all that there will be
    elif goes_on(transaction) and isinstance(connection.get_transaction(), sa.TwoPhaseTransaction):
        raise BadTransactionStateError(_TWO_PHASES)
    else:
        refuse_within(transaction)


@contextmanager
def _unended(session: Session, begun: sessions.Begun) -> Iterator[None]:
    """Raise `BadTransactionStateError` if another thread has closed the session's connection."""
    try:
        yield
    except sa.exc.ResourceClosedError:
        sessions.refuse_ended(session, begun)
        raise


@contextmanager
def _kept(
    runtime: Runtime, session: Session, connection: sa.Connection, waits: bool
) -> Iterator[None]:
    """Note what a change in the session's transaction keeps from others, even if it fails."""
    try:
        yield
    finally:
        if not (connection.closed or connection.invalidated):
            gaps = has_met_taken(connection) and runtime.store.database.dialect.locks_gaps
            kept = Kept.INSERTS if gaps else Kept.ROWS if waits else Kept.NEW_ROWS
            tables = one_writer.tables_of(runtime.store.database)
            sessions.tracked(session, connection).levels.innermost.keep(tables, kept)
