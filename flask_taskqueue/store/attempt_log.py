"""The log of attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..core.record import Record
from ..core.states import State
from .dialects import Dialect
from .endings import Ending, Endings
from .prepared import Prepared
from .tables import Tables


class AttemptLog:
    """Each attempt once: an insert that is repeated, because a commit was in doubt, changes nothing."""

    def __init__(self, tables: Tables, dialect: Dialect, endings: Endings, keep: float) -> None:
        self._keep = keep
        self._endings = endings
        self._attempt = tables.attempt
        columns: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in tables.attempt.c}
        insert = dialect.insert_missing(tables.attempt).values(columns | {"finished_at": dialect.now})
        past = sa.and_(tables.attempt.c.task_id == sa.bindparam("of"), tables.attempt.c.number <= sa.bindparam("last"))
        self._forget = sa.delete(tables.attempt).where(past)
        self._insert = Prepared(insert, rows_in_one=dialect.sends_singly)

    def add(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log attempts that have ended just now, and of each task forget those before the last so many."""
        self._insert.execute_many(connection, rows)
        many = [{"of": row["task_id"], "last": row["number"] - self._keep} for row in rows if row["number"] > self._keep]
        if many:
            connection.execute(self._forget, many)

    def recorded(self, connection: sa.Connection, task_ids: Collection[str]) -> set[str]:
        """The leases of these tasks whose attempts are logged with what became of them."""
        attempt = self._attempt
        logged = sa.select(attempt.c.lease_id).where(attempt.c.task_id.in_(sorted(task_ids)), attempt.c.reason != "crash")
        return set(connection.scalars(logged))

    def crash(self, connection: sa.Connection, record: Record) -> None:
        """Log that the attempt of a task ended with the death of its process."""
        crash = {
            "task_id": record.id,
            "number": record.attempts,
            "lease_id": record.lease_id,
            "started_at": record.started_at,
            "held_by": record.held_by,
            "reason": "crash",
            "status": None,
            "error": "the lease ran out: the process died or was cut off while the task ran",
            "reply_headers": None,
            "reply_body": None,
        }
        self.add(connection, [crash])
        self._endings.follow(connection, [Ending(record, State.LEASED, attempt="crash", failed=True)], "")
