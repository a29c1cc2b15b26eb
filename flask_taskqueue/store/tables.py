"""The tables."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ..core.record import Record
from .dialects.states import LIVE_ROWS, NAMED_ROWS
from .dialects.types import BODY, MICROS, SECONDS, TEXT, token


@dataclass(frozen=True, slots=True)
class Tables:
    """The queue's tables in one metadata."""

    task: sa.Table
    attempt: sa.Table
    queue: sa.Table

    @property
    def all(self) -> list[sa.Table]:
        """Each of them, in an order in which they can be created."""
        return [self.task, self.attempt, self.queue]

    @classmethod
    def join(cls, metadata: sa.MetaData, prefix: str) -> Tables:
        """The tables in this metadata; defined there if they are not yet.

        Once joined to the metadata of an application, ``create_all`` and Alembic's autogenerate
        see them like the application's own.
        """
        if f"{prefix}task" in metadata.tables:
            return cls(*(metadata.tables[prefix + name] for name in ("task", "attempt", "queue")))
        return cls(_task(metadata, prefix), _attempt(metadata, prefix), _queue(metadata, prefix))


def _task(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """Live and finished tasks; what is claimed is found through an index of the live ones.

    ``due_at`` is when the task may next be taken: for a leased one, when its lease runs out.
    The columns are those of `Record`, in its order.
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
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("executions", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("pardons", sa.Integer, nullable=False),
        sa.Column("lease_id", token(32)),
        sa.Column("held_by", token(32)),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_reason", token(20)),
        sa.Column("last_error", TEXT),
    )
    if tuple(column.name for column in columns) != Record._fields:
        raise AssertionError("the columns of the task table are not the fields of Record")
    return sa.Table(
        f"{prefix}task",
        metadata,
        *columns,
        # The name first: a planner that knows nothing yet of the data must not take it for an index of queues.
        sa.Index(f"ix_{prefix}task_name", "name", "queue", unique=True, sqlite_where=NAMED_ROWS, postgresql_where=NAMED_ROWS),
        sa.Index(
            f"ix_{prefix}task_due",
            *("state", "queue", "priority", "due_at", "id"),
            sqlite_where=LIVE_ROWS,
            postgresql_where=LIVE_ROWS,
        ),
        sa.Index(f"ix_{prefix}task_finished", "finished_at"),
    )


def _attempt(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """What became of each attempt."""
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
    )


def _queue(metadata: sa.MetaData, prefix: str) -> sa.Table:
    """The queues that dispatchers take from."""
    return sa.Table(
        f"{prefix}queue",
        metadata,
        sa.Column("name", token(100), primary_key=True),
        sa.Column("paused_at", MICROS),
        sa.Column("paused_by", token(100)),
    )
