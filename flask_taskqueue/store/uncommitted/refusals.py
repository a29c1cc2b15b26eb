"""Refusals of commits that would leave something undone, or part what belongs together."""

from __future__ import annotations

from ...core.errors import BadTransactionStateError
from .transaction import TrackedTransaction

NO_COMMIT = (
    "a transactional handler must not commit: its changes are committed together with the "
    "end of its "
    "task, after it has returned a 2xx. Leave the commit out, or use transactional=False"
)

STALE = (
    "this transaction has read, then tasks.add() (or another change of the queue) has ended it and "
    "begun it again, so as to write to the SQLite file, and now it would change something: others "
    "may have changed meanwhile what it has read. Make the changes before you add the task, add it "
    "with transactional=True, or commit or roll back after it and read again"
)

WITHIN = (
    "db.session has changes on a connection ({!r}) whose transaction somebody else has begun, and "
    "is to commit, while the task would be committed with the session, on another connection, and "
    "could run before what it needs is there: bind the session to an engine, or put the queue's "
    "tables where the changes are (TASKQUEUE_BIND_KEY)"
)

UNDONE = (
    "something has ended this transaction before its commit, and the tasks that were added in it, "
    "or other changes of the queue, are undone or cannot be found: a statement that failed (at a "
    "deadlock MariaDB undoes the transaction, PostgreSQL at any error outside of a savepoint), a "
    "procedure that rolls back, or rollback() of the driver. Roll back, and repeat all of it"
)

NOT_ALONE = (
    "the transactional handler, or a hook of its commit, has changed another database too, or the "
    "same one on another connection ({!r}; an engine with execution options of its own, that "
    "get_bind returns perhaps, has its own), and the two cannot be committed together: change one "
    "of them only, put the queue's tables where the changes are (TASKQUEUE_BIND_KEY), or use "
    "transactional=False"
)


def goes_on(followed: TrackedTransaction) -> bool:
    """Return whether somebody else's transaction, in which a session takes part, is still open."""
    connection = followed.connection
    return followed.is_within and not connection.closed and connection.in_transaction()


def refuse_others(followed: TrackedTransaction) -> None:
    """Raise `BadTransactionStateError` if what is committed with a transaction has changes too."""
    for other in followed.together:
        if other is not followed and other.has_written():
            raise BadTransactionStateError(NOT_ALONE.format(other.connection.engine.url))


def refuse_within(followed: TrackedTransaction) -> None:
    """Raise `BadTransactionStateError` if what is changed beside it waits for another commit."""
    for other in followed.together:
        if other is not followed and goes_on(other) and other.has_written():
            raise BadTransactionStateError(WITHIN.format(other.connection.engine.url))


def refuse_commit(followed: TrackedTransaction) -> None:
    """Raise `BadTransactionStateError` if a transaction must not be committed as it is."""
    for transaction in followed.together:
        if transaction.commits_alone:
            transaction.commits_alone = False  # nothing has been committed yet, and now all is
            refuse_others(transaction)
    if followed.has_made_way and followed.has_written():
        raise BadTransactionStateError(STALE)
    if followed.is_undone:
        raise BadTransactionStateError(UNDONE)
    if followed.joined and not followed.is_within:
        refuse_within(followed)
