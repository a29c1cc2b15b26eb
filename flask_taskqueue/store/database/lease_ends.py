"""Lease ends: when leases and holds run out, by their own rows or by renewals beside them.

``due_at`` of a leased task may pass although the task runs, and so may ``held_until`` of its hold,
so no one else judges by them. Nor does a transaction of the app read renewals: MariaDB locks them
until it ends for a statement that writes, and at SERIALIZABLE for any, so that they could not be
prolonged.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...core.states import State
from .dialects.claims import is_state
from .tables import Tables


def is_lost(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether the lease of a leased task has run out."""
    return sa.and_(tables.task.c.due_at <= now, ~is_renewed(tables, now))


def is_renewed(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether a task's lease is prolonged beside the task."""
    return _lasts(tables, tables.task.c.id, tables.task.c.lease_id, now).correlate(tables.task)


def is_held(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether a hold has not run out.

    One that a transaction of the app has left may appear long after its lease was last prolonged in
    the row of the task. Up to then the heartbeat has renewed the lease beside it.
    """
    hold = tables.hold
    renewed = _lasts(tables, hold.c.task_id, hold.c.lease_id, now).correlate(hold)
    return sa.or_(hold.c.held_until > now, renewed)


def ends_at(tables: Tables) -> sa.ColumnElement[int]:
    """Return when the lease of a leased task runs out; ``due_at`` of any other task."""
    task, renewal = tables.task, tables.renewal
    its = (renewal.c.task_id == task.c.id, renewal.c.lease_id == task.c.lease_id)
    later = (
        sa.select(renewal.c.until)
        .where(*its, renewal.c.until > task.c.due_at, is_state(task, State.LEASED))
        .correlate(task)
        .scalar_subquery()
    )
    return sa.func.coalesce(later, task.c.due_at)


def shown_columns(tables: Tables) -> list[sa.ColumnElement[Any]]:
    """Return the columns of tasks, with the end of its lease as ``due_at`` of a leased one."""
    due_at = ends_at(tables).label("due_at")
    return [due_at if column.name == "due_at" else column for column in tables.task.c]


def _lasts(
    tables: Tables,
    task_id: sa.ColumnElement[str],
    lease_id: sa.ColumnElement[Any],
    now: sa.ColumnElement[int],
) -> sa.Exists:
    renewal = tables.renewal
    return sa.exists().where(
        renewal.c.task_id == task_id, renewal.c.lease_id == lease_id, renewal.c.until > now
    )
