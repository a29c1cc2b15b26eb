"""The parts of a claim that all databases share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ....core.states import State
from .states import is_state


def candidates(
    task: sa.Table, now: sa.ColumnElement[int], *only: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """Return the due tasks of a lane, the first due first, if ``only`` holds.

    It is an index range scan that ends after ``limit`` rows.
    """
    return (
        sa.select(task.c.id)
        .where(
            is_state(task, State.SCHEDULED),
            task.c.queue == sa.bindparam("in_queue"),
            task.c.priority == sa.bindparam("in_priority"),
            task.c.due_at <= now,
            *only,
        )
        .order_by(task.c.due_at, task.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
    )


def taken(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the changes of a claim; claiming is starting, so the attempt is counted here."""
    return {
        "state": sa.literal_column(f"'{State.LEASED}'"),
        "lease_id": sa.bindparam("new_lease"),
        "held_by": sa.bindparam("holder"),
        "attempts": task.c.attempts + 1,
        "due_at": now + sa.bindparam("period", type_=sa.BigInteger),
        "started_at": now,
        "first_tried_at": sa.func.coalesce(task.c.first_tried_at, now),
    }
