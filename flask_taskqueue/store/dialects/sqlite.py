"""SQLite."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import Event
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ...core.finding import Finding
from ...core.record import Record
from ..prepared import Prepared
from . import sqlite_findings
from .claims import candidates, taken
from .marks import Mark, Savepoint

BUSY_TIMEOUT = 10_000


def _micros() -> int:
    return time.time_ns() // 1000


class SQLite:
    """One file, one writer at a time, several processes; its clock is this machine's."""

    clock_is_local = True
    locks_by_writing = True
    sends_singly = False

    @property
    def now(self) -> sa.ColumnElement[int]:
        return sa.bindparam("now", callable_=_micros, type_=sa.BigInteger)

    def create_engine(self, url: sa.URL, connect_args: dict[str, object]) -> sa.Engine:
        """Write-ahead log, every commit on disk, and each transaction takes the write lock when it begins.

        One that took it later, after reading, could fail with "database is locked" at once,
        whatever the busy timeout.
        """
        engine = sa.create_engine(url, connect_args=connect_args, hide_parameters=True)

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            cursor = connection.cursor()
            # Not while somebody writes in another mode, the caller's own session perhaps: then a later connection does it.
            with suppress(sqlite3.OperationalError):
                cursor.execute("PRAGMA busy_timeout=0")
                cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.close()

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            reading = connection.get_execution_options().get("taskqueue_reading", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        return engine

    def findings(self, engine: sa.Engine) -> list[Finding]:
        """About its version, its place and its journal; in memory there is nothing but that."""
        if is_in_memory(engine.url):
            return [sqlite_findings.IN_MEMORY]
        version: Any = engine.dialect.dbapi
        found = [
            sqlite_findings.of_version(version.sqlite_version_info),
            sqlite_findings.of_place(str(engine.url.database)),
            sqlite_findings.of_journal(engine),
        ]
        return [one for one in found if one is not None]

    def refusal(self, source: sa.Engine) -> Finding | None:
        return sqlite_findings.of_rollbacks(source)

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        driver: Any = connection.connection.dbapi_connection
        by_driver = driver.isolation_level is None or getattr(driver, "autocommit", None) is True
        return by_driver and not driver.in_transaction  # an application may emit BEGIN itself

    def mark(self, connection: sa.Connection) -> Mark:
        return Savepoint(connection)

    def has_notices(self, engine: sa.Engine) -> bool:
        return False

    def notify(self, connection: sa.Connection, channel: str) -> None:
        raise NotImplementedError

    def listen(self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event) -> None:
        raise NotImplementedError

    def prepare_claim(self, task: sa.Table, *only: sa.ColumnElement[bool]) -> Any:
        """One UPDATE whose subquery picks the rows; SQLite has no other writer meanwhile."""
        statement = sa.update(task).where(task.c.id.in_(candidates(task, self.now, *only))).values(taken(task, self.now)).returning(*task.c)

        prepared = Prepared(statement)

        def claim(connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]) -> list[Record]:
            rows = prepared.execute(connection, {**which, **how}).all()
            return sorted(map(Record._make, rows), key=lambda record: (record.eta, record.id))

        return claim

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = sqlite.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={one: table.c[one] + insert.excluded[one] for one in counts}
        )

    def alone(self, connection: sa.Connection, name: str) -> AbstractContextManager[object]:
        return nullcontext()  # the transaction has the write lock since it began

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return "locked" in str(error.orig) or "busy" in str(error.orig)

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return any(words in str(error.orig) for words in ("no such table", "no such column", "has no column"))


def file_of(url: sa.URL) -> str:
    """The path of a database's file, the same however a URL names it; of another database, or in memory, the empty one."""
    if url.get_backend_name() != "sqlite" or is_in_memory(url):
        return ""
    return os.path.realpath(str(url.database).removeprefix("file:").partition("?")[0])


def is_in_memory(url: sa.URL) -> bool:
    """Whether the database lives in this process only."""
    return url.get_backend_name() == "sqlite" and (
        url.database in (None, "", ":memory:") or "mode=memory" in str(url.database) or url.query.get("mode") == "memory"
    )
