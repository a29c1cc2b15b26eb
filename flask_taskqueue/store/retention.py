"""Retention: how long finished tasks are kept."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..core.names import WEBHOOK, WEBHOOK_LENGTH
from ..core.queues.lanes import PRIORITIES
from ..core.states import State
from ..core.times import LAST_MICROS, duration_micros
from .counters.counters import Counters, departures, ends
from .database.dialects import Dialect
from .database.dialects.claims import is_state
from .database.tables import Tables
from .database.task_tables import ended
from .leases.tracebacks import with_tracebacks
from .tasks.filters import Filter

MOST = 500


def end_unreachable(
    connection: sa.Connection, tables: Tables, now: sa.ColumnElement[int], counters: Counters
) -> int:
    """End some tasks as dead, with the reason, that no claim will ever find; return how many.

    ``add()`` stores no such task: they were written by hand. Each part of the condition is a range
    of the index of live tasks, so this costs nothing if there are none.
    """
    task = tables.task
    names = sorted(connection.scalars(sa.select(tables.queue.c.name)))
    found = sa.or_(
        *_foreign_queues(task, names),
        *_foreign_priorities(task, names),
        _after_all_time(task, names),
    )
    taken = State.SCHEDULED.value, State.LEASED.value
    waits = sa.and_(task.c.state.in_(taken), task.c.due_at.is_not(None))
    rows = connection.execute(
        sa.select(task.c.id, task.c.queue).where(waits, found).limit(MOST)
    ).all()
    if not rows:
        return 0
    ids = sorted(row.id for row in rows)
    changes = ended(
        State.DEAD,
        now,
        last_reason="permanent",
        last_error="the stored task is malformed: no such queue or priority, or a due_at after all "
        "time",
    )
    counters.add(connection, ends((row.queue, State.DEAD) for row in rows))
    return connection.execute(
        sa.update(task).where(task.c.id.in_(ids), waits).values(changes)
    ).rowcount


def _foreign_queues(task: sa.Table, names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Return the gaps between the names of queues."""
    if not names:
        return [sa.true()]
    between = [
        sa.and_(task.c.queue > low, task.c.queue < high) for low, high in itertools.pairwise(names)
    ]
    return [task.c.queue < names[0], *between, task.c.queue > names[-1]]


def _foreign_priorities(task: sa.Table, names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    beyond = (task.c.priority < PRIORITIES[0], task.c.priority > PRIORITIES[-1])
    return [sa.and_(task.c.queue == name, outside) for name in names for outside in beyond]


def _after_all_time(task: sa.Table, names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return whether a task is due after the calendar's end; SQLite sorts a text there, too."""
    return sa.and_(
        task.c.queue.in_(names), task.c.priority.in_(PRIORITIES), task.c.due_at > LAST_MICROS
    )


BATCH = 500

Tombstones = Mapping[str | None, float]
"""The seconds that names stay taken, by queue; under None, those of webhooks in any queue."""


class FinishedTasks:
    """A keeper that forgets finished tasks; each method joins its connection's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect, counters: Counters) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._traceback = tables.traceback
        self._now = dialect.now
        self._counters = counters

    def attempts(self, connection: sa.Connection, task_id: str) -> list[sa.Row[Any]]:
        """Return the attempts of a task that have ended, in the order in which they began.

        Each comes with its traceback, whoever has written it.
        """
        attempt = self._attempt
        rows = with_tracebacks(attempt, self._traceback).where(attempt.c.task_id == task_id)
        return list(connection.execute(rows.order_by(attempt.c.started_at, attempt.c.number)))

    def latest(self, connection: sa.Connection, ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
        """Return when the latest attempt of each of these tasks ended, and its status.

        A task whose latest attempt is under way, or that had none, is left out.
        """
        task, attempt = self._task, self._attempt
        rows: Iterable[sa.Row[Any]] = connection.execute(
            sa.select(attempt.c.task_id, attempt.c.finished_at, attempt.c.status)
            .join(
                task, sa.and_(task.c.id == attempt.c.task_id, task.c.attempts == attempt.c.number)
            )
            .where(task.c.id.in_(list(ids)))
        )
        found: dict[str, sa.Row[Any]] = {row.task_id: row for row in rows}
        return found

    def prune(
        self,
        connection: sa.Connection,
        *,
        keep_succeeded: float,
        keep_dead: float,
        tombstones: Tombstones,
    ) -> int:
        """Forget some finished tasks that have been kept long enough; return how many.

        At most `BATCH` are forgotten. The times are in seconds. A succeeded or cancelled task is
        kept for ``keep_succeeded`` seconds, a dead one for ``keep_dead``; one with a name is kept
        at least for as long as its queue's ``tombstones`` reserve the name.
        """
        named = self._taken_names(tombstones)
        rows: list[sa.Row[Any]] = []
        for state, kept in (
            (State.SUCCEEDED, keep_succeeded),
            (State.CANCELLED, keep_succeeded),
            (State.DEAD, keep_dead),
        ):
            if len(rows) < BATCH and kept != float("inf"):
                rows += self._lock_older(connection, state, kept, named, BATCH - len(rows))
        return self._forget(connection, rows)

    def forget_some(self, connection: sa.Connection, filter: Filter, tombstones: Tombstones) -> int:
        """Forget up to `BATCH` finished tasks that match; return how many.

        The filter names their state. Names are kept as by `prune`.
        """
        return self._forget(connection, self._forgotten_next(connection, filter, tombstones))

    def forgettable(
        self, connection: sa.Connection, filter: Filter, tombstones: Tombstones
    ) -> list[str]:
        """Return the ids of the tasks that `forget_some` would forget, and lock them."""
        return [row.id for row in self._forgotten_next(connection, filter, tombstones)]

    def count_some(self, connection: sa.Connection, filter: Filter, tombstones: Tombstones) -> int:
        """Count the tasks that repeated calls of `forget_some` would forget."""
        conditions = self._forgettable(filter, tombstones)
        return (
            connection.scalar(sa.select(sa.func.count()).select_from(self._task).where(*conditions))
            or 0
        )

    def count(
        self,
        connection: sa.Connection,
        *,
        keep_succeeded: float,
        keep_dead: float,
        tombstones: Tombstones,
    ) -> int:
        """Count the tasks that `prune` would forget by now."""
        named = self._taken_names(tombstones)
        total = 0
        for state, kept in (
            (State.SUCCEEDED, keep_succeeded),
            (State.CANCELLED, keep_succeeded),
            (State.DEAD, keep_dead),
        ):
            if kept != float("inf"):
                old = self._older(state, kept, named)
                total += (
                    connection.scalar(sa.select(sa.func.count()).select_from(self._task).where(old))
                    or 0
                )
        return total

    def last_success(self, connection: sa.Connection, task_id: str) -> sa.Row[Any] | None:
        """Return the attempt with which a task succeeded."""
        attempt = self._attempt
        return connection.execute(
            sa.select(attempt)
            .where(attempt.c.task_id == task_id, attempt.c.reason == "success")
            .order_by(attempt.c.started_at.desc())
            .limit(1)
        ).one_or_none()

    def _forgotten_next(
        self, connection: sa.Connection, filter: Filter, tombstones: Tombstones
    ) -> list[sa.Row[Any]]:
        task = self._task
        statement = sa.select(task.c.id, task.c.queue, task.c.state).where(
            *self._forgettable(filter, tombstones)
        )
        ordered = (
            statement.order_by(task.c.finished_at).limit(BATCH).with_for_update(skip_locked=True)
        )
        return list(connection.execute(ordered))

    def _forgettable(self, filter: Filter, tombstones: Tombstones) -> list[sa.ColumnElement[bool]]:
        return [
            is_state(self._task, filter.state or State.DEAD),
            *filter.conditions(self._task),
            ~self._taken_names(tombstones),
        ]

    def _forget(self, connection: sa.Connection, rows: Collection[sa.Row[Any]]) -> int:
        ids = sorted(row.id for row in rows)
        if not ids:
            return 0
        for table in (self._traceback, self._attempt):
            connection.execute(sa.delete(table).where(table.c.task_id.in_(ids)))
        self._counters.add(connection, departures((row.queue, row.state) for row in rows))
        return connection.execute(sa.delete(self._task).where(self._task.c.id.in_(ids))).rowcount

    def _taken_names(self, tombstones: Tombstones) -> sa.ColumnElement[bool]:
        """Return the condition for a name that the tombstones still reserve."""
        task = self._task
        recent = (
            sa.and_(
                _is_webhook(task) if queue is None else task.c.queue == queue,
                task.c.finished_at >= self._now - duration_micros(ttl),
            )
            for queue, ttl in tombstones.items()
        )
        return sa.and_(task.c.name.is_not(None), sa.or_(sa.false(), *recent))

    def _older(
        self, state: State, seconds: float, named: sa.ColumnElement[bool]
    ) -> sa.ColumnElement[bool]:
        old = self._task.c.finished_at < self._now - duration_micros(seconds)
        return sa.and_(is_state(self._task, state), old, ~named)

    def _lock_older(
        self,
        connection: sa.Connection,
        state: State,
        seconds: float,
        named: sa.ColumnElement[bool],
        most: int,
    ) -> list[sa.Row[Any]]:
        """Lock tasks that ended long enough ago, the first to end first, by a range of an index."""
        task = self._task
        statement = sa.select(task.c.id, task.c.queue, task.c.state).where(
            self._older(state, seconds, named)
        )
        return list(
            connection.execute(
                statement.order_by(task.c.finished_at).limit(most).with_for_update(skip_locked=True)
            )
        )


def _is_webhook(task: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        task.c.name.startswith(WEBHOOK, autoescape=True),
        sa.func.length(task.c.name) == WEBHOOK_LENGTH,
    )
