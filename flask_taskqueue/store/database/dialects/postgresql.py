"""PostgreSQL, with what psycopg and psycopg2 need beyond what SQLAlchemy does for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ....core.diagnosis.facts import Finding
from .claims import claim_in_one_statement
from .connections import create_engine, ping_idle
from .listen_notify import ListenNotify, driver_errors, is_direct
from .transactions import SNAPSHOTS, Mark, TransactionId, limit_postgresql


def settle_psycopg(connection: Any, _record: object) -> None:
    """Store texts of any language, and prepare statements only directly at the server.

    Behind a pooler, they would not stay where they were prepared.
    """
    if not is_direct(connection):
        connection.prepare_threshold = None
    if connection.info.parameter_status("client_encoding") != "UTF8":
        with connection.cursor() as cursor:
            cursor.execute("SET client_encoding TO 'UTF8'")
    connection.commit()


def settle_psycopg2(connection: Any, _record: object) -> None:
    """Store texts of any language, and read bytes as psycopg gives them."""
    from psycopg2 import BINARY, extensions

    def read(value: Any, cursor: Any) -> bytes | None:
        return None if value is None else bytes(BINARY(value, cursor))

    if connection.encoding != "UTF8":
        connection.set_client_encoding("UTF8")
    extensions.register_type(extensions.new_type(BINARY.values, "BYTEA", read), connection)


_RETRIED = {"40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "53400", "58030"}
"""Errors that pass.

Serialization failure, deadlock, lock not available, a statement that took too long, a full disk and
other shortages, a failing disk.
"""
_STALE = ("08", "57P", "25006", "25P03", "25P04", "26000", "42P05")
"""The beginnings of errors after which only another connection can help.

Connection lost, shutdowns and starts, a read-only transaction, a transaction that was ended for its
length, and prepared statements that the connection of another has.
"""

_LOCKED = "55P03"
_DEADLOCK = "40P01"
_LOCK_WAIT = 500
"""The longest wait for a lock, in milliseconds.

It is less than deadlock_timeout, so that in a deadlock with the app it is the queue that gives way.
"""
_NO_WAIT = 10

_TABLE_PATIENCE = 5

_CONNECT_ARGS: dict[str, object] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


_PREPARES = Finding(
    "warning",
    "the application reaches PostgreSQL by way of a pooler, and has psycopg prepare "
    "statements there: in PgBouncer's transaction mode "
    "they fail, with the tasks that are added in the session's transaction",
    "set SQLALCHEMY_ENGINE_OPTIONS = {'connect_args': {'prepare_threshold': None}}, or use "
    "PgBouncer 1.21 with max_prepared_statements",
    "databases#pgbouncer",
)


class PostgreSQL:
    """A dialect whose claims skip rows that another claim has locked, for many dispatchers."""

    clock_is_local = False
    locks_by_writing = False
    sends_singly = False
    locks_what_it_copies = False
    locks_gaps = False
    inserts_what_it_updates = True
    in_marked: sa.ColumnElement[bool] | None = TransactionId.IS_CURRENT

    @property
    def now(self) -> sa.ColumnElement[int]:
        # Constant within a statement, unlike clock_timestamp(), so that an index can be used.
        return sa.literal_column(
            "(extract(epoch from statement_timestamp()) * 1000000)::bigint", sa.BigInteger
        )

    def create_engine(self, source: sa.Engine | sa.URL) -> sa.Engine:
        """Return an engine with READ COMMITTED that waits briefly and notices a dead peer.

        It waits half a second for a lock, and notices within seconds that a peer is gone.
        """
        level = "READ COMMITTED"
        engine = create_engine(
            source,
            _CONNECT_ARGS,
            self.is_stale,
            isolation_level=level,
            pool_size=5,
            max_overflow=20,
        )
        sa.event.listen(
            engine,
            "connect",
            settle_psycopg if engine.dialect.driver == "psycopg" else settle_psycopg2,
        )
        return limit_postgresql(ping_idle(engine), _LOCK_WAIT)

    def findings(self, engine: sa.Engine, application: sa.Engine | None) -> list[Finding]:
        """Return a warning if the app prepares statements where they do not last."""
        if application is None or application.dialect.driver != "psycopg":
            return []
        try:
            with application.connect() as connection, driver_errors(connection):
                driver: Any = connection.connection.dbapi_connection
                prepares = driver.prepare_threshold is not None and not is_direct(driver)
        except sa.exc.SQLAlchemyError:
            return []
        return [_PREPARES] if prepares else []

    def unsafe_tables(self, engine: sa.Engine, tables: Sequence[sa.Table]) -> list[Finding]:
        return []

    def refusal(self, source: sa.Engine) -> Finding | None:
        return None

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        driver: Any = connection.connection.dbapi_connection
        return bool(driver.autocommit)  # set by whomever, this decides whether it sends BEGIN

    def keeps_to_snapshot(self, connection: sa.Connection) -> bool:
        return connection.get_isolation_level() in SNAPSHOTS

    def place(self, connection: sa.Connection) -> str:
        asked = (
            "SELECT current_database(), current_schema(), host(inet_server_addr()), "
            "inet_server_port()"
        )
        database, schema, host, port = connection.exec_driver_sql(asked).one()
        return f"database {database}, schema {schema}" + (f", on {host}:{port}" if host else "")

    def file(self, connection: sa.Connection) -> str:
        return ""

    def mark(self, connection: sa.Connection) -> Mark:
        return TransactionId(connection)

    def notifications(self, engine: sa.Engine) -> ListenNotify | None:
        return ListenNotify() if engine.dialect.driver == "psycopg" else None

    def prepare_claim(self, task: sa.Table, chosen: sa.Select[Any]) -> Any:
        """Return a claim that locks the rows in a CTE and joins them.

        ``WHERE id IN (SELECT … LIMIT … FOR UPDATE SKIP LOCKED)`` may run the subquery once per row
        and so take more than asked.
        """
        pick = chosen.with_for_update(skip_locked=True).cte("pick")
        return claim_in_one_statement(task, self.now, task.c.id == pick.c.id)

    def among(self, column: sa.ColumnElement[str], name: str = "among") -> sa.ColumnElement[bool]:
        return column == sa.func.any(sa.bindparam(name, type_=postgresql.ARRAY(sa.String)))

    def bound(self, texts: Sequence[str]) -> Any:
        # drivers take longer to write an array
        escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
        return '{"' + '","'.join(escaped) + '"}' if texts else "{}"

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = postgresql.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={count: table.c[count] + insert.excluded[count] for count in counts},
        )

    @contextmanager
    def alone(self, connection: sa.Connection, name: str) -> Iterator[None]:
        """Hold an advisory lock until the transaction ends.

        A table that is in use is then waited for in short turns, because everything that comes
        later waits behind us.
        """
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_TABLE_PATIENCE}s'")
        yield

    @contextmanager
    def at_once(self, connection: sa.Connection) -> Iterator[None]:
        """Wait for no lock until the transaction ends."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_NO_WAIT}ms'")
        yield

    def is_locked(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) == _LOCKED

    def is_deadlock(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) == _DEADLOCK

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) in _RETRIED

    def is_stale(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error).startswith(_STALE)

    def is_aborted(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) == "25P02"

    def is_read_only(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) == "25006"

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) in ("42703", "42P01")


def _state(error: sa.exc.DBAPIError) -> str:
    """Return the SQLSTATE, by the names that the drivers give it; empty without one."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
