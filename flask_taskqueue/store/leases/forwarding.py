"""Forwarding: tasks that are handed over to Cloud Tasks, and what becomes of them there.

A task is ``forwarded`` from the moment a forwarder takes it, before Cloud Tasks knows it: so its
first delivery finds it however soon it comes. While it is being handed over it has the lease of its
forwarder (``held_by``); if that dies, another hands it over again, under the same name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.settings.queue import CLOUDTASKS
from ...core.states import Lease, Record, State
from ...core.tasks.forwarded import HORIZON
from ...core.times import duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.tables import Tables
from ..database.task_tables import ended
from .finish import Finish, Transition
from .lanes import is_forwarded_from

QUIET = 900.0
"""The seconds after its time for which a forwarded task may be silent before it is asked after."""
_SOME = 500


class Forwarding:
    """The statements of handing over; each method joins the transaction of its connection."""

    def __init__(self, tables: Tables, dialect: Dialect, finish: Finish) -> None:
        self._task = tables.task
        self._queue = tables.queue
        self._now = dialect.now
        self._finish = finish

    def take(
        self,
        connection: sa.Connection,
        queue: str,
        limit: int,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
    ) -> list[Record]:
        """Make up to ``limit`` tasks of an open queue forwarded, to be handed over by the caller.

        Their ``forwarded_for`` is the time for which Cloud Tasks is to have them. Tasks that
        another forwarder has taken and not handed over in time are among them, unchanged.
        """
        task = self._task
        late = self._select(queue, limit, State.FORWARDED, task.c.held_by.is_not(None))
        ids = list(connection.scalars(late.where(task.c.due_at <= self._now)))
        again = self._hold(connection, ids, State.FORWARDED, lease_id, held_by, lease)
        near = task.c.due_at <= self._now + duration_micros(HORIZON.total_seconds())
        fresh = self._select(queue, limit - len(again), State.SCHEDULED, near)
        ids = list(connection.scalars(fresh)) if limit > len(again) else []
        return again + self._hold(
            connection,
            ids,
            State.SCHEDULED,
            lease_id,
            held_by,
            lease,
            # MySQL assigns in this order, so due_at is still the time asked for.
            forwarded_for=task.c.due_at,
        )

    def _select(
        self, queue: str, limit: int, state: State, *only: sa.ColumnElement[bool]
    ) -> sa.Select[Any]:
        task = self._task
        is_open = sa.exists().where(self._queue.c.name == queue, is_forwarded_from(self._queue))
        return (
            sa.select(task.c.id)
            .where(
                is_state(task, state), task.c.queue == queue, task.c.priority == 0, is_open, *only
            )
            .order_by(task.c.due_at, task.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )

    def _hold(
        self,
        connection: sa.Connection,
        ids: Sequence[str],
        state: State,
        lease_id: str,
        held_by: str,
        lease: float,
        **changes: Any,
    ) -> list[Record]:
        if not ids:
            return []
        task = self._task
        changes |= {
            "state": State.FORWARDED.value,
            "lease_id": lease_id,
            "held_by": held_by,
            "due_at": self._now + duration_micros(lease),
        }
        ordered = [(task.c[name], value) for name, value in changes.items()]
        connection.execute(
            sa.update(task)
            .where(task.c.id.in_(ids), is_state(task, state))
            .ordered_values(*ordered)
        )
        mine = sa.and_(task.c.id.in_(ids), task.c.lease_id == lease_id)
        rows = connection.execute(sa.select(task).where(mine).order_by(task.c.id))
        return [Record._make(row) for row in rows]

    def handed_over(self, connection: sa.Connection, leases: Collection[Lease]) -> int:
        """Note that Cloud Tasks has tasks; return how many had not been delivered already."""
        task = self._task
        later = sa.case((task.c.forwarded_for > self._now, task.c.forwarded_for), else_=self._now)
        return self._put_down(
            connection,
            leases,
            {"due_at": later + duration_micros(QUIET), "last_error": None},
        )

    def put_back(self, connection: sa.Connection, leases: Collection[Lease], error: str) -> int:
        """Schedule tasks again that could not be handed over, for the same time as before."""
        return self._put_down(
            connection,
            leases,
            {
                "state": State.SCHEDULED.value,
                "due_at": self._task.c.forwarded_for,
                "last_error": error,
            },
        )

    def refuse(self, connection: sa.Connection, record: Record, error: str) -> bool:
        """End a task as dead that Cloud Tasks will not take; return whether it was still ours."""
        changes = ended(State.DEAD, self._now, last_reason="permanent", last_error=error)
        if not self._put_down(connection, [record.lease], changes):
            return False
        self._finish.follow(connection, [Transition(record, State.DEAD)], record.held_by or "")
        return True

    def _put_down(
        self, connection: sa.Connection, leases: Collection[Lease], changes: dict[str, Any]
    ) -> int:
        """Change tasks that are being handed over by the caller, and end its leases on them."""
        if not leases:
            return 0
        task = self._task
        mine = sa.tuple_(task.c.id, task.c.lease_id).in_(sorted(leases))
        return connection.execute(
            sa.update(task)
            .where(mine, is_state(task, State.FORWARDED))
            .values(lease_id=None, held_by=None, **changes)
        ).rowcount

    def silent(self, connection: sa.Connection, queue: str, limit: int) -> list[Record]:
        """Return forwarded tasks that should have been delivered, each to one caller at a time."""
        task = self._task
        found = self._select(queue, limit, State.FORWARDED, task.c.held_by.is_(None))
        ids = list(connection.scalars(found.where(task.c.due_at <= self._now)))
        if not ids:
            return []
        connection.execute(
            sa.update(task)
            .where(task.c.id.in_(ids), is_state(task, State.FORWARDED))
            .values(due_at=self._now + duration_micros(QUIET))
        )
        rows = sa.select(task).where(task.c.id.in_(ids)).order_by(task.c.id)
        return [Record._make(row) for row in connection.execute(rows)]

    def give_up(self, connection: sa.Connection, record: Record, error: str) -> bool:
        """End a silent task as dead that Cloud Tasks does not know any more.

        Returns whether it was still silent.
        """
        task = self._task
        mine = (
            task.c.id == record.id,
            task.c.forwarded_for == record.forwarded_for,
            task.c.attempts == record.attempts,
            task.c.held_by.is_(None),
            is_state(task, State.FORWARDED),
        )
        changes = ended(State.DEAD, self._now, last_reason="permanent", last_error=error)
        if connection.execute(sa.update(task).where(*mine).values(changes)).rowcount != 1:
            return False
        self._finish.follow(connection, [Transition(record, State.DEAD)], "")
        return True

    def take_back(self, connection: sa.Connection) -> int:
        """Schedule some forwarded tasks again whose queue has no engine any more; return how many.

        Usually this is one look at an empty range of an index.
        """
        task, queue = self._task, self._queue
        engines = sa.select(queue.c.name).where(queue.c.mode == CLOUDTASKS)
        left = (is_state(task, State.FORWARDED), task.c.queue.not_in(engines))
        ids = list(connection.scalars(sa.select(task.c.id).where(*left).limit(_SOME)))
        if not ids:
            return 0
        changes = {
            "state": State.SCHEDULED.value,
            "due_at": sa.func.coalesce(task.c.forwarded_for, self._now),
            **dict.fromkeys(("lease_id", "held_by", "forwarded_for")),
        }
        return connection.execute(
            sa.update(task)
            .where(task.c.id.in_(ids), is_state(task, State.FORWARDED))
            .ordered_values(*((task.c[name], value) for name, value in changes.items()))
        ).rowcount

    def withdrawn(self, connection: sa.Connection, queue: str, limit: int) -> list[Record]:
        """Return tasks of a queue that were cancelled and that Cloud Tasks may still have.

        Those that were cancelled in the last day are looked at, along the index of ended tasks.
        """
        task = self._task
        rows = (
            sa.select(task)
            .where(
                is_state(task, State.CANCELLED),
                task.c.finished_at > self._now - duration_micros(86_400.0),
                task.c.queue == queue,
                task.c.forwarded_for.is_not(None),
            )
            .order_by(task.c.finished_at)
            .limit(limit)
        )
        return [Record._make(row) for row in connection.execute(rows)]

    def deleted_there(self, connection: sa.Connection, ids: Collection[str]) -> None:
        """Note that Cloud Tasks does not have these cancelled tasks any more."""
        task = self._task
        gone = (task.c.id.in_(sorted(ids)), is_state(task, State.CANCELLED))
        if ids:
            connection.execute(sa.update(task).where(*gone).values(forwarded_for=None))
