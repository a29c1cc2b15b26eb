"""Deleted queues: added ones whose names are blocked, and to which nothing is added any more."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.errors import UnknownQueueError
from ...core.times import to_datetime, utc
from ..database.tables import Tables


def refuse_deleted(connection: sa.Connection, tables: Tables, name: str) -> None:
    """Raise `UnknownQueueError` if the queue of this name was deleted."""
    queue = tables.queue
    deleted_at = connection.scalar(sa.select(queue.c.deleted_at).where(queue.c.name == name))
    if deleted_at is not None:
        raise UnknownQueueError(
            f"there is no queue {name!r}: it was deleted at {utc(to_datetime(deleted_at))}"
        )


def is_of_deleted(tables: Tables) -> sa.ColumnElement[bool]:
    """Return whether a task is of a queue that was deleted."""
    queue = tables.queue
    deleted = sa.select(queue.c.name).where(
        queue.c.name == tables.task.c.queue, queue.c.deleted_at.is_not(None)
    )
    return deleted.exists()
