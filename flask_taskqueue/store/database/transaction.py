"""A transaction that is retried: how its tries went, and whether to try once more."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeVar

import sqlalchemy as sa

from ...core.ids import chance
from .dialects import Dialect
from .refusals import LockedError

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
        self.unsure = False
        """Whether it may have been committed."""

    @property
    def seconds(self) -> float:
        """The number of seconds that it has been going on."""
        return time.monotonic() - self._began

    def run(self, work: Callable[[sa.Connection], Result], connection: sa.Connection) -> Result:
        """Do the work; from then on, a failure is a failure of the commit."""
        self._committing = False
        result = work(connection)
        self._committing = True
        return result

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

    def is_last(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the try that ended with this error was the last."""
        self.unsure |= self._committing and error.connection_invalidated
        self._committing = False
        silent = error.connection_invalidated and self.seconds > _PATIENCE
        return silent or (self.seconds > _PATIENCE if self.unsure else self.is_used_up)

    @property
    def is_used_up(self) -> bool:
        """Whether all tries have been used."""
        return self._attempt >= self._tries

    def pause(self, *, counted: bool) -> None:
        """Wait before the next try, longer each time.

        ``counted`` says whether the failed one is one of the tries.
        """
        self._attempt += counted
        time.sleep(chance.uniform(0.2, 1) * min(0.01 * 2**self._attempt, 0.5))
