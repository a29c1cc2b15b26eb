"""Conditions on the state, written so that the index of the live tasks is used."""

from __future__ import annotations

import sqlalchemy as sa

from ....core.states import LIVE, State

LIVE_ROWS = sa.text("due_at IS NOT NULL")
"""The rows of the index, if a database has partial indexes: finished tasks have no ``due_at``."""
NAMED_ROWS = sa.text("name IS NOT NULL")
UNIQUE_ROWS = sa.text("unique_key IS NOT NULL")
ENDED_ROWS = sa.text("finished_at IS NOT NULL")
FAILED_ROWS = sa.text("reason <> 'success'")
LOCKED_ROWS = sa.text("lock_key IS NOT NULL")


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
