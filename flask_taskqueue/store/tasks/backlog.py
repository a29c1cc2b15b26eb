"""The backlog: tasks that have not ended, counted up to a cap so that counting is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ...core.settings.queue import CLOUDTASKS
from ...core.states import State
from ..counters.queue_counts import CAP, QueueCounts, waits_since
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state, waits_for_key
from ..database.lease_ends import is_lost
from ..database.prepared import Prepared
from ..database.tables import Tables
from ..leases.lanes import first_of_lane, priority_steps

_OLDEST = 1_000
"""The number of due tasks of a lane, the first to be due, among which the oldest is sought."""


@dataclass(frozen=True, slots=True)
class LiveLane:
    """A queue's tasks of one priority: whether some are leased, and when the first is due."""

    queue: str
    priority: int
    now: int = field(repr=False)
    due_at: int | None
    leased: bool


class Backlog:
    """A counter of the tasks that have not ended, which is cheap whatever the table holds."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        task = tables.task
        self._lanes = _prepare_lanes(tables, dialect.now)
        lane = (
            task.c.queue == sa.bindparam("in_queue"),
            task.c.priority == sa.bindparam("in_priority"),
        )
        scheduled = (is_state(task, State.SCHEDULED), *lane)
        self._later = _prepare_count(
            sa.select(task.c.id).where(*scheduled, task.c.due_at > sa.bindparam("until"))
        )
        self._due = _prepare_count(
            sa.select(task.c.id).where(*scheduled, task.c.due_at <= sa.bindparam("until"))
        )
        first_due = (
            sa.select(task.c.due_at, task.c.created_at)
            .where(*scheduled, task.c.due_at <= sa.bindparam("until"))
            .order_by(task.c.due_at)
            .limit(_OLDEST)
            .subquery("first_due")
        )
        self._oldest = Prepared(sa.select(sa.func.min(waits_since(first_due))))
        self.is_lost: sa.ColumnElement[bool] = is_lost(tables, dialect.now)
        leased = (is_state(task, State.LEASED), *lane)
        self._running = _prepare_count(sa.select(task.c.id).where(*leased, ~self.is_lost))
        self._lost = _prepare_count(sa.select(task.c.id).where(*leased, self.is_lost))
        later = sa.select(task.c.attempts).where(*scheduled, task.c.due_at > sa.bindparam("until"))
        # The first to be due are examined: tasks that are tried again are among them.
        first = later.order_by(task.c.due_at).limit(CAP).subquery("first")
        self._retrying = Prepared(
            sa.select(sa.func.count()).select_from(first).where(first.c.attempts > 0)
        )

    def of(self, connection: sa.Connection) -> dict[str, QueueCounts]:
        """Count by queue, for each queue that has a row."""
        found: dict[str, QueueCounts] = {}
        for lane in self.lanes(connection):
            found[lane.queue] = found.get(lane.queue, QueueCounts()) + self._count(connection, lane)
        for queue, waiting in self._waiting(connection).items():
            found[queue] = found.get(queue, QueueCounts()) + QueueCounts(waiting=waiting)
        for queue, forwarded in self._forwarded(connection).items():
            found[queue] = found.get(queue, QueueCounts()) + QueueCounts(forwarded=forwarded)
        return found

    def lanes(self, connection: sa.Connection) -> Sequence[LiveLane]:
        """Return every queue's lanes, paused ones too, by two index look-ups each."""
        rows = self._lanes.execute(connection, {})
        return [
            LiveLane(row.queue, row.priority, row.now, row.due_at, row.expires_at is not None)
            for row in rows
        ]

    def due_since(
        self, connection: sa.Connection, queue: str, priority: int, now: int
    ) -> int | None:
        """Return since when the task of a lane that has been due longest has waited, if one is due.

        It waits since it fell due, or since it was added with an eta that had passed. The first
        1,000 to be due are read, so it is exact unless all of them were added with such an eta.
        """
        lane = {"in_queue": queue, "in_priority": priority, "until": now}
        found: int | None = self._oldest.execute(connection, lane).scalar_one()
        return found

    def _count(self, connection: sa.Connection, lane: LiveLane) -> QueueCounts:
        which = {"in_queue": lane.queue, "in_priority": lane.priority}
        running = self._running.execute(connection, which).scalar_one() if lane.leased else 0
        lost = self._lost.execute(connection, which).scalar_one() if lane.leased else 0
        if lane.due_at is None:
            return QueueCounts(running=running, lost=lost)
        until = which | {"until": lane.now}
        due = self._due.execute(connection, until).scalar_one() if lane.due_at <= lane.now else 0
        retrying = self._retrying.execute(connection, until).scalar_one()
        later = self._later.execute(connection, until).scalar_one()
        return QueueCounts(
            due=due,
            running=running,
            lost=lost,
            retrying=retrying,
            scheduled=later if later == CAP > retrying else max(0, later - retrying),
            first_due_at=lane.due_at,
            due_since=self.due_since(connection, lane.queue, lane.priority, lane.now)
            if due
            else None,
        )

    def _waiting(self, connection: sa.Connection) -> dict[str, int]:
        task, lock = self._tables.task, self._tables.lock
        rows = (
            sa.select(task.c.queue)
            .select_from(lock.join(task, waits_for_key(task, lock)))
            .limit(CAP)
            .subquery("some")
        )
        return _by_queue(connection, rows)

    def engines(self, connection: sa.Connection) -> list[str]:
        """Return the queues whose tasks are handed over to an engine."""
        queue = self._tables.queue
        names = sa.select(queue.c.name).where(queue.c.mode == CLOUDTASKS)
        return list(connection.scalars(names.order_by(queue.c.name)))

    def _forwarded(self, connection: sa.Connection) -> dict[str, int]:
        task = self._tables.task
        found: dict[str, int] = {}
        for queue in self.engines(connection):
            forwarded = (is_state(task, State.FORWARDED), task.c.queue == queue)
            rows = sa.select(task.c.queue).where(*forwarded).limit(CAP).subquery("some")
            found |= _by_queue(connection, rows)
        return found


def _by_queue(connection: sa.Connection, rows: sa.Subquery) -> dict[str, int]:
    """Count rows by their queue."""
    counted = sa.select(rows.c.queue, sa.func.count().label("number")).group_by(rows.c.queue)
    return {row.queue: row.number for row in connection.execute(counted)}


def _prepare_count(rows: sa.Select[tuple[str]]) -> Prepared:
    return Prepared(sa.select(sa.func.count()).select_from(rows.limit(CAP).subquery("some")))


def _prepare_lanes(tables: Tables, now: sa.ColumnElement[int]) -> Prepared:
    queue, steps = tables.queue, priority_steps()
    return Prepared(
        sa.select(
            queue.c.name.label("queue"),
            steps.c.priority,
            first_of_lane(tables, steps, State.SCHEDULED).label("due_at"),
            first_of_lane(tables, steps, State.LEASED).label("expires_at"),
            now.label("now"),
        )
        .select_from(queue.join(steps, sa.true()))
        .where(queue.c.deleted_at.is_(None))
        .order_by(queue.c.name, steps.c.priority)
    )
