"""MariaDB and MySQL, by the statements that both have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from ...core.errors import TransientError
from ...core.finding import Finding
from ...core.record import Record
from ...core.states import State
from ..prepared import TOGETHER, Prepared, among_these, these
from .claims import candidates, taken
from .idle import ping_idle
from .marks import Mark, Savepoint

_RETRIED = {1020, 1040, 1205, 1213}
"""Record changed, too many connections, lock wait timeout, deadlock."""

_UPGRADE_PATIENCE = 25
_TABLE_PATIENCE = 5

_LOCK_PATIENCE = 20
_CONNECT_ARGS: dict[str, object] = {
    "connect_timeout": 10,
    "read_timeout": 30,
    "write_timeout": 30,
    # Before we give a connection up, so that no statement waits on at the server for locks that nobody wants any more.
    "init_command": f"SET SESSION lock_wait_timeout = {_LOCK_PATIENCE}, innodb_lock_wait_timeout = {_LOCK_PATIENCE}",
}


class MySQL:
    """Rows are picked with SKIP LOCKED, then updated by primary key, in one transaction."""

    clock_is_local = False
    locks_by_writing = False
    sends_singly = True

    @property
    def now(self) -> sa.ColumnElement[int]:
        # Not UNIX_TIMESTAMP(NOW(6)): that goes through the session's time zone and its clock changes.
        return sa.literal_column("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))", sa.BigInteger)

    def create_engine(self, url: sa.URL, connect_args: dict[str, object]) -> sa.Engine:
        """READ COMMITTED: the default level locks the gaps that inserts go to."""
        engine = sa.create_engine(
            url,
            connect_args=_CONNECT_ARGS | connect_args,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=5,
            max_overflow=20,
            pool_recycle=3600,
        )
        return ping_idle(engine)

    def findings(self, engine: sa.Engine) -> list[Finding]:
        return []

    def refusal(self, source: sa.Engine) -> Finding | None:
        return None

    def commits_by_itself(self, connection: sa.Connection) -> bool:
        return bool(connection.exec_driver_sql("SELECT @@autocommit").scalar_one())

    def mark(self, connection: sa.Connection) -> Mark:
        return Savepoint(connection)

    def has_notices(self, engine: sa.Engine) -> bool:
        return False

    def notify(self, connection: sa.Connection, channel: str) -> None:
        raise NotImplementedError

    def listen(self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event) -> None:
        raise NotImplementedError

    def prepare_claim(self, task: sa.Table, *only: sa.ColumnElement[bool]) -> Any:
        """Read and lock, then update: there is no UPDATE … RETURNING that both have.

        What is locked cannot change, so what the update makes of it need not be read again.
        """
        due = candidates(task, self.now, *only).with_only_columns(*task.c, self.now.label("now"))
        pick = Prepared(due.with_for_update(skip_locked=True))
        update = Prepared(sa.update(task).where(among_these(task.c.id)).values(taken(task, sa.bindparam("now", type_=sa.BigInteger))))

        def claim(connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]) -> list[Record]:
            rows = sorted(pick.execute(connection, which).all(), key=lambda row: row.id)
            for start in range(0, len(rows), TOGETHER):
                ids = [row.id for row in rows[start : start + TOGETHER]]
                update.execute(connection, {**these(ids), **how, "now": rows[0].now})
            return sorted((_taken(row, how) for row in rows), key=lambda record: (record.eta, record.id))

        return claim

    def insert_missing(self, table: sa.Table) -> sa.Insert:
        return mysql.insert(table).prefix_with("IGNORE")

    def add_up(self, table: sa.Table, counts: Sequence[str]) -> sa.Insert:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({one: table.c[one] + insert.inserted[one] for one in counts})

    @contextmanager
    def alone(self, connection: sa.Connection, name: str) -> Iterator[None]:
        """A lock by name, for each statement that changes a table commits. One in use is waited for in short turns, as on PostgreSQL."""
        lock = f"{hashlib.sha256(str(connection.engine.url.database).encode()).hexdigest()[:16]}.{name}"[-64:]
        if not connection.scalar(sa.select(sa.func.get_lock(lock, _UPGRADE_PATIENCE))):
            raise TransientError(f"another process has been changing the tables for {_UPGRADE_PATIENCE} seconds")
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_TABLE_PATIENCE}")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_LOCK_PATIENCE}")
            connection.execute(sa.select(sa.func.release_lock(lock)))

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in _RETRIED

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in (1054, 1146)


def _taken(row: sa.Row[Any], how: Mapping[str, Any]) -> Record:
    """A task as the claim leaves it."""
    record = Record._make(row[:-1])
    return record._replace(
        state=State.LEASED.value,
        lease_id=how["new_lease"],
        held_by=how["holder"],
        attempts=record.attempts + 1,
        due_at=row.now + how["period"],
        started_at=row.now,
        first_tried_at=row.now if record.first_tried_at is None else record.first_tried_at,
    )


def _number(error: sa.exc.DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
