"""Refusals: the errors of a database that did not do as it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ...core.errors import TransientError
from .dialects import Dialect

CROWDED = "no connection to the database became free: all that the pool may have are in use"
UNSURE = "; the answer to a commit was lost, so that what was asked for may have been done"


def refusal(error: BaseException) -> str | None:
    """Return the first line of the database's message behind an error, or None if it has none.

    The lines after it may quote a row. The line itself may name hosts and users, so it is for logs
    and for operators of the queue, not for everybody.
    """
    said = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
    return (
        str(said.orig).strip().partition("\n")[0] or None
        if isinstance(said, sa.exc.DBAPIError)
        else None
    )


class LockedError(TransientError):
    """Another transaction holds a lock that would have to be waited for; nothing was changed."""


class MovedError(Exception):
    """What a transaction had looked at was changed in the meantime, so it has to be run again."""


def is_unreached(error: sa.exc.DBAPIError) -> bool:
    """Return whether the database was not even reached."""
    return error.statement is None and isinstance(error, sa.exc.OperationalError)


def unreachable(error: sa.exc.DBAPIError) -> TransientError:
    """Return the error to raise for a database that cannot be reached."""
    return TransientError(f"the database cannot be reached: {type(error.orig).__name__}")


@contextmanager
def in_callers_transaction(dialect: Dialect) -> Iterator[None]:
    """Raise `TransientError` in this block for temporary failures, which end the transaction.

    The transaction is the caller's, so it is not ours to run again.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        passes = (
            error.connection_invalidated or dialect.is_transient(error) or dialect.is_stale(error)
        )
        if passes or is_unreached(error):
            raise TransientError(
                f"the session's transaction was refused, roll it back: {type(error.orig).__name__}"
            ) from error
        raise
    except sa.exc.TimeoutError as error:
        raise TransientError(CROWDED) from error
