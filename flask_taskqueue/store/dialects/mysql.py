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
from .claims import candidates, taken

_RETRIED = {1020, 1040, 1205, 1213}
"""Record changed, too many connections, lock wait timeout, deadlock."""

_UPGRADE_PATIENCE = 25
_TABLE_PATIENCE = 5

_CONNECT_ARGS: dict[str, object] = {"connect_timeout": 10, "read_timeout": 30, "write_timeout": 30}


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
        return sa.create_engine(
            url,
            connect_args=_CONNECT_ARGS | connect_args,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            pool_size=5,
            max_overflow=20,
            pool_recycle=3600,
        )

    def findings(self, engine: sa.Engine) -> list[Finding]:
        return []

    def refusal(self, source: sa.Engine) -> Finding | None:
        return None

    def has_notices(self, engine: sa.Engine) -> bool:
        return False

    def notify(self, connection: sa.Connection, channel: str) -> None:
        raise NotImplementedError

    def listen(self, connection: sa.Connection, channel: str, wake: Callable[[], object], closed: Event) -> None:
        raise NotImplementedError

    def prepare_claim(self, task: sa.Table) -> Any:
        """Pick and lock, update, read: there is no UPDATE … RETURNING that both have."""
        pick = candidates(task, self.now).with_for_update(skip_locked=True)
        chosen = task.c.id.in_(sa.bindparam("ids", expanding=True))
        update = sa.update(task).where(chosen).values(taken(task, self.now))
        read = sa.select(task).where(chosen).order_by(task.c.eta, task.c.id)

        def claim(connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]) -> list[Record]:
            ids = sorted(connection.scalars(pick, which))
            if not ids:
                return []
            connection.execute(update, {"ids": ids, **how})
            return [Record._make(row) for row in connection.execute(read, {"ids": ids})]

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
            connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")
            connection.execute(sa.select(sa.func.release_lock(lock)))

    def is_transient(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in _RETRIED

    def is_missing(self, error: sa.exc.DBAPIError) -> bool:
        return _number(error) in (1054, 1146)


def _number(error: sa.exc.DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
