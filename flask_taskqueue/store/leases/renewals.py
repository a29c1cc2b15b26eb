"""Renewals: leases that are prolonged beside their tasks, whose rows an app has locked.

Such a row cannot be changed before the app's transaction ends, so ``due_at`` may pass although the
task runs. While a renewal lasts, nobody takes the task over. Once the row is free, the heartbeat
prolongs the lease there again.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ...core.clock import duration_micros
from ..database.dialects import Dialect
from ..database.tables import Tables


class Renewals:
    """A store of renewals; each method joins the transaction of the connection it is given."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._renewal = tables.renewal
        self._task = tables.task
        self._now = dialect.now
        self._insert = dialect.insert_missing(tables.renewal)

    def note(
        self, connection: sa.Connection, leases: Collection[tuple[str, str]], lease: float
    ) -> None:
        """Prolong leases, given as (task id, lease id), by a number of seconds from now."""
        until = self._now + duration_micros(lease)
        for task_id, lease_id in sorted(leases):
            mine = sa.and_(self._renewal.c.task_id == task_id, self._renewal.c.lease_id == lease_id)
            if not connection.execute(
                sa.update(self._renewal).where(mine).values(until=until)
            ).rowcount:
                connection.execute(
                    self._insert.values(task_id=task_id, lease_id=lease_id, until=until)
                )

    def drop(self, connection: sa.Connection, held_by: str) -> None:
        """Forget the renewals of a dispatcher that is known to be dead."""
        task, renewal = self._task, self._renewal
        rows = sa.select(renewal.c.task_id, renewal.c.lease_id).join_from(
            renewal, task, task.c.id == renewal.c.task_id
        )
        for task_id, lease_id in connection.execute(rows.where(task.c.held_by == held_by)).all():
            connection.execute(
                sa.delete(renewal).where(
                    renewal.c.task_id == task_id, renewal.c.lease_id == lease_id
                )
            )

    def prune(self, connection: sa.Connection) -> int:
        """Forget the renewals that have run out; return how many."""
        return connection.execute(
            sa.delete(self._renewal).where(self._renewal.c.until < self._now)
        ).rowcount


def is_lost(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether the lease of a leased task has run out."""
    return sa.and_(tables.task.c.due_at <= now, ~is_renewed(tables, now))


def is_renewed(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether a task's lease is prolonged beside the task."""
    task, renewal = tables.task, tables.renewal
    mine = (
        renewal.c.task_id == task.c.id,
        renewal.c.lease_id == task.c.lease_id,
        renewal.c.until > now,
    )
    return sa.exists().where(*mine).correlate(task)
