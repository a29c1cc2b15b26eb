"""Failures: the latest attempts that failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from ...core.failures import REASONS, Failure
from ...core.states import State
from ..database.dialects import Dialect
from ..database.dialects.states import FAILED_ROWS, is_state
from ..database.tables import Tables

LATEST = 10_000
"""The number of failed attempts that are examined."""


class Failures:
    """A reader of the latest failed attempts."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def latest(self, connection: sa.Connection, limit: int = LATEST) -> Sequence[Failure]:
        """Return the latest failed attempts of tasks that still exist, the latest first.

        Each reason is a range of an index.
        """
        task, attempt = self._tables.task, self._tables.attempt
        columns = (
            attempt.c.task_id,
            attempt.c.number,
            attempt.c.reason,
            attempt.c.status,
            attempt.c.error,
            attempt.c.finished_at,
        )
        ranges = [
            sa.select(*columns)
            .where(attempt.c.reason == sa.literal_column(f"'{reason}'"), FAILED_ROWS)
            .order_by(attempt.c.finished_at.desc())
            .limit(limit)
            .subquery(reason)
            for reason in REASONS
        ]
        candidates = sa.union_all(*(sa.select(part) for part in ranges)).subquery("some")
        latest = (
            sa.select(candidates)
            .order_by(candidates.c.finished_at.desc())
            .limit(limit)
            .subquery("latest")
        )
        rows = sa.select(latest, task.c.queue, task.c.url, task.c.state, task.c.target).select_from(
            latest.join(task, task.c.id == latest.c.task_id)
        )
        return [
            Failure._make(row)
            for row in connection.execute(rows.order_by(latest.c.finished_at.desc()))
        ]


_HOUR = 3600 * 1_000_000
MOST_DEAD = 1000
_NEXT = 200
"""The number of tasks of a queue, in the order they are due, that are examined."""


class Diagnostics:
    """A reader of what keeps tasks from running; it is cheap, however many tasks there are."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._now = dialect.now

    def dead(self, connection: sa.Connection) -> Sequence[Failure]:
        """Return the last attempts of tasks that gave up in the last hour, the latest first.

        There are at most `MOST_DEAD`.
        """
        task = self._task
        columns = (
            task.c.id,
            task.c.attempts,
            task.c.last_reason,
            task.c.last_status,
            task.c.last_error,
            task.c.finished_at,
        )
        late = sa.and_(is_state(task, State.DEAD), task.c.finished_at > self._now - _HOUR)
        rows = sa.select(*columns, task.c.queue, task.c.url, task.c.state, task.c.target).where(
            late
        )
        return [
            Failure._make(row)
            for row in connection.execute(rows.order_by(task.c.finished_at.desc()).limit(MOST_DEAD))
        ]

    def next_places(
        self, connection: sa.Connection, queues: Collection[str]
    ) -> dict[tuple[str, str], int]:
        """Return the methods and URLs of the app's own that the next tasks of these queues go to.

        Each comes with the number of those tasks that go there.
        """
        task = self._task
        found: dict[tuple[str, str], int] = {}
        for queue in queues:
            of_queue = sa.and_(is_state(task, State.SCHEDULED), task.c.queue == queue)
            first = (
                sa.select(task.c.method, task.c.url, task.c.target)
                .where(of_queue)
                .order_by(task.c.priority, task.c.due_at)
                .limit(_NEXT)
            )
            for method, url, target in connection.execute(first):
                if target is None and url.startswith("/"):
                    found[method, url] = found.get((method, url), 0) + 1
        return found
