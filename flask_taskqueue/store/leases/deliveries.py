"""The leases of deliveries: a forwarded task is leased by the request that delivers it.

All that ends such a lease is shared with the leases of dispatchers (see `Recording` and
`Completions`), but a task that is to be tried again is forwarded as before, because Cloud Tasks has
it still and delivers it again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...core.delivery.outcome import Death
from ...core.queues.poison import POISON, is_poison, poison
from ...core.states import Record, State, one_more
from ...core.times import SECOND, duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state, taken
from ..database.lease_ends import ends_at, is_lost
from ..database.tables import Tables
from ..database.task_tables import ended
from .attempts import AttemptLog
from .completions import Completions
from .finish import Finish, Transition
from .forwarding import QUIET
from .lanes import is_forwarded_from


class DeliveredLeases:
    """The statements of deliveries; each method joins the transaction of its connection."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        finish: Finish,
        log: AttemptLog,
        completions: Completions,
    ) -> None:
        self._task = tables.task
        self._queue = tables.queue
        self._now = dialect.now
        self._is_lost = is_lost(tables, dialect.now)
        self._ends_at = ends_at(tables)
        self._finish = finish
        self._log = log
        self._completions = completions

    def lease(
        self, connection: sa.Connection, task_id: str, *, lease_id: str, held_by: str, lease: float
    ) -> Record | None:
        """Lease a forwarded task for the delivery that has come; count its attempt.

        Returns None unless the task is forwarded, its queue is open and it has not expired.
        """
        task = self._task
        is_open = sa.exists().where(
            self._queue.c.name == task.c.queue, is_forwarded_from(self._queue)
        )
        still = sa.or_(task.c.expires_at.is_(None), task.c.expires_at >= self._now)
        leased = connection.execute(
            sa.update(task)
            .where(task.c.id == task_id, is_state(task, State.FORWARDED), still, is_open)
            .values(taken(task, self._now)),
            {"new_lease": lease_id, "holder": held_by, "period": duration_micros(lease)},
        )
        if leased.rowcount != 1:
            return None
        return self.look(connection, task_id)[0]

    def look(self, connection: sa.Connection, task_id: str) -> tuple[Record | None, float | None]:
        """Return the row of a task, and how many seconds its lease still holds, if it is leased.

        The row is None if the task was forgotten.
        """
        left = (self._ends_at - self._now).label("left")
        row = connection.execute(
            sa.select(self._task, left).where(self._task.c.id == task_id)
        ).one_or_none()
        if row is None:
            return None, None
        record = Record._make(row[:-1])
        is_leased = record.state == State.LEASED
        return record, max(float(row.left) / SECOND, 0.0) if is_leased else None

    def expire(self, connection: sa.Connection, record: Record) -> bool:
        """Cancel a forwarded task that has expired; return whether that was so."""
        task = self._task
        late = sa.and_(
            task.c.id == record.id, is_state(task, State.FORWARDED), task.c.expires_at < self._now
        )
        changes = ended(
            State.CANCELLED, self._now, last_reason="expired", lease_id=None, held_by=None
        )
        if connection.execute(sa.update(task).where(late).values(changes)).rowcount != 1:
            return False
        self._finish.follow(connection, [Transition(record, State.CANCELLED, expired=True)], "")
        return True

    def await_delivery(self, connection: sa.Connection, record: Record) -> bool:
        """Make a task forwarded again whose attempt has failed and is recorded.

        Cloud Tasks has it still, and delivers it again.
        """
        task = self._task
        mine = (
            task.c.id == record.id,
            task.c.lease_id == record.lease_id,
            is_state(task, State.SCHEDULED),
        )
        changes = {
            "state": State.FORWARDED.value,
            "due_at": task.c.due_at + duration_micros(QUIET),
            "lease_id": None,
            "held_by": None,
        }
        return connection.execute(sa.update(task).where(*mine).values(changes)).rowcount == 1

    def lost(self, connection: sa.Connection, queue: str, limit: int) -> list[Record]:
        """Return delivered tasks of a queue whose leases ran out: their processes died."""
        task = self._task
        rows = (
            sa.select(task)
            .where(
                is_state(task, State.LEASED),
                task.c.queue == queue,
                task.c.priority == 0,
                self._is_lost,
            )
            .order_by(task.c.due_at, task.c.id)
            .limit(limit)
        )
        return [Record._make(row) for row in connection.execute(rows)]

    def give_back(self, connection: sa.Connection, record: Record) -> None:
        """Make a task forwarded again whose attempt could not begin and does not count."""
        self._change(connection, record, {"attempts": record.attempts - 1, **self._forwarded()})

    def settle(self, connection: sa.Connection, record: Record, source: str) -> list[Death]:
        """End the lease of a delivered task that ran out, as a crash of its process.

        The task has succeeded if its handler has completed it, is dead if it has crashed too often,
        and is otherwise forwarded again. Nothing happens if somebody else has ended the lease.
        Returns the task if it is dead.
        """
        if self._lock_lost(connection, record) is None:
            return []
        if self._completions.finish(connection, record, source) is not None:
            return []
        self._log.crash(connection, [record], source)
        crashed = {"crashes": one_more(record.crashes), "last_reason": "crash"}
        if is_poison(record):
            error = POISON.format(crashes=one_more(record.crashes))
            changes = ended(State.DEAD, self._now, **crashed, last_error=error)
            self._change(connection, record, changes)
            self._finish.follow(connection, [Transition(record, State.DEAD)], source)
            return [(record, poison(record))]
        self._change(connection, record, {**crashed, **self._forwarded()})
        return []

    def _forwarded(self) -> dict[str, Any]:
        return {
            "state": State.FORWARDED.value,
            "due_at": self._now + duration_micros(QUIET),
            "lease_id": None,
            "held_by": None,
        }

    def _lock_lost(self, connection: sa.Connection, record: Record) -> str | None:
        task = self._task
        return connection.scalar(
            sa.select(task.c.id)
            .where(
                task.c.id == record.id,
                task.c.lease_id == record.lease_id,
                is_state(task, State.LEASED),
                self._is_lost,
            )
            .with_for_update(skip_locked=True)
        )

    def _change(self, connection: sa.Connection, record: Record, changes: dict[str, Any]) -> None:
        task = self._task
        mine = (
            task.c.id == record.id,
            task.c.lease_id == record.lease_id,
            is_state(task, State.LEASED),
        )
        connection.execute(sa.update(task).where(*mine).values(changes))
