"""The differences between the databases; no other module names a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import sqlalchemy as sa

from ....core.diagnosis.facts import Finding
from ....core.errors import ConfigurationError
from ....core.states import Record
from .listen_notify import ListenNotify
from .sqlite import SQLite, is_in_memory
from .transactions import Mark

__all__ = ["Claim", "Dialect", "ListenNotify", "Mark", "dialect_of", "is_in_memory"]


class Claim(Protocol):
    """A prepared claim: takes due tasks and returns them as they are now.

    ``which`` binds what its choice asks for, such as in_queue, in_priority and most; ``how`` binds
    new_lease, holder and period.
    """

    def __call__(
        self, connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]
    ) -> list[Record]: ...


class Dialect(Protocol):
    """The operations that each database does in its own way."""

    clock_is_local: bool
    """Whether the database's clock is the clock of this machine."""
    locks_by_writing: bool
    """Whether a transaction has to write first.

    On such a database, one that reads first may later fail to write.
    """

    sends_singly: bool
    """Whether the driver sends the rows of an executemany one by one.

    If so, one statement for many rows is faster.
    """
    locks_what_it_copies: bool
    """Whether an INSERT … SELECT locks the rows that it reads."""
    locks_gaps: bool
    """Whether an insert that meets a taken key locks the index beside it, where others insert."""
    inserts_what_it_updates: bool
    """Whether one statement can update rows and insert what they return into another table."""

    @property
    def now(self) -> sa.ColumnElement[int]:
        """Return the database's clock, in microseconds since 1970; constant in a statement."""

    def create_engine(self, source: sa.Engine | sa.URL) -> sa.Engine:
        """Return an engine of the queue's own, whose transactions wait only a moment for a lock.

        Its connections lead where those of the application's engine, or the URL, do.
        """

    def findings(self, engine: sa.Engine, application: sa.Engine | None) -> list[Finding]:
        """Return what operators should know about the database as this engine reaches it.

        ``application`` is the application's own engine, if it shares the database.
        """

    def unsafe_tables(self, engine: sa.Engine, tables: Sequence[sa.Table]) -> list[Finding]:
        """Return an error for each table that exists and rolls nothing back."""

    def refusal(self, source: sa.Engine) -> Finding | None:
        """Return why the queue cannot be part of transactions of the application's engine."""

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        """Return whether each statement is committed at once, despite the transaction."""

    def keeps_to_snapshot(self, connection: sa.Connection) -> bool:
        """Return whether a transaction may not change what others have changed since it began."""

    def place(self, connection: sa.Connection) -> str:
        """Describe where this connection leads, to tell it from where another one leads."""

    def file(self, connection: sa.Connection) -> str:
        """Return the path of the file that this connection works on, whatever its URL says.

        It is empty for a server and in memory.
        """

    in_marked: sa.ColumnElement[bool] | None
    """The condition that a statement is in the transaction of a mark, whose values it binds.

    It is None if only the mark itself can tell.
    """

    def mark(self, connection: sa.Connection) -> Mark:
        """Mark the transaction of a connection."""

    def notifications(self, engine: sa.Engine) -> ListenNotify | None:
        """Return the statements for notifications, or None without them.

        The database and its driver both need to have them.
        """

    def prepare_claim(self, task: sa.Table, chosen: sa.Select[Any]) -> Claim:
        """Return the claim statement for a task table, which takes the ids that are ``chosen``."""

    def among(self, column: sa.ColumnElement[str], name: str = "among") -> sa.ColumnElement[bool]:
        """Return whether a column is one of the texts that are bound by a name.

        The statement reads the same for any number of them.
        """

    def bound(self, texts: Sequence[str]) -> Any:
        """Return the value that binds texts for `among`."""

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        """Return an insert that skips rows whose key is there already."""

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        """Return an insert that adds the counts to those of a row whose key is there already."""

    def alone(self, connection: sa.Connection, name: str) -> AbstractContextManager[object]:
        """Let only one process at a time change the tables of this name."""

    def at_once(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """Wait for no lock in this block, as far as the database can do that."""

    def is_locked(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the transaction waited in vain for a lock that another one holds."""

    def is_deadlock(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether this transaction was ended to resolve a deadlock with others."""

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the same transaction may succeed when it is tried again."""

    def is_stale(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the transaction may succeed, but only on another connection.

        This connection is lost, or leads to a database that is read-only.
        """

    def is_aborted(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether the transaction takes nothing more, because a statement had failed."""

    def is_read_only(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether this connection leads to a database that is read-only."""

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        """Return whether a table or a column was not there."""


_DRIVERS = {
    "sqlite": ("pysqlite",),
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql", "mysqldb"),
    "mariadb": ("pymysql", "mysqldb"),
}
"""The drivers with which each database can be reached."""


def check_driver(url: sa.URL) -> None:
    """Raise `ConfigurationError` for a driver that is not supported or not installed."""
    name = url.get_backend_name()
    try:
        driver = url.get_dialect().driver
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        raise ConfigurationError(
            f"the driver of the database, {url.drivername!r}, is not known: {error}"
        ) from error
    known = _DRIVERS.get(name, (driver,))
    if driver not in known:
        raise ConfigurationError(
            f"the database is reached by the driver {driver!r}, which Flask-TaskQueue does "
            f"not work with: use {' or '.join(known)}, "
            f"as in {name}+{known[0]}://, and install its package"
        )


def dialect_of(url: sa.URL) -> Dialect:
    """Return the dialect for a URL.

    Raises `ConfigurationError` for a database, or a driver, that is not supported.
    """
    check_driver(url)
    # Each is imported only when it is used: SQLAlchemy's own part for a database takes megabytes.
    match url.get_backend_name():
        case "sqlite":
            return SQLite()
        case "postgresql":
            from .postgresql import PostgreSQL

            return PostgreSQL()
        case "mysql" | "mariadb":
            from .mysql import MySQL

            return MySQL()
        case name:
            raise ConfigurationError(
                "Flask-TaskQueue runs on SQLite, PostgreSQL, MariaDB and MySQL; the "
                f"database is {name}"
            )
