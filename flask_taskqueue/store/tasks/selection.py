"""Selection: the tasks that an action applies to, locked until they have been changed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import sqlalchemy as sa

from ...core.record import Record
from ...core.states import LIVE, State
from ..database.dialects import Dialect
from ..database.dialects.states import is_state, waits_for_key
from ..database.tables import Tables
from .filters import Filter

BATCH = 500
"""The most tasks that one transaction changes."""


class Action(Enum):
    """An action on many tasks at once."""

    REQUEUE = "requeue"
    RUN_NOW = "run now"
    DELETE = "delete"


_CHANGED = {
    Action.REQUEUE: (State.DEAD,),
    Action.RUN_NOW: (State.SCHEDULED,),
    Action.DELETE: (State.SCHEDULED, State.LEASED),
}


class Selection:
    """A selector of the tasks that an action applies to."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._key = tables.lock
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

    def conditions(self, action: Action, filter: Filter) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a task that matches and can be changed in this way."""
        task = self._task
        later = sa.or_(task.c.due_at > self._now, sa.literal(filter.ids is not None))
        fits = {
            Action.REQUEUE: sa.and_(task.c.state == State.DEAD.value, self._key_is_free()),
            Action.RUN_NOW: sa.and_(is_state(task, State.SCHEDULED), later),
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
