"""A metrics snapshot of every queue, as of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ...core.metrics import FINISHED, MEASURES
from ...core.states import State
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.tables import Tables
from .queue_counts import QueueCounts, exact_counts, waits_since

LOOKED_AT = 10_000
"""The number of tasks that are not due whose earlier attempts are examined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics:
    """The metrics of one queue.

    With ``capped``, only the first `LOOKED_AT` of the tasks that are not due yet were examined to
    tell the retrying ones from the scheduled. ``oldest_due`` is in microseconds, 0 if nothing is
    due; ``measures`` are those of `Measures`.
    """

    queue: str
    counts: QueueCounts
    capped: bool
    oldest_due: int
    paused: bool
    rate: float | None
    measures: Mapping[str, int]

    @property
    def enqueued(self) -> int:
        """The number of tasks ever stored: those that have not ended, and those that have.

        Adding a task writes nothing for it. Rows that are deleted by hand make it fall.
        """
        ended = sum(self.measures[name] for name in FINISHED)
        return self.counts.unfinished + ended - self.measures["requeued"]


class Metrics:
    """A reader of the values of metrics."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._now = dialect.now

    def all(self, connection: sa.Connection) -> list[QueueMetrics]:
        """Return the metrics of every queue, by name.

        Values that are compared with each other come from one statement, so that sums hold.
        """
        return [
            self._of_queue(connection, row) for row in connection.execute(self._statement()).all()
        ]

    def _of_queue(self, connection: sa.Connection, row: sa.Row[Any]) -> QueueMetrics:
        counts = QueueCounts.of(row)
        later = counts.scheduled
        looked_at, tried = self._retrying(connection, row.name) if later else (0, 0)
        retrying = min(tried, later)
        is_pulled = row.mode == "pull"
        waits_since = None if is_pulled else row.waits_since  # for no dispatcher
        return QueueMetrics(
            queue=row.name,
            counts=replace(counts, retrying=retrying, scheduled=later - retrying),
            capped=looked_at >= LOOKED_AT,
            oldest_due=0 if waits_since is None else max(0, row.now - waits_since),
            paused=row.paused_at is not None or (row.rate == 0 and not is_pulled),
            rate=row.rate,
            measures={name: getattr(row, name) for name in MEASURES},
        )

    def cron(self, connection: sa.Connection) -> dict[str, float]:
        """Return when a task of each schedule's fire times last succeeded, in seconds since 1970.

        It is known as long as the task is kept.
        """
        task, fire = self._tables.task, self._tables.fire
        succeeded = sa.and_(task.c.id == fire.c.task_id, task.c.state == State.SUCCEEDED.value)
        last = sa.func.max(task.c.finished_at).label("last")
        rows = connection.execute(
            sa.select(fire.c.schedule, last)
            .select_from(fire.join(task, succeeded))
            .group_by(fire.c.schedule)
        )
        return {row.schedule: row.last / 1_000_000 for row in rows}

    def _statement(self) -> sa.Select[Any]:
        """Return the statement that has one row for each queue."""
        tables, task = self._tables, self._tables.task
        since = sa.func.min(sa.case((task.c.due_at <= self._now, waits_since(task))))
        return exact_counts(
            tables,
            self._now,
            _sums(tables.meter, MEASURES),
            _sums(tables.tally, ("succeeded", "dead", "cancelled")),
            scheduled=[since.label("waits_since")],
        )

    def _retrying(self, connection: sa.Connection, name: str) -> tuple[int, int]:
        """Return how many of the later tasks were examined, and how many were tried before."""
        task = self._tables.task
        later = sa.and_(
            is_state(task, State.SCHEDULED), task.c.queue == name, task.c.due_at > self._now
        )
        later_tasks = sa.select(task.c.attempts).where(later).limit(LOOKED_AT).subquery("later")
        tried = sa.func.coalesce(
            _whole(sa.func.sum(sa.case((later_tasks.c.attempts > 0, 1), else_=0))), 0
        )
        row = connection.execute(sa.select(sa.func.count(), tried).select_from(later_tasks)).one()
        return row[0], row[1]


def _sums(table: sa.Table, names: tuple[str, ...]) -> sa.Subquery:
    columns = [_whole(sa.func.sum(table.c[name])).label(name) for name in names]
    return sa.select(table.c.queue, *columns).group_by(table.c.queue).subquery(f"{table.name}_sums")


def _whole(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(column, sa.BigInteger)
