"""Lease ends: when leases run out, by the rows of their tasks or by renewals beside them.

``due_at`` of a leased task may pass although the task runs, so no one else judges a lease by it.
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
    return (
        sa.exists().where(*_of_lease(tables), tables.renewal.c.until > now).correlate(tables.task)
    )


def ends_at(tables: Tables) -> sa.ColumnElement[int]:
    """Return when the lease of a leased task runs out; ``due_at`` of any other task."""
    task, renewal = tables.task, tables.renewal
    later = (
        sa.select(renewal.c.until)
        .where(*_of_lease(tables), renewal.c.until > task.c.due_at, is_state(task, State.LEASED))
        .correlate(task)
        .scalar_subquery()
    )
    return sa.func.coalesce(later, task.c.due_at)


def shown_columns(tables: Tables) -> list[sa.ColumnElement[Any]]:
    """Return the columns of tasks, with the end of its lease as ``due_at`` of a leased one."""
    due_at = ends_at(tables).label("due_at")
    return [due_at if column.name == "due_at" else column for column in tables.task.c]


def _of_lease(tables: Tables) -> tuple[sa.ColumnElement[bool], ...]:
    task, renewal = tables.task, tables.renewal
    return renewal.c.task_id == task.c.id, renewal.c.lease_id == task.c.lease_id
