"""Holds: places that stay taken because a handler still runs though its task's lease has ended.

A task that is leased takes a place of its key, of its queue's ``max_concurrent`` and in its batch.
If somebody ends its lease while its handler may run (the task is deleted, or given back at a stop;
its deadline passes and its thread does not stop; another dispatcher takes it over), a row here
takes that place instead, from within the same transaction. The row is removed when the attempt is
recorded, or together with the process it ran in. It lasts as long as the lease would have, and the
heartbeat of that process renews it like a lease; once it has run out, it no longer counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.states import Lease, State
from ...core.times import duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.lease_ends import is_held
from ..database.tables import Tables
from .attempts import WITHDRAWN
from .finish import Finish

_SOME = 1000
_COLUMNS = (
    "task_id",
    "lease_id",
    "queue",
    "lock_key",
    "lock_limit",
    "batch_id",
    "held_by",
    "held_until",
)


class Holds:
    """A store of holds, each of whose methods joins the transaction of its connection."""

    def __init__(self, tables: Tables, dialect: Dialect, finish: Finish) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._hold = tables.hold
        self._now = dialect.now
        self._has_lapsed = sa.not_(is_held(tables, dialect.now))
        self._finish = finish
        self._insert_missing = dialect.insert_missing(tables.hold)

    def take(
        self, connection: sa.Connection, leases: Collection[Lease], *, ended: bool = False
    ) -> set[Lease]:
        """Keep the places of tasks whose leases are about to be ended; return whose were kept.

        Their handlers may still run. The place of a lease that has run out is one that has run out
        too, and is found by `lapse`. With ``ended`` their batches wait for them too.
        """
        if not leases:
            return set()
        task = self._task
        mine = (
            sa.tuple_(task.c.id, task.c.lease_id).in_(sorted(leases)),
            is_state(task, State.LEASED),
        )
        batch = task.c.batch_id if ended else sa.null()
        place = (
            task.c.queue,
            task.c.lock_key,
            task.c.lock_limit,
            batch,
            task.c.held_by,
            task.c.due_at,
        )
        rows = sa.select(task.c.id, task.c.lease_id, *place).where(*mine).order_by(task.c.id)
        connection.execute(self._insert_missing.from_select(_COLUMNS, rows, include_defaults=False))
        found = connection.execute(
            sa.select(self._hold.c.task_id, self._hold.c.lease_id).where(self._are(leases))
        )
        return {(row.task_id, row.lease_id) for row in found}

    def renew(self, connection: sa.Connection, leases: Collection[Lease], lease: float) -> None:
        """Prolong the holds of attempts that continue without their leases.

        An attempt that has no hold, because its task was taken over, gets one.
        """
        until = self._now + duration_micros(lease)
        prolong = sa.update(self._hold).values(held_until=until)
        missing = [
            held
            for held in sorted(leases)
            if connection.execute(prolong.where(self._is(held))).rowcount == 0
        ]
        if not missing:
            return
        task, lost = self._task, self._attempt
        ended = (
            sa.tuple_(lost.c.task_id, lost.c.lease_id).in_(missing),
            lost.c.reason.in_(("crash", WITHDRAWN)),
        )
        place = (task.c.queue, task.c.lock_key, task.c.lock_limit, sa.null(), lost.c.held_by, until)
        rows = (
            sa.select(task.c.id, lost.c.lease_id, *place)
            .select_from(lost.join(task, task.c.id == lost.c.task_id))
            .where(*ended)
        )
        connection.execute(self._insert_missing.from_select(_COLUMNS, rows, include_defaults=False))

    def end(self, connection: sa.Connection, leases: Collection[Lease]) -> None:
        """Let tasks go that wait for the places of attempts that are over."""
        self._vacate(connection, self.remove(connection, leases))

    def end_of(self, connection: sa.Connection, held_by: str) -> None:
        """Let tasks go that wait for the places of a dispatcher that is gone with its attempts."""
        self._vacate(connection, self._remove(connection, self._hold.c.held_by == held_by))

    def lapsed(self, connection: sa.Connection) -> list[Lease]:
        """Return the leases of some holds that have run out."""
        hold = self._hold
        rows = connection.execute(
            sa.select(hold.c.task_id, hold.c.lease_id).where(self._has_lapsed).limit(_SOME)
        )
        return [(row.task_id, row.lease_id) for row in rows]

    def lapse(self, connection: sa.Connection, leases: Collection[Lease]) -> int:
        """Let tasks go that wait for the places of holds that have run out; return how many."""
        lapsed = self._remove(
            connection, sa.and_(self._are(leases), self._has_lapsed), unchanged=True
        )
        self._vacate(connection, lapsed)
        return len(lapsed)

    def remove(self, connection: sa.Connection, leases: Collection[Lease]) -> Sequence[sa.Row[Any]]:
        """Remove holds, and return the vacant places for the caller to handle."""
        return self._remove(connection, self._are(leases)) if leases else []

    def _are(self, leases: Collection[Lease]) -> sa.ColumnElement[bool]:
        return sa.tuple_(self._hold.c.task_id, self._hold.c.lease_id).in_(sorted(leases))

    def _is(self, lease: Lease) -> sa.ColumnElement[bool]:
        return sa.and_(self._hold.c.task_id == lease[0], self._hold.c.lease_id == lease[1])

    def _remove(
        self, connection: sa.Connection, which: sa.ColumnElement[bool], *, unchanged: bool = False
    ) -> Sequence[sa.Row[Any]]:
        """Remove holds and return them, each to one caller only.

        With ``unchanged`` only those are removed that have not changed since they were read. They
        are read without locks and removed by their key alone, so that changes that others have not
        committed yet do not have to be waited for.
        """
        hold = self._hold
        rows = connection.execute(
            sa.select(hold).where(which).order_by(hold.c.task_id, hold.c.lease_id)
        ).all()
        return [row for row in rows if self._is_removed(connection, row, unchanged)]

    def _is_removed(self, connection: sa.Connection, row: sa.Row[Any], unchanged: bool) -> bool:
        gone = sa.delete(self._hold).where(self._is((row.task_id, row.lease_id)))
        if unchanged:
            gone = gone.where(self._hold.c.held_until == row.held_until)
        return connection.execute(gone).rowcount == 1

    def _vacate(self, connection: sa.Connection, vacant: Sequence[sa.Row[Any]]) -> None:
        if vacant:
            self._finish.let_follow(connection, [], vacant)
