"""Statistics of queues: true values that cost little, however many tasks there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from ...core.queues.lanes import PRIORITIES
from ...core.states import State
from ..database.dialects import Dialect
from ..database.dialects.states import is_state, waits_for_key
from ..database.tables import Tables
from .counters import Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Of one queue: tasks by state, when the first is due (microseconds), attempts of late."""

    scheduled: int = 0
    leased: int = 0
    parked: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0
    due_at: int | None = None
    last_minute: int = 0
    last_hour: int = 0
    failed_last_hour: int = 0


class Statistics:
    """Finished tasks are counted as they finish (see `Tally`); live ones by a range of their
    index.
    """

    def __init__(self, tables: Tables, dialect: Dialect, counters: Counters) -> None:
        self._tables = tables
        self._counters = counters

    def of(self, connection: sa.Connection, queues: Collection[str]) -> dict[str, Counted]:
        """The statistics of these queues, as of one moment."""
        totals = {row.queue: row._asdict() for row in self._counters.totals(connection)}
        parked = self._parked(connection)
        found = {}
        for name in queues:
            counts = totals.get(name, {})
            counts.pop("queue", None)
            scheduled = self._count(connection, name, State.SCHEDULED)
            found[name] = Counted(
                scheduled=scheduled + parked.get(name, 0),
                leased=self._count(connection, name, State.LEASED),
                parked=parked.get(name, 0),
                due_at=self._first_due(connection, name) if scheduled else None,
                **counts,
            )
        return found

    def _count(self, connection: sa.Connection, queue: str, state: State) -> int:
        task = self._tables.task
        return (
            connection.scalar(
                sa.select(sa.func.count())
                .select_from(task)
                .where(is_state(task, state), task.c.queue == queue)
            )
            or 0
        )

    def _first_due(self, connection: sa.Connection, queue: str) -> int | None:
        task = self._tables.task
        scheduled = sa.and_(is_state(task, State.SCHEDULED), task.c.queue == queue)
        firsts = [
            connection.scalar(
                sa.select(sa.func.min(task.c.due_at)).where(scheduled, task.c.priority == one)
            )
            for one in PRIORITIES
        ]
        return min((one for one in firsts if one is not None), default=None)

    def _parked(self, connection: sa.Connection) -> dict[str, int]:
        """By queue: how many tasks wait for a key."""
        task, lock = self._tables.task, self._tables.lock
        waiting = waits_for_key(task, lock)
        statement = (
            sa.select(task.c.queue, sa.func.count().label("number"))
            .select_from(lock.join(task, waiting))
            .group_by(task.c.queue)
        )
        return {row.queue: row.number for row in connection.execute(statement)}
