"""Listings: tasks page by page, each list in the order of its index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ...core.states import State
from ..database.dialects.claims import is_state, waits_for_key
from ..database.tables import Tables
from .backlog import Backlog
from .filters import Filter, Visible

LOOKED_AT = 20_000
"""The number of tasks that a filter looks through before it asks whether to continue."""

_JUDGED = 1_000
"""The number of candidates read at a time, if what is visible decides about them."""

_PLACE = re.compile(r"(-?[0-9]{1,18})\.([0-9A-Za-z-]{1,26})", re.ASCII)


class ListKind(StrEnum):
    """A list of tasks: all of them, or those of one state, scheduled ones by what they wait for."""

    ALL = "all"
    DUE = "due"
    RUNNING = "running"
    LOST = "lost"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    WAITING = "waiting"
    FORWARDED = "forwarded"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list, right behind a task: the list's sort key for that task, and its id."""

    at: int
    id: str

    def __str__(self) -> str:
        return f"{self.at}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Return the place that a text describes, or None if it describes none."""
        match = _PLACE.fullmatch(text)
        return None if match is None else cls(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class Listing:
    """One page: ids of tasks, and where the next page begins, if there may be one.

    ``is_partial`` says that a filter has looked through as many tasks as it may and found fewer
    than a page.
    """

    ids: list[str]
    next: Cursor | None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class _Range:
    """A range of an index: its tasks, by ``key`` and id, up or down; without a key by id alone."""

    conditions: Sequence[sa.ColumnElement[bool]]
    key: sa.Column[Any] | None
    descending: bool
    source: sa.FromClause

    def behind(self, task: sa.Table, place: Cursor) -> sa.ColumnElement[bool]:
        """Return whether a task comes after a place."""
        after = task.c.id < place.id if self.descending else task.c.id > place.id
        if self.key is None:
            return after
        # An index can be entered by the bound on the key alone.
        beyond, from_there = (
            (self.key < place.at, self.key <= place.at)
            if self.descending
            else (self.key > place.at, self.key >= place.at)
        )
        return sa.and_(from_there, sa.or_(beyond, after))


class Listings:
    """A reader of lists of tasks, page by page."""

    def __init__(self, tables: Tables, backlog: Backlog) -> None:
        self._task = tables.task
        self._lock = tables.lock
        self._backlog = backlog
        self._is_lost = backlog.is_lost

    def page(
        self,
        connection: sa.Connection,
        kind: ListKind,
        filter: Filter,
        after: Cursor | None,
        limit: int,
        visible: Visible | None = None,
    ) -> Listing:
        """Return the next ``limit`` tasks of a list that match.

        The newest, the first to be due or the last to end comes first. ``visible`` restricts them
        by what can be seen of them.
        """
        ranges = list(self._ranges(connection, kind, filter.queue))
        by_range = kind in (
            ListKind.DUE,
            ListKind.RUNNING,
            ListKind.LOST,
            ListKind.SCHEDULED,
            ListKind.RETRYING,
            ListKind.FORWARDED,
        )
        loose = (replace(filter, queue=None) if by_range else filter).conditions(self._task)
        seen = None if visible is None or visible.is_anything else visible
        loose += [] if seen is None else seen.conditions(self._task)
        if kind is ListKind.RETRYING:
            loose.append(self._task.c.attempts > 0)
        elif kind is ListKind.SCHEDULED:
            loose.append(self._task.c.attempts == 0)
        rows: list[Cursor] = []
        ends: list[Cursor] = []
        for part in ranges:
            end = self._end(connection, part, after) if loose and filter.ids is None else None
            ends += [] if end is None else [end]
            more = [*loose, *([] if end is None else [~part.behind(self._task, end)])]
            rows += self._seen(connection, part, after, more, limit + 1, seen)
        return _merged(rows, ends, limit, descending=bool(ranges) and ranges[0].descending)

    def _ranges(
        self, connection: sa.Connection, kind: ListKind, queue: str | None
    ) -> Iterable[_Range]:
        task = self._task
        if kind is ListKind.ALL:
            return [_Range([], None, True, task)]
        if kind in (ListKind.SUCCEEDED, ListKind.DEAD, ListKind.CANCELLED):
            return [_Range([is_state(task, State(kind.value))], task.c.finished_at, True, task)]
        if kind is ListKind.WAITING:
            parked = waits_for_key(task, self._lock)
            return [_Range([], None, False, self._lock.join(task, parked))]
        if kind is ListKind.FORWARDED:
            return self._forwarded(connection, queue)
        return self._lanes(connection, kind, queue)

    def _forwarded(self, connection: sa.Connection, queue: str | None) -> Iterable[_Range]:
        """Return the tasks that were handed over, of each queue with an engine."""
        task = self._task
        for name in self._backlog.engines(connection):
            if queue in (None, name):
                there = (task.c.queue == name, task.c.priority == 0)
                yield _Range([is_state(task, State.FORWARDED), *there], task.c.due_at, False, task)

    def _lanes(
        self, connection: sa.Connection, kind: ListKind, queue: str | None
    ) -> Iterable[_Range]:
        """Return the tasks that have not ended, queue by queue and priority by priority."""
        task = self._task
        for lane in self._backlog.lanes(connection):
            leased = kind in (ListKind.RUNNING, ListKind.LOST)
            there = lane.leased if leased else lane.due_at is not None
            if not there or queue not in (None, lane.queue):
                continue
            state = State.LEASED if leased else State.SCHEDULED
            conditions = [
                is_state(task, state),
                task.c.queue == lane.queue,
                task.c.priority == lane.priority,
            ]
            if kind is ListKind.DUE:
                conditions.append(task.c.due_at <= lane.now)
            elif leased:
                conditions.append(self._is_lost if kind is ListKind.LOST else ~self._is_lost)
            else:
                conditions.append(task.c.due_at > lane.now)
            yield _Range(conditions, task.c.due_at, False, task)

    def _end(self, connection: sa.Connection, part: _Range, after: Cursor | None) -> Cursor | None:
        """Return where a look ends, or None if the range ends before."""
        found = self._rows(connection, part, after, [], 1, offset=LOOKED_AT)
        return found[0] if found else None

    def _seen(
        self,
        connection: sa.Connection,
        part: _Range,
        after: Cursor | None,
        more: Sequence[sa.ColumnElement[bool]],
        limit: int,
        seen: Visible | None,
    ) -> list[Cursor]:
        """Return the rows of a range, counting only those that are seen to match."""
        if seen is None:
            return self._rows(connection, part, after, more, limit)
        found: list[Cursor] = []
        columns, read = seen.columns(self._task), _JUDGED
        while len(found) < limit and read == _JUDGED:
            rows = connection.execute(
                self._statement(part, after, more, columns).limit(_JUDGED)
            ).all()
            found += [Cursor(row.at, row.id) for row in rows if seen.fits(row.url, row.is_said)]
            after, read = (Cursor(rows[-1].at, rows[-1].id) if rows else after), len(rows)
        return found[:limit]

    def _rows(
        self,
        connection: sa.Connection,
        part: _Range,
        after: Cursor | None,
        more: Sequence[sa.ColumnElement[bool]],
        limit: int,
        offset: int = 0,
    ) -> list[Cursor]:
        statement = self._statement(part, after, more).limit(limit)
        return [
            Cursor(row.at, row.id)
            for row in connection.execute(statement.offset(offset) if offset else statement)
        ]

    def _statement(
        self,
        part: _Range,
        after: Cursor | None,
        more: Sequence[sa.ColumnElement[bool]],
        columns: Sequence[sa.ColumnElement[Any]] = (),
    ) -> sa.Select[Any]:
        """Return the statement for the rows behind a place, in their order."""
        task = self._task
        key = sa.literal(0) if part.key is None else part.key
        # With coalesce the order is not that of the primary key, along which the few tasks of a
        # join are far apart.
        by_id = task.c.id if part.source is task else sa.func.coalesce(task.c.id, "")
        order = [by_id] if part.key is None else [part.key, by_id]
        statement = (
            sa.select(key.label("at"), task.c.id, *columns)
            .select_from(part.source)
            .where(*part.conditions, *more)
        )
        if after is not None:
            statement = statement.where(part.behind(task, after))
        return statement.order_by(*(each.desc() if part.descending else each for each in order))


def _merged(rows: list[Cursor], ends: Sequence[Cursor], limit: int, *, descending: bool) -> Listing:
    """Merge rows of several ranges in one order, as far as each of the ranges was read."""

    def rank(place: Cursor) -> tuple[int, str]:
        return place.at, place.id

    end = (max if descending else min)(ends, key=rank, default=None)
    rows.sort(key=rank, reverse=descending)
    if end is not None:
        rows = [
            row
            for row in rows
            if (rank(row) >= rank(end) if descending else rank(row) <= rank(end))
        ]
    ids = [row.id for row in rows[:limit]]
    if len(rows) > limit:
        return Listing(ids, rows[limit - 1])
    return Listing(ids, end, is_partial=end is not None)
