"""The log of attempts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ..core.outcome import Outcome
from ..core.record import Record
from ..core.states import State
from .dialects import Dialect
from .endings import Ending, Endings
from .prepared import Prepared, among_these
from .results import Result, alike, leased
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
        self._insert_alike = Prepared(_of_tasks(dialect, tables))

    def add(self, connection: sa.Connection, results: Sequence[Result], lost: Collection[str]) -> None:
        """Log attempts that have ended just now; those of the tasks in ``lost`` came too late.

        Of each task those before the last so many are forgotten. What the rows of the tasks say,
        because their leases were held to the end, need not be sent again.
        """
        together, others = alike([result for result in results if result.record.id not in lost])
        for some in together:
            outcome = some[0].outcome
            told = {"reason": outcome.reason, "status": outcome.status, "error": outcome.error}
            self._insert_alike.execute(connection, leased(some) | told)
        late = [result for result in results if result.record.id in lost]
        rows = [_row(one, one.outcome.reason) for one in others] + [_row(one, "late") for one in late]
        if rows:
            self._insert.execute_many(connection, rows)
        self._forget_first(connection, [result.record for result in results])

    def recorded(self, connection: sa.Connection, task_ids: Collection[str]) -> set[str]:
        """The leases of these tasks whose attempts are logged with what became of them."""
        attempt = self._attempt
        logged = sa.select(attempt.c.lease_id).where(attempt.c.task_id.in_(sorted(task_ids)), attempt.c.reason != "crash")
        return set(connection.scalars(logged))

    def crash(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        """Log that the attempts of tasks ended with the death of their process."""
        died = Outcome(State.LEASED, "crash", error="the lease ran out: the process died or was cut off while the task ran")
        self._insert.execute_many(connection, [_row(Result(record, died, 0.0), "crash") for record in records])
        self._forget_first(connection, records)
        self._endings.follow(connection, [Ending(record, State.LEASED, attempt="crash", failed=True) for record in records], "")

    def _forget_first(self, connection: sa.Connection, records: Sequence[Record]) -> None:
        many = [{"of": record.id, "last": record.attempts - self._keep} for record in records if record.attempts > self._keep]
        if many:
            connection.execute(self._forget, many)


def _of_tasks(dialect: Dialect, tables: Tables) -> sa.Insert:
    """An insert of the attempts of results that are alike, from the rows of their tasks."""
    task = tables.task
    told = {"reason": sa.String, "status": sa.Integer, "error": sa.Text}
    columns: dict[str, sa.ColumnElement[Any]] = {
        "task_id": task.c.id,
        "number": task.c.attempts,
        "lease_id": task.c.lease_id,
        "started_at": task.c.started_at,
        "finished_at": dialect.now,
        "held_by": task.c.held_by,
        **{name: sa.bindparam(name, type_=kind) for name, kind in told.items()},
    }
    rows = sa.select(*columns.values()).where(among_these(task.c.id), task.c.lease_id == sa.bindparam("lease"))
    return dialect.insert_missing(tables.attempt).from_select(list(columns), rows, include_defaults=False)


def _row(result: Result, reason: str) -> dict[str, Any]:
    record, outcome = result.record, result.outcome
    return {
        "task_id": record.id,
        "number": record.attempts,
        "lease_id": record.lease_id,
        "started_at": record.started_at,
        "held_by": record.held_by,
        "reason": reason,
        "status": outcome.status,
        "error": outcome.error,
        "reply_headers": result.reply_headers,
        "reply_body": result.reply_body,
    }
