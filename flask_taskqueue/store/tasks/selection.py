"""The tasks that a change of many tasks applies to."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import sqlalchemy as sa

from ...core.states import LIVE, Record, State
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state, waits_for_key
from ..database.tables import Tables
from ..queues.deleted_queues import is_of_deleted
from ..queues.pull_queues import is_pulled
from .filters import Filter

BATCH = 500
"""The most tasks that one transaction changes."""


class Action(Enum):
    """An action on many tasks at once."""

    REQUEUE = "requeue"
    RUN_NOW = "run now"
    DELETE = "delete"

    @property
    def starts(self) -> bool:
        """Whether tasks are attempted because of it, and may fail and match once more."""
        return self is not Action.DELETE


_CHANGED = {
    Action.REQUEUE: (State.DEAD,),
    Action.RUN_NOW: (State.SCHEDULED, State.FORWARDED),
    Action.DELETE: (State.SCHEDULED, State.LEASED, State.FORWARDED),
}


class Selection:
    """A selector of the tasks that an action applies to."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._key = tables.lock
        self._is_of_deleted = is_of_deleted(tables)
        self._is_pulled = is_pulled(tables)
        self._now = dialect.now

    def lock(self, connection: sa.Connection, action: Action, filter: Filter) -> list[Record]:
        """Return some tasks that match, which nobody else changes until the transaction ends.

        Tasks given by id are found by id; others are found along the index of each state they can
        have, because by id they may be far apart.
        """
        task, conditions = self._task, self.conditions(action, filter)
        if filter.ids is not None:
            return self._locked(connection, conditions, [task.c.id], BATCH)
        found: list[Record] = []
        for state in _CHANGED[action]:
            order = (
                [task.c.queue, task.c.priority, task.c.due_at]
                if state in LIVE
                else [task.c.finished_at]
            )
            found += self._locked(
                connection,
                [is_state(task, state), *conditions],
                [*order, task.c.id],
                BATCH - len(found),
            )
        if action is Action.DELETE and len(found) < BATCH:
            ids = self._parked(connection, conditions, BATCH - len(found))
            found += self._locked(
                connection,
                [task.c.id.in_(ids), task.c.due_at.is_(None), *conditions],
                [task.c.id],
                len(ids),
            )
        return found

    def ids(self, connection: sa.Connection, action: Action, filter: Filter) -> list[str]:
        """Return the ids of some tasks that match, locked as by `lock`."""
        return [record.id for record in self.lock(connection, action, filter)]

    def is_left(
        self, connection: sa.Connection, action: Action, filter: Filter, ids: Sequence[str]
    ) -> bool:
        """Return whether one of these tasks still matches, so that the action has not changed it.

        One transaction changes all of them or none.
        """
        conditions = [self._task.c.id.in_(ids), *self.conditions(action, filter)]
        found = sa.select(self._task.c.id).where(*conditions).limit(1)
        return connection.execute(found).first() is not None

    def conditions(self, action: Action, filter: Filter) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a task that matches and can be changed in this way."""
        task = self._task
        later = sa.or_(task.c.due_at > self._now, sa.literal(filter.ids is not None))
        fits = {
            Action.REQUEUE: sa.and_(
                task.c.state == State.DEAD.value, self._key_is_free(), ~self._is_of_deleted
            ),
            Action.RUN_NOW: sa.and_(
                sa.or_(is_state(task, State.SCHEDULED), is_state(task, State.FORWARDED)),
                ~self._is_pulled,  # a worker may hold its lease, which nobody takes away
                later,
            ),
            Action.DELETE: task.c.state.in_([state.value for state in LIVE]),
        }
        return [fits[action], *filter.conditions(task)]

    def _key_is_free(self) -> sa.ColumnElement[bool]:
        """Return whether no unfinished task has the key that a task was given."""
        task, other = self._task, self._task.alias("other")
        holder = sa.select(other.c.id).where(
            other.c.queue == task.c.queue, other.c.unique_key == task.c.given_key
        )
        return sa.or_(task.c.given_key.is_(None), ~holder.exists())

    def _locked(
        self,
        connection: sa.Connection,
        conditions: Sequence[sa.ColumnElement[bool]],
        order: Sequence[sa.Column[Any]],
        limit: int,
    ) -> list[Record]:
        if not limit:
            return []
        statement = (
            sa.select(self._task).where(*conditions).order_by(*order).limit(limit).with_for_update()
        )
        return [Record._make(row) for row in connection.execute(statement)]

    def _parked(
        self, connection: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], limit: int
    ) -> list[str]:
        """Return the ids of some tasks that wait for a key, which the live index lacks."""
        task = self._task
        waiting = waits_for_key(task, self._key)
        return list(
            connection.scalars(
                sa.select(task.c.id)
                .select_from(self._key.join(task, waiting))
                .where(*conditions)
                .limit(limit)
            )
        )


def last_of_each_key(tasks: Sequence[Record]) -> list[Record]:
    """Return tasks without those that were given the same key as a newer one."""
    newest = {
        (record.queue, record.given_key): record.id
        for record in sorted(tasks, key=lambda record: record.id)
    }
    return [
        record
        for record in tasks
        if record.given_key is None or newest[record.queue, record.given_key] == record.id
    ]
