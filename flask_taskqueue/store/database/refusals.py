"""Refusals: what a database said when it did not do what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ...core.errors import TransientError
from .dialects import Dialect

CROWDED = "no connection to the database became free: all that the pool may have are in use"
UNSURE = "; the answer to a commit was lost, so that what was asked for may have been done"


def refusal(error: BaseException) -> str | None:
    """Return the first line of what the database said behind an error, or None if it said nothing.

    What follows that line may quote a row. The line may name hosts and users: it is for logs and
    for those who operate the queue, not for everybody.
    """
    said = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
    return (
        str(said.orig).strip().partition("\n")[0] or None
        if isinstance(said, sa.exc.DBAPIError)
        else None
    )


class LockedError(TransientError):
    """Another transaction holds a lock that one would have to wait for; nothing was changed."""


class MovedError(Exception):
    """What a transaction looked at was changed meanwhile, so that it has to be run again."""


def is_unreached(error: sa.exc.DBAPIError) -> bool:
    """Return whether the database was not even reached."""
    return error.statement is None and isinstance(error, sa.exc.OperationalError)


def unreachable(error: sa.exc.DBAPIError) -> TransientError:
    """Return the error to raise for a database that cannot be reached."""
    return TransientError(f"the database cannot be reached: {type(error.orig).__name__}")


@contextmanager
def in_callers_transaction(dialect: Dialect) -> Iterator[None]:
    """Raise `TransientError` within this for what fails in passing: the transaction is lost by it.

    The transaction is not ours to run again.
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
