"""SQLite."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ....core.diagnosis.facts import Finding
from ....core.errors import ConfigurationError
from ....process.threads import NoThreadError, start_thread
from . import sqlite_findings
from .claims import claim_in_one_statement
from .connections import create_engine
from .transactions import BRIEF, Mark, Savepoint
from .unreadable_texts import Texts

BUSY_TIMEOUT = 10_000
"""The milliseconds that a transaction waits for another writer."""
_BRIEFLY = 1000
_RETRIED = {5, 6, 13, 15}
"""Errors that pass: busy, locked, a full disk, a lock that others took first."""
_READ_ONLY = 8
_STALE = {_READ_ONLY, 10, 14}
"""Errors that need another connection: a file that is read-only or replaced, or a failing disk.

A file that cannot be opened is one of them.
"""


def _micros() -> int:
    return time.time_ns() // 1000


class SQLite:
    """A dialect for one file with one writer at a time, whose clock is this machine's.

    Several processes can use the file.
    """

    clock_is_local = True
    locks_by_writing = True
    sends_singly = False
    locks_what_it_copies = False
    locks_gaps = False
    inserts_what_it_updates = False
    in_marked: sa.ColumnElement[bool] | None = None

    @property
    def now(self) -> sa.ColumnElement[int]:
        return sa.bindparam("now", callable_=_micros, type_=sa.BigInteger)

    def create_engine(self, source: sa.Engine | sa.URL) -> sa.Engine:
        """Return an engine with a write-ahead log, every commit on disk, and early write locks.

        Each transaction takes the write lock when it begins. If it took the lock later, after
        reading, it could fail with "database is locked" immediately, whatever the busy timeout.
        """
        engine = create_engine(source, {}, self.is_stale)
        seen = threading.Event()

        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            if not seen.is_set():
                _refuse_without_json(connection, engine.dialect.loaded_dbapi)
                with suppress(NoThreadError):  # then the next connection is checked
                    if not is_in_memory(engine.url):
                        _refuse_one_thread(connection, engine.dialect.loaded_dbapi)
                    seen.set()
            _settle(connection, engine.dialect.loaded_dbapi)
            Texts().read(connection, record)

        sa.event.listen(engine, "begin", _begin)
        return engine

    def findings(self, engine: sa.Engine, application: sa.Engine | None) -> list[Finding]:
        """Return findings about its version, its place and its journal.

        In memory, the only finding is that the database is in memory.
        """
        if is_in_memory(engine.url):
            return [sqlite_findings.IN_MEMORY]
        version: Any = engine.dialect.dbapi
        found = [
            sqlite_findings.of_version(version.sqlite_version_info),
            sqlite_findings.of_place(str(engine.url.database)),
            sqlite_findings.of_journal(engine),
        ]
        return [finding for finding in found if finding is not None]

    def unsafe_tables(self, engine: sa.Engine, tables: Sequence[sa.Table]) -> list[Finding]:
        return []

    def refusal(self, source: sa.Engine) -> Finding | None:
        return sqlite_findings.of_rollbacks(source)

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        driver: Any = connection.connection.dbapi_connection
        by_driver = driver.isolation_level is None or getattr(driver, "autocommit", None) is True
        return by_driver and not driver.in_transaction  # an app may emit BEGIN itself

    def keeps_to_snapshot(self, connection: sa.Connection) -> bool:
        return True

    def place(self, connection: sa.Connection) -> str:
        return f"the file {self.file(connection)}"

    def file(self, connection: sa.Connection) -> str:
        main = next(
            row.file
            for row in connection.exec_driver_sql("PRAGMA database_list")
            if row.name == "main"
        )
        return os.path.realpath(main) if main else ""

    def mark(self, connection: sa.Connection) -> Mark:
        return Savepoint(connection)

    def notifications(self, engine: sa.Engine) -> None:
        return None

    def prepare_claim(self, task: sa.Table, chosen: sa.Select[Any]) -> Any:
        """Return one UPDATE whose subquery picks the rows; SQLite has no other writer meanwhile."""
        return claim_in_one_statement(task, self.now, task.c.id.in_(chosen))

    def among(self, column: sa.ColumnElement[str], name: str = "among") -> sa.ColumnElement[bool]:
        return column.in_(
            sa.select(sa.func.json_each(sa.bindparam(name)).table_valued("value").c.value)
        )

    def bound(self, texts: Sequence[str]) -> Any:
        return json.dumps(texts)

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = sqlite.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={count: table.c[count] + insert.excluded[count] for count in counts},
        )

    def alone(self, connection: sa.Connection, name: str) -> AbstractContextManager[object]:
        return nullcontext()  # the transaction has had the write lock since it began

    def at_once(self, connection: sa.Connection) -> AbstractContextManager[object]:
        return nullcontext()  # a transaction that has begun has the only lock

    def is_locked(self, error: sa.exc.DBAPIError) -> bool:
        return False  # it has one writer, for whom everybody waits

    def is_deadlock(self, error: sa.exc.DBAPIError) -> bool:
        return False

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _code(error) in _RETRIED

    def is_stale(self, error: sa.exc.DBAPIError) -> bool:
        return _code(error) in _STALE

    def is_aborted(self, error: sa.exc.DBAPIError) -> bool:
        return False

    def is_read_only(self, error: sa.exc.DBAPIError) -> bool:
        return _code(error) == _READ_ONLY

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return any(
            words in str(error.orig)
            for words in ("no such table", "no such column", "has no column")
        )


def _code(error: sa.exc.DBAPIError) -> int:
    """Return SQLite's primary result code, or 0 without one."""
    return _primary(error.orig)


def _primary(error: object) -> int:
    """Return the primary result code of an error of the driver's, or 0 without one."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _refuse_without_json(connection: Any, module: Any) -> None:
    """Raise `ConfigurationError` if this SQLite lacks the functions that read a list of ids."""
    try:
        connection.execute("SELECT count(*) FROM json_each('[]')").close()
    except module.Error as error:
        if _primary(error) in _RETRIED | _STALE:  # which says nothing of the functions
            raise
        raise ConfigurationError(
            f"SQLite {module.sqlite_version} of this Python cannot read JSON ({error}), with which "
            "the queue names its tasks: use a Python with SQLite 3.38 or later, or one that was "
            "built with JSON1"
        ) from error


def _refuse_one_thread(connection: Any, module: Any) -> None:
    """Raise `ConfigurationError` if the connection only works in this thread.

    Raises `NoThreadError` if there can be no other thread now to try it.
    """
    refused: list[bool] = []

    def use() -> None:
        try:
            connection.cursor().close()
        except module.Error:
            refused.append(True)

    start_thread(use, name="taskqueue-check").join()
    if refused:
        raise ConfigurationError(
            "the application's function that connects to SQLite gives connections which only "
            "the thread that made them can use, and a "
            "dispatcher has several: pass check_same_thread=False to sqlite3.connect()"
        )


def _settle(connection: Any, module: Any) -> None:
    """Let only `_begin` begin transactions, whatever a listener has set."""
    if getattr(connection, "autocommit", -1) != -1:
        connection.autocommit = (
            True  # which ends the transaction that is always open in the mode before
        )
        connection.autocommit = -1  # as it is decided by isolation_level
    connection.isolation_level = None
    cursor = connection.cursor()
    # Not while another connection writes in another mode, perhaps the caller's own session; a later
    # connection then does it.
    with suppress(module.OperationalError):
        cursor.execute("PRAGMA busy_timeout=0")
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    if driver.in_transaction:  # a listener of all engines has begun one, which takes no lock
        driver.rollback()
    options = connection.get_execution_options()
    if options.get("taskqueue_reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    if options.get(BRIEF, False):
        connection.exec_driver_sql(f"PRAGMA busy_timeout={_BRIEFLY}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        if options.get(BRIEF, False):
            connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")


def is_in_memory(url: sa.URL) -> bool:
    """Return whether the database lives in this process only."""
    return url.get_backend_name() == "sqlite" and (
        url.database in (None, "", ":memory:")
        or "mode=memory" in str(url.database)
        or url.query.get("mode") == "memory"
    )
