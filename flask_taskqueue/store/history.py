"""History: what became of attempts, and when finished tasks are forgotten."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..core.clock import duration_micros
from ..core.states import State
from .dialects import Dialect
from .tables import Tables

BATCH = 500


class History:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._now = dialect.now

    def attempts(self, connection: sa.Connection, task_id: str) -> list[sa.Row[Any]]:
        """The attempts of a task that have ended, in the order they began."""
        attempt = self._attempt
        return list(
            connection.execute(sa.select(attempt).where(attempt.c.task_id == task_id).order_by(attempt.c.started_at, attempt.c.number))
        )

    def prune(self, connection: sa.Connection, *, keep_succeeded: float, keep_dead: float) -> int:
        """Forget some finished tasks that are older than they are kept, in seconds; how many (at most `BATCH`).

        A succeeded or cancelled task is kept ``keep_succeeded`` seconds, a dead one ``keep_dead``.
        """
        task = self._task
        old = sa.or_(self._older(State.DEAD, keep_dead), *(self._older(one, keep_succeeded) for one in (State.SUCCEEDED, State.CANCELLED)))
        ids = sorted(connection.scalars(sa.select(task.c.id).where(old).order_by(task.c.finished_at).limit(BATCH)))
        if not ids:
            return 0
        connection.execute(sa.delete(self._attempt).where(self._attempt.c.task_id.in_(ids)))
        return connection.execute(sa.delete(task).where(task.c.id.in_(ids), old)).rowcount

    def _older(self, state: State, seconds: float) -> sa.ColumnElement[bool]:
        task = self._task
        if seconds == float("inf"):
            return sa.false()
        return sa.and_(task.c.state == state.value, task.c.finished_at < self._now - duration_micros(seconds))
