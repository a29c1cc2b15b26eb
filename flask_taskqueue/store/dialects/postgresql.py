"""PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ...core.finding import Finding
from ...core.record import Record
from ..prepared import Prepared
from .claims import candidates, taken
from .idle import ping_idle
from .marks import Mark, TransactionId

_RETRIED = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"}
"""Serialization failure, deadlock, lock not available, shutdowns, too many connections."""

_LISTEN_FOR = 1.0
_TABLE_PATIENCE = 5

_CONNECT_ARGS: dict[str, object] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class PostgreSQL:
    """Claims skip rows that another claim has locked; any number of dispatchers."""

    clock_is_local = False
    locks_by_writing = False
    sends_singly = False

    @property
    def now(self) -> sa.ColumnElement[int]:
        # Stable within a statement, unlike clock_timestamp(), so that an index can be used.
        return sa.literal_column("(extract(epoch from statement_timestamp()) * 1000000)::bigint", sa.BigInteger)

    def create_engine(self, url: sa.URL, connect_args: dict[str, object]) -> sa.Engine:
        """READ COMMITTED, and a dead peer is noticed within seconds."""
        engine = sa.create_engine(
            url,
            connect_args=_CONNECT_ARGS | connect_args,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=5,
            max_overflow=20,
        )
        if engine.dialect.driver == "psycopg2":
            sa.event.listen(engine, "connect", _read_bytes)
        return ping_idle(engine)

    def findings(self, engine: sa.Engine) -> list[Finding]:
        return []

    def refusal(self, source: sa.Engine) -> Finding | None:
        return None

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        return connection.get_isolation_level() == "AUTOCOMMIT"

    def mark(self, connection: sa.Connection) -> Mark:
        return TransactionId(connection)

    def has_notices(self, engine: sa.Engine) -> bool:
        return engine.dialect.driver == "psycopg"

    def notify(self, connection: sa.Connection, channel: str) -> None:
        connection.execute(sa.select(sa.func.pg_notify(channel, "")))

    def listen(self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event) -> None:
        connection.exec_driver_sql(f'LISTEN "{channel}"')
        wake()  # what was added before somebody listened
        driver: Any = connection.connection.dbapi_connection
        module: Any = connection.dialect.dbapi
        while not closed.is_set():
            try:
                for _ in driver.notifies(timeout=_LISTEN_FOR, stop_after=1):
                    wake()
            except module.Error as error:
                raise sa.exc.DBAPIError("LISTEN", {}, error) from error

    def prepare_claim(self, task: sa.Table, *only: sa.ColumnElement[bool]) -> Any:
        """The rows are locked in a CTE and joined.

        ``WHERE id IN (SELECT … LIMIT … FOR UPDATE SKIP LOCKED)`` may run the subquery once per
        row and so take more than asked.
        """
        pick = candidates(task, self.now, *only).with_for_update(skip_locked=True).cte("pick")
        statement = sa.update(task).where(task.c.id == pick.c.id).values(taken(task, self.now)).returning(*task.c)

        prepared = Prepared(statement)

        def claim(connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]) -> list[Record]:
            rows = prepared.execute(connection, {**which, **how}).all()
            return sorted(map(Record._make, rows), key=lambda record: (record.eta, record.id))

        return claim

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = postgresql.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={one: table.c[one] + insert.excluded[one] for one in counts}
        )

    @contextmanager
    def alone(self, connection: sa.Connection, name: str) -> Iterator[None]:
        """Until the transaction ends. Then a table that is in use is waited for in short turns, for what comes later waits behind us."""
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_TABLE_PATIENCE}s'")
        yield

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) in _RETRIED

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return _state(error) in ("42703", "42P01")


def _state(error: sa.exc.DBAPIError) -> str | None:
    """The SQLSTATE, by the names that the drivers give it."""
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _read_bytes(connection: Any, _record: object) -> None:
    """Have psycopg2 give bytes for bytea, as psycopg does."""
    from psycopg2 import BINARY, extensions

    def read(value: Any, cursor: Any) -> bytes | None:
        return None if value is None else bytes(BINARY(value, cursor))

    extensions.register_type(extensions.new_type(BINARY.values, "BYTEA", read), connection)
