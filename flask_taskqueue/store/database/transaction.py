"""Transactions: how one is run, run again, and refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TypeVar

import sqlalchemy as sa

from ...core.errors import (
    BadTransactionStateError,
    ConfigurationError,
    TablesMissingError,
    TablesTooNewError,
    TransientError,
)
from ...core.names import chance
from .dialects import Dialect

AUTOCOMMIT = (
    "the application's engine commits each statement at once (AUTOCOMMIT), so that neither a "
    "task and the rows it needs, nor a handler's "
    "changes and the end of its task, can be committed together: remove it from "
    "SQLALCHEMY_ENGINE_OPTIONS (or the bind's options), or give "
    "the queue a database of its own with TASKQUEUE_DATABASE_URI"
)


def refuse_unfit_engine(engine: sa.Engine, dialect: Dialect) -> None:
    """Raise `ConfigurationError` if an engine shows, without a connection, that it is unfit."""
    refusal = dialect.refusal(engine)
    if refusal is not None:
        raise ConfigurationError(str(refusal))
    levels = (
        engine.get_execution_options().get("isolation_level"),
        getattr(engine.dialect, "_on_connect_isolation_level", None),
    )
    if "AUTOCOMMIT" in levels:
        raise ConfigurationError(AUTOCOMMIT)


def close_engine(engine: sa.Engine) -> None:
    """Close every connection of an engine.

    SQLAlchemy leaves a connection that is in use to a pool that nobody has any more, where it stays
    open until it is collected as garbage. Here it is closed when it is given back.
    """
    pool = engine.pool
    engine.dispose()
    sa.event.listen(pool, "checkin", _close_given_back)


def _close_given_back(connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
    if connection is not None:
        record.invalidate()


_FAILED = (
    "a statement of the session's transaction has failed, so that the database takes nothing more "
    "of it: roll the session back (db.session.rollback()), and use db.session.begin_nested() "
    "around what may fail"
)
CROWDED = "no connection to the database became free: all that the pool may have are in use"
_UNSURE = "; the answer to a commit was lost, so that what was asked for may have been done"


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


def is_outage(error: Exception) -> bool:
    """Return whether an error of a transaction says that nothing can be done now, by anybody.

    The database cannot be reached, keeps refusing or is locked, or the tables are not fit. Any
    other error may be due to what the transaction was to write or found, as a number that is out of
    range, and then the transactions of other tasks work.
    """
    return isinstance(
        error, TransientError | TablesMissingError | TablesTooNewError | ConfigurationError
    )


@contextmanager
def apart(refused: Callable[[Exception], object], within: Dialect | None = None) -> Iterator[None]:
    """Keep a refusal of what is done in this block, for one row, from stopping what is done beside.

    Such an error is passed to ``refused``; an outage is raised. In the midst of a transaction,
    given the dialect that it is ``within``, so is what has the whole transaction run again.
    """
    try:
        yield
    except Exception as error:  # whatever one row makes the database, its driver or us raise
        if is_outage(error) or (within is not None and _concerns_all(error, within)):
            raise
        refused(error)


class MovedError(Exception):
    """What a transaction had looked at was changed in the meantime, so it has to be run again."""


def _concerns_all(error: Exception, dialect: Dialect) -> bool:
    """Return whether a failed statement says nothing of what it was to write."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, MovedError)
    reasons = dialect.is_transient, dialect.is_locked, dialect.is_deadlock, dialect.is_missing
    return error.connection_invalidated or any(is_reason(error) for is_reason in reasons)


def is_unreached(error: sa.exc.DBAPIError) -> bool:
    """Return whether the database was not even reached."""
    return error.statement is None and isinstance(error, sa.exc.OperationalError)


def unreachable(error: sa.exc.DBAPIError) -> TransientError:
    """Return the error to raise for a database that cannot be reached."""
    return TransientError(f"the database cannot be reached: {type(error.orig).__name__}")


@contextmanager
def in_callers_transaction(dialect: Dialect) -> Iterator[None]:
    """Raise `TransientError` in this block for temporary failures, which end the transaction.

    The transaction is the caller's, so it is not ours to run again. If it has failed before, this
    raises `BadTransactionStateError`.
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
        if dialect.is_aborted(error):
            raise BadTransactionStateError(_FAILED) from error
        raise
    except sa.exc.TimeoutError as error:
        raise TransientError(CROWDED) from error


Result = TypeVar("Result")

_PATIENCE = 20.0
"""The seconds after which a transaction that lost its connection is not tried again.

A database that does not answer uses up more.
"""


_LOCK_PATIENCE = 20.0
"""The seconds that a transaction waits, in turns, for locks of another one."""
_IN_USE = (
    "another transaction, of the application perhaps, has locked what this one was to change, "
    "and keeps it"
)


class Wait(Enum):
    """How a transaction treats the locks of others."""

    PATIENTLY = auto()
    """Try again for twenty seconds, because whoever asked for the transaction waits too."""
    BRIEFLY = auto()
    """Wait a moment, as long as similar transactions take, then give up with `LockedError`."""
    NOT = auto()
    """Give up with `LockedError` immediately."""


class RetriedTransaction:
    """A transaction with up to a number of ``tries``.

    If the answer to a commit was lost, it is tried as often as it takes to find out, within twenty
    seconds.
    """

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._began = time.monotonic()
        self._attempt = 1
        self._committing = False
        self.unsure: bool = False
        """Whether it may have been committed."""
        self.working: bool = False
        """Whether its present try has begun, and is not being committed."""

    @property
    def seconds(self) -> float:
        """The number of seconds that it has been going on."""
        return time.monotonic() - self._began

    def run(self, work: Callable[[sa.Connection], Result], connection: sa.Connection) -> Result:
        """Do the work; from then on, a failure is a failure of the commit."""
        self._committing, self.working = False, True
        result = work(connection)
        self._committing, self.working = True, False
        return result

    def repeat(
        self, run_once: Callable[[], Result], counts: Callable[[sa.exc.DBAPIError], bool]
    ) -> Result:
        """Run it until it succeeds.

        ``counts`` raises a failure of the database that is final, and of any other it says whether
        it uses up one of the tries.
        """
        while True:
            counted = True
            try:
                return run_once()
            except sa.exc.DBAPIError as error:
                counted = counts(error)
            except MovedError as error:
                if self._is_used_up:
                    raise TransientError("what the transaction looked at kept changing") from error
            except sa.exc.TimeoutError as error:
                raise TransientError(CROWDED) from error
            self._pause(counted=counted)

    def was_locked_out(self, error: sa.exc.DBAPIError, wait: Wait, dialect: Dialect) -> bool:
        """Return whether another transaction was in the way, and may be waited for once more.

        Raises `LockedError` if a lock was waited for as long as allowed.
        """
        patient = wait is Wait.PATIENTLY and self.seconds <= _LOCK_PATIENCE
        if dialect.is_locked(error):
            if not patient:
                raise LockedError(_IN_USE) from error
            return True
        return patient and dialect.is_deadlock(error)

    def raise_if_final(self, error: sa.exc.DBAPIError, *, passes: bool) -> None:
        """Raise what a failed try means to its caller, unless there is to be another try.

        There is none after the last, nor if the failure neither ``passes`` nor lost its connection.
        Once a try has begun, what fails without a statement is the driver, at a row that it cannot
        read.
        """
        last = self._is_last(error)
        unreached = is_unreached(error) and not self.working
        if not (passes or error.connection_invalidated or (self.unsure and unreached)):
            if unreached:
                raise unreachable(error) from error
            raise error
        if last:
            raise TransientError(
                f"the database keeps refusing: {type(error.orig).__name__}"
                + (_UNSURE if self.unsure else "")
            ) from error

    def _is_last(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the try that ended with this error was the last."""
        self.unsure |= self._committing and error.connection_invalidated
        self._committing = False
        silent = error.connection_invalidated and self.seconds > _PATIENCE
        return silent or (self.seconds > _PATIENCE if self.unsure else self._is_used_up)

    @property
    def _is_used_up(self) -> bool:
        """Whether all tries have been used."""
        return self._attempt >= self._tries

    def _pause(self, *, counted: bool) -> None:
        """Wait before the next try, longer each time.

        ``counted`` says whether the failed one is one of the tries.
        """
        self._attempt += counted
        self.working = False
        time.sleep(chance.uniform(0.2, 1) * min(0.01 * 2**self._attempt, 0.5))
