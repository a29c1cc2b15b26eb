"""What tells of troubles: the tasks that gave up of late, and where those go that are next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from ..core.failures import Failure
from ..core.states import State
from .dialects import Dialect
from .dialects.states import is_state
from .tables import Tables

_HOUR = 3600 * 1_000_000
MOST_DEAD = 1000
_NEXT = 200
"""How many tasks of a queue, the next ones, are looked at."""


class Troubles:
    """The statements of one database, each of which costs little, however many tasks there are.

    Each takes the connection whose transaction it is part of.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._now = dialect.now

    def dead(self, connection: sa.Connection) -> Sequence[Failure]:
        """The last attempts of tasks that gave up in the last hour, the latest first, at most `MOST_DEAD`."""
        task = self._task
        columns = (task.c.id, task.c.attempts, task.c.last_reason, task.c.last_status, task.c.last_error, task.c.finished_at)
        late = sa.and_(is_state(task, State.DEAD), task.c.finished_at > self._now - _HOUR)
        rows = sa.select(*columns, task.c.queue, task.c.url, task.c.state, task.c.target).where(late)
        return [Failure._make(row) for row in connection.execute(rows.order_by(task.c.finished_at.desc()).limit(MOST_DEAD))]

    def next_places(self, connection: sa.Connection, queues: Collection[str]) -> dict[tuple[str, str], int]:
        """Method and URL of the next tasks of these queues that go to the application itself, with how many of them go there."""
        task = self._task
        found: dict[tuple[str, str], int] = {}
        for queue in queues:
            of_queue = sa.and_(is_state(task, State.SCHEDULED), task.c.queue == queue)
            first = (
                sa.select(task.c.method, task.c.url, task.c.target).where(of_queue).order_by(task.c.priority, task.c.due_at).limit(_NEXT)
            )
            for method, url, target in connection.execute(first):
                if target is None and url.startswith("/"):
                    found[method, url] = found.get((method, url), 0) + 1
        return found
