"""Failures: the latest attempts that failed."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..core.failures import REASONS, Failure
from .dialects.states import FAILED_ROWS
from .tables import Tables

LATEST = 10_000
"""How many failed attempts are looked at."""


class Failures:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def latest(self, connection: sa.Connection, limit: int = LATEST) -> Sequence[Failure]:
        """The latest failed attempts of tasks that are still there, the latest first; a range of an index for each reason."""
        task, attempt = self._tables.task, self._tables.attempt
        columns = (attempt.c.task_id, attempt.c.number, attempt.c.reason, attempt.c.status, attempt.c.error, attempt.c.finished_at)
        ranges = [
            sa.select(*columns)
            .where(attempt.c.reason == sa.literal_column(f"'{reason}'"), FAILED_ROWS)
            .order_by(attempt.c.finished_at.desc())
            .limit(limit)
            .subquery(reason)
            for reason in REASONS
        ]
        some = sa.union_all(*(sa.select(one) for one in ranges)).subquery("some")
        latest = sa.select(some).order_by(some.c.finished_at.desc()).limit(limit).subquery("latest")
        rows = sa.select(latest, task.c.queue, task.c.url, task.c.state, task.c.target).select_from(
            latest.join(task, task.c.id == latest.c.task_id)
        )
        return [Failure._make(row) for row in connection.execute(rows.order_by(latest.c.finished_at.desc()))]
