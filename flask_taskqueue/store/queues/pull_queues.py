"""Pull queues: those whose tasks no dispatcher takes, because workers lease them."""

from __future__ import annotations

import sqlalchemy as sa

from ...core.tasks.request import PULL
from ..database.tables import Tables

_MODE = "pull"


def pulled_queues(connection: sa.Connection, tables: Tables) -> frozenset[str]:
    """Return the names of the pull queues."""
    queue = tables.queue
    return frozenset(connection.scalars(sa.select(queue.c.name).where(queue.c.mode == _MODE)))


def is_pulled(tables: Tables) -> sa.ColumnElement[bool]:
    """Return whether a task is leased by workers: it is a pull queue's, or was made for one."""
    task, queue = tables.task, tables.queue
    of_pulled = sa.select(queue.c.name).where(queue.c.name == task.c.queue, queue.c.mode == _MODE)
    return sa.or_(task.c.method == PULL, of_pulled.exists())
