"""Forced tasks: those that somebody asked to run whatever their queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from ...core.states import Record, State
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.prepared import Prepared
from ..database.tables import Tables

_MOST = 1000
"""The number of forced tasks that one claim examines."""


class Forced:
    """A claimer of forced tasks; each method joins its connection's transaction.

    Such a task has a mark, ``forced_at``, which it keeps until its attempt has ended. It is claimed
    although its queue is paused, at its rate or full, or its receiver is slowed; it takes no token,
    but counts among those that run. Queues that are deleted or pulled from, and keys, hold it up as
    they do any task.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        task, queue = tables.task, tables.queue
        self._dialect = dialect
        # On its own, so that no planner prefers the index of the many tasks that are due.
        self._marked = Prepared(
            sa.select(task.c.id, task.c.queue)
            .where(task.c.forced_at.is_not(None))
            .order_by(task.c.forced_at, task.c.id)
            .limit(_MOST)
        )
        is_there = (
            queue.c.name == task.c.queue,
            queue.c.mode.is_(None),
            queue.c.deleted_at.is_(None),
        )
        due = (
            sa.select(task.c.id)
            .where(
                dialect.among(task.c.id, "marked"),
                task.c.forced_at.is_not(None),
                is_state(task, State.SCHEDULED),
                task.c.due_at <= dialect.now,
                sa.exists(sa.select(queue.c.name).where(*is_there)).correlate(task),
            )
            .order_by(task.c.forced_at, task.c.id)
            .limit(sa.bindparam("most", type_=sa.Integer))
        )
        self._claim = dialect.prepare_claim(task, due)

    def claim(
        self,
        connection: sa.Connection,
        queues: Collection[str] | None,
        limit: int,
        terms: Mapping[str, Any],
    ) -> list[Record]:
        """Lease up to ``limit`` forced tasks that are due, of these queues or of all."""
        marked = [
            row.id
            for row in self._marked.execute(connection, {})
            if queues is None or row.queue in queues
        ]
        if not marked:
            return []
        which = {"marked": self._dialect.bound(marked), "most": limit}
        return self._claim(connection, which, terms)
