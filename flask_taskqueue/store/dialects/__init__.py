"""What differs between the databases: the only place that names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Event
from typing import Any, Protocol

import sqlalchemy as sa

from ...core.errors import ConfigurationError
from ...core.finding import Finding
from ...core.record import Record
from .marks import Mark
from .sqlite import SQLite, file_of, is_in_memory

__all__ = ["Claim", "Dialect", "Mark", "dialect_of", "file_of", "is_in_memory"]


class Claim(Protocol):
    """A prepared claim: takes due tasks of one lane and returns them as they are now.

    ``which`` binds in_queue, in_priority and most; ``how`` binds new_lease, holder and period.
    """

    def __call__(self, connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]) -> list[Record]: ...


class Dialect(Protocol):
    """A database, as far as it differs from the others."""

    clock_is_local: bool
    """Whether the database's clock is that of this machine."""
    locks_by_writing: bool
    """Whether a transaction has to write first, because one that reads first may fail to write later."""

    sends_singly: bool
    """Whether the driver sends the rows of an executemany one by one, so that one statement for many had better be written."""

    @property
    def now(self) -> sa.ColumnElement[int]:
        """The database's clock, in microseconds since 1970; the same throughout a statement."""

    def create_engine(self, url: sa.URL, connect_args: dict[str, object]) -> sa.Engine:
        """An engine of the queue's own."""

    def findings(self, engine: sa.Engine) -> list[Finding]:
        """What should be known about this database, as this engine reaches it."""

    def refusal(self, source: sa.Engine) -> Finding | None:
        """Why the queue cannot be part of transactions of the application's engine."""

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        """Whether each statement of this connection is committed at once, although it has begun a transaction."""

    def mark(self, connection: sa.Connection) -> Mark:
        """Mark the transaction of a connection."""

    def has_notices(self, engine: sa.Engine) -> bool:
        """Whether `notify` and `listen` can be used."""

    def notify(self, connection: sa.Connection, channel: str) -> None:
        """Send a notice to those who listen."""

    def listen(self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event) -> None:
        """Call ``wake`` at each notice until ``closed``. Raises DBAPIError when the connection is lost."""

    def prepare_claim(self, task: sa.Table, *only: sa.ColumnElement[bool]) -> Claim:
        """The claim statement for a task table; it takes nothing unless all of ``only`` hold, which may ask about ``in_queue``."""

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        """An insert that skips rows whose key is there already."""

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        """An insert that adds the counts to those of a row whose key is there already."""

    def alone(self, connection: sa.Connection, name: str) -> AbstractContextManager[object]:
        """Within this, of all processes that want to change the tables of this name, only one is at it."""

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        """Whether the same transaction may succeed when it is tried again."""

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        """Whether a table or a column was not there."""


_DRIVERS = {
    "sqlite": ("pysqlite",),
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql", "mysqldb"),
    "mariadb": ("pymysql", "mysqldb"),
}
"""What each database can be reached by."""


def check_driver(url: sa.URL) -> None:
    """Raise `ConfigurationError` for a driver that is not supported, or not there."""
    name = url.get_backend_name()
    try:
        driver = url.get_dialect().driver
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        raise ConfigurationError(f"the driver of the database, {url.drivername!r}, is not known: {error}") from error
    known = _DRIVERS.get(name, (driver,))
    if driver not in known:
        raise ConfigurationError(
            f"the database is reached by the driver {driver!r}, which Flask-TaskQueue does not work with: use {' or '.join(known)}, "
            f"as in {name}+{known[0]}://, and install its package"
        )


def dialect_of(url: sa.URL) -> Dialect:
    """The dialect of a URL. Raises `ConfigurationError` for a database, or a driver, that is not supported."""
    check_driver(url)
    # Each imported only where it is used: SQLAlchemy's own part for a database takes megabytes.
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
            raise ConfigurationError(f"Flask-TaskQueue runs on SQLite, PostgreSQL, MariaDB and MySQL; the database is {name}")
