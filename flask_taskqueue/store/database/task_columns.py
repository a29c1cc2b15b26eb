"""The columns of a task that change when it ends, and when it has to wait again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...core.states import State


def ended(state: State, now: sa.ColumnElement[int], **more: Any) -> dict[str, Any]:
    """Return the columns of a task that has ended in this state, with any other changes.

    Its key is free for another task, and the indexes of live tasks no longer hold it.
    """
    return {"state": state.value, "due_at": None, "finished_at": now, "unique_key": None, **more}


def parked(task: sa.Table, due_at: Any) -> dict[str, Any]:
    """Return the columns of a leased task that waits again as if it had not been claimed.

    The attempt is not counted. The task is due at ``due_at``; with NULL it waits for its key, and
    no claim sees it before that is free.
    """
    return _unclaimed(task) | {"state": State.SCHEDULED.value, "due_at": due_at}


def expired(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the columns of a leased task that turned out to have expired before its attempt."""
    return _unclaimed(task) | ended(State.CANCELLED, now, last_reason="expired")


def _unclaimed(task: sa.Table) -> dict[str, Any]:
    # MySQL assigns in the order of the columns: first_tried_at comes before attempts.
    return {
        "first_tried_at": sa.case((task.c.attempts > 1, task.c.first_tried_at)),
        "attempts": task.c.attempts - 1,
        "lease_id": None,
        "held_by": None,
    }
