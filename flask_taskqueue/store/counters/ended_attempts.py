"""Ended attempts: the latest ones, from which the figures of handlers are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.failures import REASONS
from ...core.states import State
from ...core.times import LAST_MICROS
from ..database.dialects import Dialect
from ..database.dialects.claims import FAILED_ROWS, is_state
from ..database.tables import Tables

MOST_ENDED = 10_000
"""The most attempts that succeeded, and the most that failed, that are examined."""


class EndedAttempt(NamedTuple):
    """An attempt that has ended, and where it went; instants are in microseconds."""

    started_at: int
    finished_at: int
    queue: str
    method: str
    url: str
    target: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LatestAttempts:
    """All attempts that ended since an instant (in microseconds), as far as they are kept."""

    since: int
    attempts: Sequence[EndedAttempt]


class EndedAttempts:
    """A reader of the latest attempts, whose cost does not grow with the table."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._now = dialect.now

    def latest(
        self, connection: sa.Connection, span: int, most: int = MOST_ENDED
    ) -> LatestAttempts:
        """Return the attempts that ended within the last ``span`` microseconds.

        If more than ``most`` succeeded or failed meanwhile, the time is shortened until neither
        did, so that what is returned is complete since ``since``. An attempt that succeeded counts
        when its task has ended. Left out are attempts whose result came too late to count, and
        those that were forgotten, with their task or as its first of many.
        """
        since = int(connection.scalar(sa.select(self._now)) or 0) - span
        succeeded = self._succeeded(connection, since, most)
        failed = self._failed(connection, since, most)
        for found in (succeeded, failed):
            if len(found) > most:  # there may be more that ended together with the last one
                since = max(since, found[-1].finished_at + 1)
        found = [*succeeded, *failed]
        return LatestAttempts(
            since, [attempt for attempt in found if attempt.finished_at >= since and attempt.reason]
        )

    def _succeeded(self, connection: sa.Connection, since: int, most: int) -> list[EndedAttempt]:
        """Return the latest that succeeded, at most one too many, the latest first.

        One that was forgotten has no reason.
        """
        task, attempt = self._task, self._attempt
        latest = (
            sa.select(task.c.id, task.c.finished_at, *_place(task))
            .where(is_state(task, State.SUCCEEDED), task.c.finished_at >= since)
            .order_by(task.c.finished_at.desc())
            .limit(most + 1)
            .subquery("latest")
        )
        took = attempt.c.finished_at - attempt.c.started_at
        mine = sa.and_(attempt.c.task_id == latest.c.id, attempt.c.reason == "success")
        rows = (
            sa.select(
                latest.c.finished_at - took, latest.c.finished_at, *_place(latest), attempt.c.reason
            )
            .select_from(latest.outerjoin(attempt, mine))
            .order_by(latest.c.finished_at.desc())
        )
        return [EndedAttempt._make(row) for row in connection.execute(rows)]

    def _failed(self, connection: sa.Connection, since: int, most: int) -> list[EndedAttempt]:
        """Return the latest that failed, at most one too many, the latest first."""
        task, attempt = self._task, self._attempt
        columns = (attempt.c.task_id, attempt.c.started_at, attempt.c.finished_at, attempt.c.reason)
        latest = latest_failed(attempt, columns, most + 1, attempt.c.finished_at >= since)
        rows = (
            sa.select(latest.c.started_at, latest.c.finished_at, *_place(task), latest.c.reason)
            .select_from(latest.join(task, task.c.id == latest.c.task_id))
            .order_by(latest.c.finished_at.desc())
        )
        return [EndedAttempt._make(row) for row in connection.execute(rows)]


def latest_failed(
    attempt: sa.Table,
    columns: Sequence[sa.ColumnElement[Any]],
    most: int,
    *only: sa.ColumnElement[bool],
) -> sa.Subquery:
    """Return the latest failed attempts with these columns, ``finished_at`` among them.

    Each reason is a range of an index, so that no more than ``most`` rows of each are read. What
    ended after all time, such as a text in SQLite, has been written by hand.
    """
    within_time = attempt.c.finished_at <= LAST_MICROS
    ranges = [
        sa.select(*columns)
        .where(
            attempt.c.reason == sa.literal_column(f"'{reason}'"), FAILED_ROWS, within_time, *only
        )
        .order_by(attempt.c.finished_at.desc())
        .limit(most)
        .subquery(reason)
        for reason in REASONS
    ]
    candidates = sa.union_all(*(sa.select(part) for part in ranges)).subquery("some")
    newest_first = candidates.c.finished_at.desc()
    return sa.select(candidates).order_by(newest_first).limit(most).subquery("latest")


def _place(task: sa.FromClause) -> list[sa.ColumnElement[str]]:
    return [task.c.queue, task.c.method, task.c.url, task.c.target]
