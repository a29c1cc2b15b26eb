"""Queue counts: how many tasks of a queue are waiting, running and ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...core.states import State
from ..database.dialects.claims import is_state, waits_for_key
from ..database.tables import Tables

CAP = 10_000
"""The number at which counting the tasks that have not ended stops; it means this many or more."""

_LIVE = ("due", "running", "lost", "retrying", "scheduled", "waiting", "forwarded")
_ENDED = ("succeeded", "dead", "cancelled")
_AS_IT_IS = ("queue", "first_due_at", "waits_since")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """The tasks of one queue; each is in one of the counts.

    ``due`` may be taken now, ``retrying`` have failed and wait for their next attempt,
    ``scheduled`` wait for their eta, ``waiting`` for their key. ``running`` have a lease that has
    not run out, ``lost`` one that ran out because their process died or was cut off. ``forwarded``
    were handed over to the engine of their queue.
    ``first_due_at`` is when the first of those that wait for a time is due, ``due_since`` when the
    one of ``due`` that has waited longest could first be taken; both are in microseconds. `Backlog`
    counts only as far as `CAP`. `exact_counts` counts all, but does not tell ``lost``
    from ``running`` or ``retrying`` from ``scheduled``: ``running`` and ``scheduled`` then include
    both. It leaves ``due_since`` out.
    """

    due: int = 0
    running: int = 0
    lost: int = 0
    retrying: int = 0
    scheduled: int = 0
    waiting: int = 0
    forwarded: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0
    first_due_at: int | None = None
    due_since: int | None = None

    @classmethod
    def of(cls, row: sa.Row[Any]) -> QueueCounts:
        """Return the counts in a row of `exact_counts`."""
        return cls(
            due=row.due,
            running=row.running,
            scheduled=row.scheduled - row.due,
            waiting=row.waiting,
            forwarded=row.forwarded,
            first_due_at=row.first_due_at,
            **{name: getattr(row, name) for name in _ENDED},
        )

    @property
    def leased(self) -> int:
        """The number of tasks that have a lease."""
        return self.running + self.lost

    @property
    def unclaimed(self) -> int:
        """The number of tasks that wait for a time, a key or a free place."""
        return self.due + self.retrying + self.scheduled + self.waiting

    @property
    def unfinished(self) -> int:
        """The number of tasks that have not ended."""
        return self.leased + self.unclaimed + self.forwarded

    def __add__(self, other: QueueCounts) -> QueueCounts:
        """Return the sum of both."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in (*_LIVE, *_ENDED)}
        counts |= {name: min(CAP, counts[name]) for name in _LIVE}
        return QueueCounts(
            **counts,
            first_due_at=_first(self.first_due_at, other.first_due_at),
            due_since=_first(self.due_since, other.due_since),
        )


def _first(mine: int | None, other: int | None) -> int | None:
    return min((at for at in (mine, other) if at is not None), default=None)


def waits_since(task: sa.FromClause) -> sa.ColumnElement[int]:
    """Return when a due task could first be taken: not before its creation, whatever its eta."""
    return sa.case((task.c.due_at > task.c.created_at, task.c.due_at), else_=task.c.created_at)


def exact_counts(
    tables: Tables,
    now: sa.ColumnElement[int],
    *parts: sa.Subquery,
    queues: Collection[str] | None = None,
    scheduled: Sequence[sa.ColumnElement[Any]] = (),
) -> sa.Select[Any]:
    """Return a statement with a row for each queue, or for these, so that its sums hold.

    ``parts`` are joined to it by their column ``queue``; they must have the counts of ended tasks.
    ``scheduled`` are further columns about the tasks that wait for a time. All these tasks are
    counted in the index of the live tasks.
    """
    queue = tables.queue
    found = [
        _scheduled(tables, now, queues, scheduled),
        _in_state(tables, queues, State.LEASED, "running"),
        _in_state(tables, queues, State.FORWARDED, "forwarded"),
    ]
    found += [_waiting(tables), *parts]
    joined: sa.FromClause = queue
    for part in found:
        joined = joined.outerjoin(part, part.c.queue == queue.c.name)
    columns = [
        column if column.name in _AS_IT_IS else sa.func.coalesce(column, 0).label(column.name)
        for part in found
        for column in part.c
        if column.name != "queue"
    ]
    statement = sa.select(
        queue.c.name, queue.c.paused_at, queue.c.rate, queue.c.mode, now.label("now"), *columns
    ).select_from(joined)
    statement = statement.where(queue.c.deleted_at.is_(None))
    if queues is not None:
        statement = statement.where(queue.c.name.in_(sorted(queues)))
    return statement.order_by(queue.c.name)


def _scheduled(
    tables: Tables,
    now: sa.ColumnElement[int],
    queues: Collection[str] | None,
    more: Sequence[sa.ColumnElement[Any]],
) -> sa.Subquery:
    task = tables.task
    due = sa.func.sum(sa.case((task.c.due_at <= now, 1), else_=0))
    return (
        sa.select(
            task.c.queue,
            sa.func.count().label("scheduled"),
            sa.cast(due, sa.BigInteger).label("due"),
            sa.func.min(task.c.due_at).label("first_due_at"),
            *more,
        )
        .where(is_state(task, State.SCHEDULED), _is_of(task, queues))
        .group_by(task.c.queue)
        .subquery("scheduled")
    )


def _in_state(
    tables: Tables, queues: Collection[str] | None, state: State, name: str
) -> sa.Subquery:
    task = tables.task
    return (
        sa.select(task.c.queue, sa.func.count().label(name))
        .where(is_state(task, state), _is_of(task, queues))
        .group_by(task.c.queue)
        .subquery(name)
    )


def _waiting(tables: Tables) -> sa.Subquery:
    task, lock = tables.task, tables.lock
    return (
        sa.select(task.c.queue, sa.func.count().label("waiting"))
        .select_from(lock.join(task, waits_for_key(task, lock)))
        .group_by(task.c.queue)
        .subquery("waiting")
    )


def _is_of(task: sa.Table, queues: Collection[str] | None) -> sa.ColumnElement[bool]:
    return sa.true() if queues is None else task.c.queue.in_(sorted(queues))
