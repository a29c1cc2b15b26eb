"""MariaDB and MySQL, with statements that both of them have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ....core.diagnosis.facts import Finding
from ....core.errors import TransientError
from ....core.states import Record, State, one_more
from ..prepared import Prepared
from . import mysql_findings
from .claims import taken
from .connections import create_engine, ping_idle
from .transactions import SNAPSHOTS, Mark, Savepoint, limit_mysql, limits

_RETRIED = {
    1020,
    1021,
    1040,
    1041,
    1114,
    1180,
    1203,
    1205,
    1206,
    1213,
    1226,
    1317,
    1969,
    3024,
    3101,
    3572,
}
"""Errors that pass.

Record changed, lock wait timeout, no wait, deadlock, a statement that took too long, too many
connections and other shortages.
"""
_STALE = {1036, 1047, 1053, 1290, 1792, 1836, 1874, 1927}
"""Errors after which only another connection can help.

A server, a table or a transaction that is read-only, a node without its cluster, a shutdown, a
connection that was killed.
"""

_LOCKED = {1205, 3572}
"""Lock wait timeout, by its setting or by NOWAIT."""
_DEADLOCK = 1213
_LOCK_WAIT = 1
_ALL_ROWS = 2**64 - 1
"""The number that stands for no limit, as when neither the server nor the app has set one."""

_UPGRADE_PATIENCE = 25
_TABLE_PATIENCE = 5

_CONNECT_ARGS: dict[str, object] = {"connect_timeout": 10, "read_timeout": 30, "write_timeout": 30}


class MySQL:
    """A dialect that picks rows with SKIP LOCKED, then updates them by primary key."""

    clock_is_local = False
    locks_by_writing = False
    sends_singly = True
    locks_what_it_copies = True
    locks_gaps = True
    inserts_what_it_updates = False
    in_marked: sa.ColumnElement[bool] | None = None

    @property
    def now(self) -> sa.ColumnElement[int]:
        # Not UNIX_TIMESTAMP(NOW(6)), which depends on the session's time zone and its clock
        # changes.
        return sa.literal_column(
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))", sa.BigInteger
        )

    def create_engine(self, source: sa.Engine | sa.URL) -> sa.Engine:
        """Return an engine with READ COMMITTED that waits only a second for a lock.

        The default level locks the gaps into which inserts go.
        """
        level = "READ COMMITTED"
        engine = create_engine(
            source,
            _CONNECT_ARGS,
            self.is_stale,
            isolation_level=level,
            pool_size=5,
            max_overflow=20,
            pool_recycle=3600,
        )
        sa.event.listen(engine, "connect", _settle)
        return limit_mysql(ping_idle(engine), _LOCK_WAIT)

    def findings(self, engine: sa.Engine, application: sa.Engine | None) -> list[Finding]:
        return []

    def unsafe_tables(self, engine: sa.Engine, tables: Sequence[sa.Table]) -> list[Finding]:
        return mysql_findings.of_tables(engine, tables)

    def refusal(self, source: sa.Engine) -> Finding | None:
        return None

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        driver: Any = connection.connection.dbapi_connection
        return bool(driver.get_autocommit())  # the server's answer to the last statement says so

    def keeps_to_snapshot(self, connection: sa.Connection) -> bool:
        # MariaDB since 11.6; before, and on MySQL, a change is made to what is there now.
        setting = connection.exec_driver_sql("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
        refuses = [row[1] for row in setting] == ["ON"]
        return refuses and connection.get_isolation_level() in SNAPSHOTS

    def place(self, connection: sa.Connection) -> str:
        database, host, port = connection.exec_driver_sql(
            "SELECT DATABASE(), @@hostname, @@port"
        ).one()
        return f"database {database}, on {host}:{port}"

    def file(self, connection: sa.Connection) -> str:
        return ""

    def mark(self, connection: sa.Connection) -> Mark:
        return Savepoint(connection)

    def notifications(self, engine: sa.Engine) -> None:
        return None

    def prepare_claim(self, task: sa.Table, chosen: sa.Select[Any]) -> Any:
        """Read and lock, then update, because there is no UPDATE … RETURNING that both have.

        Locked rows cannot change, so the result of the update need not be read again.
        """
        due = chosen.with_only_columns(*task.c, self.now.label("now"))
        pick = Prepared(due.with_for_update(skip_locked=True))
        update = Prepared(
            sa.update(task)
            .where(self.among(task.c.id))
            .values(taken(task, sa.bindparam("now", type_=sa.BigInteger)))
        )

        def claim(
            connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]
        ) -> list[Record]:
            rows = sorted(pick.execute(connection, which).all(), key=lambda row: row.id)
            if rows:
                update.execute(
                    connection,
                    {"among": self.bound([row.id for row in rows]), **how, "now": rows[0].now},
                )
            return sorted(
                (_taken(row, how) for row in rows), key=lambda record: (record.eta, record.id)
            )

        return claim

    def among(self, column: sa.ColumnElement[str], name: str = "among") -> sa.ColumnElement[bool]:
        return column.bool_op("IN")(
            sa.bindparam(name)
        )  # the drivers write a tuple as a list in parentheses

    def bound(self, texts: Sequence[str]) -> Any:
        return tuple(texts)

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        """Return an INSERT IGNORE.

        IGNORE also cuts and changes values that do not fit. Everything inserted with it has been
        checked, and its columns hold all of it.
        """
        return mysql.insert(table).prefix_with("IGNORE")

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update(
            {count: table.c[count] + insert.inserted[count] for count in counts}
        )

    @contextmanager
    def alone(self, connection: sa.Connection, name: str) -> Iterator[None]:
        """Hold a lock by name, because each statement that changes a table commits.

        If a table is in use, it is waited for in short turns, as on PostgreSQL.
        """
        database = hashlib.sha256(str(connection.engine.url.database).encode()).hexdigest()[:16]
        lock = f"{database}.{name}"[-64:]
        if not connection.scalar(sa.select(sa.func.get_lock(lock, _UPGRADE_PATIENCE))):
            raise TransientError(
                f"another process has been changing the tables for {_UPGRADE_PATIENCE} seconds"
            )
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_TABLE_PATIENCE}")
        try:
            yield
        finally:
            if not connection.invalidated:  # the lock of a lost connection is already released
                connection.exec_driver_sql(limits(_LOCK_WAIT))
                connection.execute(sa.select(sa.func.release_lock(lock)))

    @contextmanager
    def at_once(self, connection: sa.Connection) -> Iterator[None]:
        """Wait for no lock on MariaDB; MySQL has no shorter wait than one second."""
        if not getattr(connection.dialect, "is_mariadb", False):
            yield
            return
        connection.exec_driver_sql(limits(0))
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql(limits(_LOCK_WAIT))

    def is_locked(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in _LOCKED

    def is_deadlock(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) == _DEADLOCK

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in _RETRIED

    def is_stale(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in _STALE

    def is_aborted(self, error: sa.exc.DBAPIError) -> bool:
        return False

    def is_read_only(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in (1036, 1290, 1792, 1836)

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in (1054, 1146)


def _taken(row: sa.Row[Any], how: Mapping[str, Any]) -> Record:
    """Return a task as the claim leaves it."""
    record = Record._make(row[:-1])
    return record._replace(
        state=State.LEASED.value,
        lease_id=how["new_lease"],
        held_by=how["holder"],
        attempts=one_more(record.attempts),
        due_at=row.now + how["period"],
        started_at=row.now,
        first_tried_at=row.now if record.first_tried_at is None else record.first_tried_at,
    )


def _settle(connection: Any, _record: object) -> None:
    """Have texts of any language stored, and no row left out of what is read."""
    if connection.character_set_name() != "utf8mb4":
        connection.set_character_set("utf8mb4")
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION sql_select_limit = {_ALL_ROWS}")


def _number(error: sa.exc.DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
