"""The tables of tasks, their batches and attempts, and changes of tasks column by column."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ...core.states import Record, State
from .dialects.claims import (
    ENDED_ROWS,
    FAILED_ROWS,
    FORCED_ROWS,
    LIVE_ROWS,
    LOCKED_ROWS,
    NAMED_ROWS,
    TAGGED_ROWS,
    UNIQUE_ROWS,
)
from .dialects.types import BODY, LONG_TEXT, MICROS, SECONDS, TEXT, exact, token


def ended(state: State, now: sa.ColumnElement[int], **more: Any) -> dict[str, Any]:
    """Return the columns of a task that has ended in this state, with any other changes.

    Its key is free for another task, and the indexes of live tasks no longer hold it.
    """
    free = {"due_at": None, "unique_key": None, "forced_at": None}
    return {"state": state.value, "finished_at": now, **free, **more}


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


def task(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of live and finished tasks, with an index of the live ones for claims.

    ``due_at`` is when the task may next be taken: for a leased one, when its lease runs out, unless
    a renewal prolongs it. The columns are those of `Record`, in its order.
    """
    columns = (
        sa.Column("id", token(26), primary_key=True),
        sa.Column("name", token(500)),
        sa.Column("queue", token(100), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("state", token(10), nullable=False),
        sa.Column("method", token(10), nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("target", TEXT),
        sa.Column("headers", TEXT),
        sa.Column("body", BODY, nullable=False),
        sa.Column("eta", MICROS, nullable=False),
        sa.Column("due_at", MICROS),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("first_tried_at", MICROS),
        sa.Column("started_at", MICROS),
        sa.Column("finished_at", MICROS),
        sa.Column("deadline", SECONDS),
        sa.Column("retry", TEXT),
        sa.Column("unique_key", token(200)),
        sa.Column("lock_key", token(202)),
        sa.Column("lock_limit", sa.SmallInteger),
        sa.Column("expires_at", MICROS),
        sa.Column("follow_up", LONG_TEXT),
        sa.Column("batch_id", token(26)),
        sa.Column("callback_of", token(26)),
        sa.Column("schedule", token(100)),
        sa.Column("keep_result", sa.SmallInteger, nullable=False),
        sa.Column("progress", TEXT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("executions", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("pardons", sa.Integer, nullable=False),
        sa.Column("lease_id", token(32)),
        sa.Column("held_by", token(32)),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_reason", token(20)),
        sa.Column("last_error", TEXT),
        sa.Column("given_key", token(200)),
        sa.Column("for_worker", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("surface", TEXT),
        sa.Column("tag", exact(500)),
        sa.Column("forced_at", MICROS),
        sa.Column("forwarded_for", MICROS),
    )
    if tuple(column.name for column in columns) != Record._fields:
        raise AssertionError("the columns of the task table are not the fields of Record")
    return sa.Table(
        f"{prefix}task",
        metadata,
        *columns,
        # The name comes first, because a planner that does not know the data yet must not take it
        # for an index of queues.
        sa.Index(
            f"ix_{prefix}task_name",
            "name",
            "queue",
            unique=True,
            sqlite_where=NAMED_ROWS,
            postgresql_where=NAMED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_unique",
            "unique_key",
            "queue",
            unique=True,
            sqlite_where=UNIQUE_ROWS,
            postgresql_where=UNIQUE_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_lock",
            *("lock_key", "state", "id", "due_at"),
            sqlite_where=LOCKED_ROWS,
            postgresql_where=LOCKED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_due",
            *("state", "queue", "priority", "due_at", "id"),
            sqlite_where=LIVE_ROWS,
            postgresql_where=LIVE_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_ended",
            *("state", "finished_at", "id"),
            sqlite_where=ENDED_ROWS,
            postgresql_where=ENDED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_tag",
            *("tag", "queue", "due_at", "id"),
            sqlite_where=TAGGED_ROWS,
            postgresql_where=TAGGED_ROWS,
        ),
        sa.Index(
            f"ix_{prefix}task_forced",
            *("forced_at", "id"),
            sqlite_where=FORCED_ROWS,
            postgresql_where=FORCED_ROWS,
        ),
    )


def attempt(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of attempts and their outcomes."""
    return sa.Table(
        f"{prefix}attempt",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("started_at", MICROS, nullable=False),
        sa.Column("finished_at", MICROS, nullable=False),
        sa.Column("held_by", token(32)),
        sa.Column("reason", token(20), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", TEXT),
        sa.Column("reply_headers", TEXT),
        sa.Column("reply_body", BODY),
        sa.Column("traceback", LONG_TEXT),
        sa.Index(
            f"ix_{prefix}attempt_failed",
            *("reason", "finished_at"),
            sqlite_where=FAILED_ROWS,
            postgresql_where=FAILED_ROWS,
        ),
    )


def traceback(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of tracebacks that are stored before their attempts.

    They are written by the process that served the attempt over HTTP. The dispatcher that waits for
    its reply writes the attempt, with the same key.
    """
    return sa.Table(
        f"{prefix}traceback",
        metadata,
        sa.Column("task_id", token(26), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lease_id", token(32), primary_key=True),
        sa.Column("traceback", LONG_TEXT, nullable=False),
    )


def batch(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Define the table of batches: how many of their tasks have ended and how, and what follows."""
    return sa.Table(
        f"{prefix}batch",
        metadata,
        sa.Column("id", token(26), primary_key=True),
        sa.Column("created_at", MICROS, nullable=False),
        sa.Column("finished_at", MICROS),
        sa.Column("total", sa.Integer, nullable=False),
        *(
            sa.Column(state, sa.Integer, nullable=False)
            for state in ("succeeded", "dead", "cancelled")
        ),
        sa.Column("on_finish", LONG_TEXT),
        sa.Column("on_dead", LONG_TEXT),
    )
