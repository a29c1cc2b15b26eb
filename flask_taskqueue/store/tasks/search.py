"""The tasks that a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...core.errors import UnknownTaskError
from ...core.states import LIVE, Record, State
from ..database.dialects.claims import is_state, waits_for_key
from ..database.lease_ends import shown_columns
from ..database.tables import Tables
from .filters import SEARCHED, Filter

OF_STATE = 50_000
"""The number of tasks of one state that are examined along their index."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Tasks, the newest first; with ``is_partial`` there are older ones that were not examined."""

    records: list[Record]
    is_partial: bool = False


def unknown_task_error(task_id: str) -> UnknownTaskError:
    """Return the error for an id that no task has."""
    return UnknownTaskError(f"there is no task {task_id!r}; it never was, or has been pruned")


class Search:
    """A finder of tasks as they are shown: ``due_at`` of a leased one is when its lease ends.

    This is for connections that only read, never for a transaction of the app (see `lease_ends`).
    """

    def __init__(self, tables: Tables) -> None:
        self._task = tables.task
        self._lock = tables.lock
        self._shown = shown_columns(tables)

    def get(self, connection: sa.Connection, task_id: str) -> Record:
        """Return a task. Raises `UnknownTaskError`."""
        found = self.get_all(connection, [task_id])
        if not found:
            raise unknown_task_error(task_id)
        return found[0]

    def get_all(self, connection: sa.Connection, ids: Sequence[str]) -> list[Record]:
        """Return these tasks, as far as they exist."""
        these = Filter(ids=ids).conditions(self._task)
        return _records(connection, sa.select(*self._shown).where(*these))

    def find(self, connection: sa.Connection, filter: Filter, limit: int) -> list[Record]:
        """Return the newest tasks that match, however many have to be examined."""
        if self._is_crowded(connection, filter.state):
            return self._along_ids(connection, filter, limit)
        return self._of_state(connection, filter, limit)

    def live(self, connection: sa.Connection, queue: str, after: str, limit: int) -> list[Record]:
        """Return the oldest tasks of a queue that have not ended, after the one with this id."""
        task = self._task
        return _records(
            connection,
            sa.select(task)
            .where(
                task.c.state.in_([state.value for state in LIVE]),
                task.c.queue == queue,
                task.c.id > after,
            )
            .order_by(task.c.id)
            .limit(limit),
        )

    def look(self, connection: sa.Connection, filter: Filter, limit: int) -> SearchResult:
        """Return the matching tasks among the newest `SEARCHED`, so that it is cheap.

        For a state of ended tasks, the `OF_STATE` that ended last are examined. By name or id,
        which are indexed, all tasks are searched.
        """
        state = filter.state
        if filter.name is not None or filter.ids is not None:
            return SearchResult(self.find(connection, filter, limit))
        if not self._is_crowded(connection, state):
            return SearchResult(self._of_state(connection, filter, limit))
        task = self._task
        if state is None or state in LIVE:
            oldest = connection.scalar(
                sa.select(task.c.id).order_by(task.c.id.desc()).limit(1).offset(SEARCHED - 1)
            )
            newest = [] if oldest is None else [task.c.id >= oldest]
            records = self._along_ids(connection, filter, limit, newest)
        else:
            ended = (
                sa.select(task.c.finished_at)
                .where(is_state(task, state))
                .order_by(task.c.finished_at.desc())
            )
            oldest = connection.scalar(ended.limit(1).offset(OF_STATE - 1))
            records = self._of_state(connection, filter, limit, [task.c.finished_at >= oldest])
        return SearchResult(records, is_partial=oldest is not None and len(records) < limit)

    def _is_crowded(self, connection: sa.Connection, state: State | None) -> bool:
        """Return whether more tasks have this state than are examined along its index.

        Without a state, that is always so.
        """
        if state is None:
            return True
        key = self._task.c.due_at if state in LIVE else self._task.c.finished_at
        there = sa.select(key).where(is_state(self._task, state))
        ordered = there if state in LIVE else there.order_by(key.desc())
        return connection.execute(ordered.limit(1).offset(OF_STATE)).first() is not None

    def _along_ids(
        self,
        connection: sa.Connection,
        filter: Filter,
        limit: int,
        more: Sequence[sa.ColumnElement[bool]] = (),
    ) -> list[Record]:
        task = self._task
        return _records(
            connection,
            sa.select(*self._shown)
            .where(*filter.conditions(task), *more)
            .order_by(task.c.id.desc())
            .limit(limit),
        )

    def _of_state(
        self,
        connection: sa.Connection,
        filter: Filter,
        limit: int,
        more: Sequence[sa.ColumnElement[bool]] = (),
    ) -> list[Record]:
        """Find tasks along the index of the state, which lacks tasks that wait for a key."""
        task, state = self._task, State(filter.state or State.SCHEDULED)
        # With coalesce the order is not that of the primary key, along which the tasks of a state
        # may be far apart.
        statement = (
            sa.select(*self._shown)
            .where(*filter.conditions(task), *more)
            .order_by(sa.func.coalesce(task.c.id, "").desc())
            .limit(limit)
        )
        found = _records(connection, statement.where(is_state(task, state)))
        if state is State.SCHEDULED:
            parked = waits_for_key(task, self._lock)
            found += _records(connection, statement.select_from(self._lock.join(task, parked)))
        return sorted(found, key=lambda record: record.id, reverse=True)[:limit]


def _records(connection: sa.Connection, statement: sa.Select[Any]) -> list[Record]:
    return [Record._make(row) for row in connection.execute(statement)]
