"""Lanes: what waits in each of them, as claims see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import sqlalchemy as sa

from ...core.queues.circuits import Circuit
from ...core.queues.lanes import PRIORITIES, Lane, Lanes
from ...core.queues.rates import Gate
from ...core.queues.slowdowns import Slowdown
from ...core.settings.queue import CLOUDTASKS
from ...core.states import State
from ...core.times import LAST_MICROS
from ..database.dialects.claims import is_state
from ..database.lease_ends import is_renewed
from ..database.prepared import Prepared
from ..database.tables import Tables
from .slowdowns import is_any_slowed

Gates = Callable[[sa.Connection, Collection[str]], Mapping[str, Gate]]


class LanesLook:
    """A look at what waits; it joins the transaction of the connection it is given."""

    def __init__(
        self,
        tables: Tables,
        now: sa.ColumnElement[int],
        gates: Gates,
        limits: Callable[[sa.Connection], Mapping[str, Slowdown | Circuit]],
    ) -> None:
        self._statement = _prepare_look(tables, now)
        self._gates = gates
        self._limits = limits

    def __call__(self, connection: sa.Connection, queues: Collection[str] | None = None) -> Lanes:
        """Return what waits in each lane of the open queues, or of those also in ``queues``.

        A row without a queue says that there are forced tasks.
        """
        rows = self._statement.execute(connection, {}).all()
        chosen = (row for row in rows if queues is None or row.queue in queues)
        waiting = [row for row in chosen if row.due_at is not None or row.expires_at is not None]
        limited = {row.queue for row in waiting if row.limited}
        added = frozenset(row.queue for row in waiting if row.added)
        return Lanes(
            now=rows[0].now if rows else 0,
            lanes=tuple(
                Lane(row.queue, row.priority, row.due_at, row.expires_at) for row in waiting
            ),
            gates=self._gates(connection, limited) if limited else {},
            slowdowns=self._limits(connection) if waiting and waiting[0].slowed else {},
            added=added,
            forced=any(row.queue is None for row in rows),
        )


def _prepare_look(tables: Tables, now: sa.ColumnElement[int]) -> Prepared:
    """Return the statement of a look at the lanes.

    It takes two index look-ups a lane, whatever the table holds, and one more for the renewal of a
    lease.
    """
    queue, steps = tables.queue, priority_steps()
    not_renewed = ~is_renewed(tables, now)
    statement = (
        sa.select(
            queue.c.name.label("queue"),
            steps.c.priority,
            first_of_lane(tables, steps, State.SCHEDULED).label("due_at"),
            first_of_lane(tables, steps, State.LEASED, not_renewed).label("expires_at"),
            _is_limited(queue).label("limited"),
            queue.c.settings.is_not(None).label("added"),
            is_any_slowed(tables, now).label("slowed"),
            now.label("now"),
        )
        .select_from(queue.join(steps, sa.true()))
        .where(is_taken_from(queue))
    )
    nothing = [sa.null() for _ in statement.selected_columns][1:]
    return Prepared(statement.union_all(sa.select(*nothing, now).where(is_any_forced(tables))))


def priority_steps() -> sa.Subquery:
    """Return a table of the priorities, which makes lanes of queues."""
    steps: list[sa.Select[Any]] = [
        sa.select(sa.literal_column(str(step)).label("priority")) for step in PRIORITIES
    ]
    return sa.union_all(*steps).subquery("step")


def first_of_lane(
    tables: Tables, steps: sa.Subquery, state: State, *only: sa.ColumnElement[bool]
) -> sa.ScalarSelect[Any]:
    """Return when the first task of a lane is due, or its lease runs out; an index look-up.

    What is due after all time, such as a text in SQLite, has been written by hand.
    """
    task, queue = tables.task, tables.queue
    of_lane = sa.and_(task.c.queue == queue.c.name, task.c.priority == steps.c.priority)
    return (
        sa.select(task.c.due_at)
        .where(is_state(task, state), of_lane, task.c.due_at <= LAST_MICROS, *only)
        .order_by(task.c.due_at)
        .limit(1)
        .correlate(queue, steps)
        .scalar_subquery()
    )


def is_taken_from(queue: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether dispatchers take tasks of a queue: not one paused, deleted or with a mode.

    Tasks of a pull queue are fetched, those of one with an engine are handed over.
    """
    return sa.and_(
        queue.c.paused_at.is_(None), queue.c.mode.is_(None), queue.c.deleted_at.is_(None)
    )


def is_forwarded_from(queue: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether tasks of a queue are handed over to its engine: not while it is paused."""
    return sa.and_(queue.c.paused_at.is_(None), queue.c.mode == CLOUDTASKS)


def is_any_forced(tables: Tables) -> sa.ColumnElement[bool]:
    """Return whether any task is to run whatever its queue; a look-up in a small index."""
    task = tables.task.alias("forced")
    return sa.exists(sa.select(task.c.id).where(task.c.forced_at.is_not(None)))


def is_open(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether the queue bound as ``in_queue`` may be claimed from without looking.

    It may if dispatchers take its tasks, it is not an added queue, whose settings have to be read,
    neither it nor its keys have limits, and no receiver is slowed.
    """
    queue = tables.queue
    free = sa.exists().where(
        queue.c.name == sa.bindparam("in_queue"),
        is_taken_from(queue),
        queue.c.settings.is_(None),
        sa.not_(_is_limited(queue)),
        queue.c.rate_per_key.is_(None),
    )
    return sa.and_(free, sa.not_(is_any_slowed(tables, now)))


def _is_limited(queue: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(queue.c.rate.is_not(None), queue.c.max_concurrent.is_not(None))
