"""Whether the transaction of a connection has written, as far as each database can tell."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa

from .functions import OTHERS, Names
from .statement import Statement, StatementKind


class Writes(Protocol):
    """The knowledge of a connection's database about its transaction, past SQLAlchemy's events."""

    asks: bool
    """Whether the answers below take a question to the server."""
    names: Names
    """Names before a parenthesis that call nothing that writes, or what is counted all the same."""
    mistakes_locks: bool
    """Whether it takes a note to tell a lock from a write that changed no row."""
    keeps_what_failed: bool
    """Whether a statement that failed may have left changes that its driver does not count."""
    keeps_locks: bool
    """Whether locks outlast the rollback of the savepoint in which they were taken."""

    def is_autocommit(self) -> bool:
        """Return whether the driver commits each statement, so that nothing is held back."""

    def count(self) -> int:
        """Return how many changes the driver has counted; a constant if it does not count."""

    def note(self, *, locks: bool) -> Any:
        """Return what to remember before a statement that may write, or None.

        ``locks`` says that rows or tables may be locked, or writes rolled back.
        """

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        """Return whether a statement that has run has written, as its result shows.

        Returns None if the database must be asked.
        """

    def ends(self, statement: Statement) -> bool:
        """Return whether the database has committed the transaction because of this statement."""

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        """Ask whether anything was written since ``counted`` and ``noted`` were taken.

        ``locks`` says that rows may have been locked.
        """

    def streams(self, statement: Statement, cursor: Any) -> None:
        """Note the cursor of a result that is read while its rows are used."""

    def is_unfinished(self) -> bool:
        """Return whether a statement that has run may go on writing."""

    def is_open(self) -> bool:
        """Return whether the transaction has not been ended behind SQLAlchemy's back."""

    def is_gone(self) -> bool:
        """Return whether the driver knows, without a question, that no transaction is open."""

    def is_aborted(self) -> bool:
        """Return whether the driver knows that a commit would undo the transaction."""

    def may_end(self, statement: Statement) -> bool:
        """Return whether a statement may end the transaction without telling how."""

    def mark(self) -> Any:
        """Return a mark of the transaction, for `holds`."""

    def holds(self, mark: Any) -> bool:
        """Return whether this is still the transaction of the mark; ask only once."""

    def may_lock(self, file: str) -> bool:
        """Return whether the transaction may keep others from writing to this file."""

    def let_go(self) -> bool:
        """End the transaction, in which nothing is written.

        Returns whether the driver has begun none by itself since.
        """


class UnknownWrites:
    """A database that cannot be asked; it is the app's own and does not hold our tables."""

    asks = True
    names = OTHERS
    mistakes_locks = False
    keeps_what_failed = keeps_locks = False

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def is_autocommit(self) -> bool:
        return False

    def count(self) -> int:
        return 0

    def note(self, *, locks: bool) -> Any:
        return None

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        if statement.kind is StatementKind.CHANGE:
            return bool(cursor.rowcount != 0)
        return bool(statement.writes)

    def ends(self, statement: Statement) -> bool:
        return False

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        return False

    def streams(self, statement: Statement, cursor: Any) -> None:
        pass

    def is_unfinished(self) -> bool:
        return False

    def is_open(self) -> bool:
        return True

    def is_gone(self) -> bool:
        return False

    def is_aborted(self) -> bool:
        return False

    def may_end(self, statement: Statement) -> bool:
        return False

    def mark(self) -> Any:
        return None

    def holds(self, mark: Any) -> bool:
        return True

    def may_lock(self, file: str) -> bool:
        return False

    def let_go(self) -> bool:
        return False


def ask(connection: sa.Connection, question: str) -> list[Any] | None:
    """Return the rows that answer a question, past SQLAlchemy's events.

    Returns None if the transaction can no longer be asked.
    """
    module: Any = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        cursor.execute(question)
        return list(cursor.fetchall())
    except module.Error:
        return None
    finally:
        cursor.close()


def names_of(connection: sa.Connection) -> Names:
    """Return the names that call nothing that writes on the database of this connection."""
    names: Names = _kind(connection.dialect.name).names
    return names


def writes_of(connection: sa.Connection) -> Writes:
    """Return the questions that the database of this connection can be asked."""
    writes: Writes = _kind(connection.dialect.name)(connection)
    return writes


@cache
def _kind(name: str) -> Any:
    match name:
        case "sqlite":
            from .sqlite import SQLiteWrites

            return SQLiteWrites
        case "postgresql":
            from .postgresql import PostgreSQLWrites

            return PostgreSQLWrites
        case "mysql" | "mariadb":
            from .mysql import MySQLWrites

            return MySQLWrites
        case _:
            return UnknownWrites
