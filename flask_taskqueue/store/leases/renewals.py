"""Renewals: leases that are prolonged beside their tasks, whose rows stay as they are.

A row that a transaction of the app has locked cannot be changed before that ends. One whose task
has a unique key could be, but a transaction that then replaces the task, such as the one of its own
handler, would be refused under REPEATABLE READ and SERIALIZABLE, because the row has changed since
the transaction began.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ...core.states import Lease
from ...core.times import duration_micros
from ..database.dialects import Dialect
from ..database.tables import Tables


class Renewals:
    """A store of renewals; each method joins the transaction of the connection it is given.

    While a renewal lasts, nobody takes its task over.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._renewal = tables.renewal
        self._task = tables.task
        self._now = dialect.now
        self._insert = dialect.insert_missing(tables.renewal)

    def note(self, connection: sa.Connection, leases: Collection[Lease], lease: float) -> None:
        """Prolong leases, given as (task id, lease id), by a number of seconds from now."""
        if not leases:
            return
        until = self._now + duration_micros(lease)
        mine = self._are(leases)
        known = connection.execute(sa.update(self._renewal).where(mine).values(until=until))
        if known.rowcount == len(leases):
            return
        for task_id, lease_id in sorted(set(leases) - self._noted(connection, mine)):
            connection.execute(self._insert.values(task_id=task_id, lease_id=lease_id, until=until))

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

    def _noted(
        self, connection: sa.Connection, which: sa.ColumnElement[bool]
    ) -> set[tuple[str, str]]:
        renewal = self._renewal
        rows = connection.execute(sa.select(renewal.c.task_id, renewal.c.lease_id).where(which))
        return {(row.task_id, row.lease_id) for row in rows}

    def _are(self, leases: Collection[tuple[str, str]]) -> sa.ColumnElement[bool]:
        """Return whether a renewal is of one of these leases, which the index finds."""
        renewal, pairs = self._renewal, sorted(leases)
        return sa.and_(
            renewal.c.task_id.in_([task_id for task_id, _ in pairs]),
            sa.tuple_(renewal.c.task_id, renewal.c.lease_id).in_(pairs),
        )
