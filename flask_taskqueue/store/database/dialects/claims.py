"""The parts of a claim that all databases share, with conditions that use its indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ....core.states import LIVE, MOST_COUNTED, Record, State
from ..prepared import Prepared

LIVE_ROWS = sa.text("due_at IS NOT NULL")
"""The rows of the index, if a database has partial indexes: finished tasks have no ``due_at``."""
NAMED_ROWS = sa.text("name IS NOT NULL")
UNIQUE_ROWS = sa.text("unique_key IS NOT NULL")
ENDED_ROWS = sa.text("finished_at IS NOT NULL")
FAILED_ROWS = sa.text("reason <> 'success'")
LOCKED_ROWS = sa.text("lock_key IS NOT NULL")
TAGGED_ROWS = sa.text("tag IS NOT NULL")
FORCED_ROWS = sa.text("forced_at IS NOT NULL")


def waits_for_key(task: sa.Table, lock: sa.Table | None = None) -> sa.ColumnElement[bool]:
    """Return whether a task waits for a key, or for the key of this row of ``lock`` if given.

    Such tasks are not in the index of the live ones. Joined to the few keys in use, they are found
    by the index of keys.
    """
    waits = sa.and_(task.c.state == State.SCHEDULED.value, task.c.due_at.is_(None))
    return waits if lock is None else sa.and_(task.c.lock_key == lock.c.lock_key, waits)


def is_state(table: sa.Table, state: State) -> sa.ColumnElement[bool]:
    """Return whether a row has this state, in the words of the partial index of such rows."""
    return sa.and_(
        table.c.state == state.value,
        table.c["due_at" if state in LIVE else "finished_at"].is_not(None),
    )


def candidates(
    task: sa.Table, now: sa.ColumnElement[int], *only: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """Return the due tasks of a lane, the first due first, if ``only`` holds.

    It is an index range scan that ends after ``most`` rows.
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


def counted(count: sa.ColumnElement[int], more: Any = 1) -> sa.ColumnElement[int]:
    """Return a count of a task with one ``more``, or none.

    The greatest number that its column takes, which somebody may have written, stays as it is.
    """
    return sa.case((count == MOST_COUNTED, count), else_=count + more)


def held_against(task: sa.Table) -> sa.ColumnElement[int]:
    """Return how many crashes are held against a task."""
    return sa.cast(task.c.crashes, sa.BigInteger) - task.c.pardons


def taken(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the changes of a claim; claiming is starting, so the attempt is counted here."""
    return {
        "state": sa.literal_column(f"'{State.LEASED}'"),
        "lease_id": sa.bindparam("new_lease"),
        "held_by": sa.bindparam("holder"),
        "attempts": counted(task.c.attempts),
        "due_at": now + sa.bindparam("period", type_=sa.BigInteger),
        "started_at": now,
        "first_tried_at": sa.func.coalesce(task.c.first_tried_at, now),
    }


def claim_in_one_statement(
    task: sa.Table, now: sa.ColumnElement[int], picked: sa.ColumnElement[bool]
) -> Any:
    """Return a claim by one UPDATE … RETURNING of the rows that are ``picked``."""
    update = sa.update(task).where(picked).values(taken(task, now))
    prepared = Prepared(update.returning(*task.c))

    def claim(
        connection: sa.Connection, which: Mapping[str, Any], how: Mapping[str, Any]
    ) -> list[Record]:
        rows = prepared.execute(connection, {**which, **how}).all()
        return sorted(map(Record._make, rows), key=lambda record: (record.eta, record.id))

    return claim
