"""Pulls: the leases on tasks of pull queues, which no dispatcher takes.

Such a task stays scheduled. Whoever leases it moves its ``due_at`` to when the lease runs out, so
that it is there again for the next one, and counts an attempt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...core.delivery.outcome import Death, Outcome
from ...core.names import lease_id
from ...core.retry import RetryOptions
from ...core.states import Record, State, one_more
from ...core.times import SECOND, duration_micros, plural
from ..database.dialects import Dialect
from ..database.dialects.claims import counted, is_state
from ..database.tables import Tables
from ..database.task_tables import ended
from .finish import Finish, Transition


@dataclass(frozen=True, slots=True)
class Tag:
    """The tag of tasks that are leased together; None for those without one."""

    name: str | None


class Pulls:
    """A store of such leases; each method joins the transaction of the connection it is given."""

    def __init__(self, tables: Tables, dialect: Dialect, finish: Finish) -> None:
        self._task = tables.task
        self._queue = tables.queue
        self._now = dialect.now
        self._finish = finish

    def is_paused(self, connection: sa.Connection, queue: str) -> bool:
        """Return whether a queue is paused."""
        return bool(
            connection.scalar(
                sa.select(sa.func.count()).where(
                    self._queue.c.name == queue, self._queue.c.paused_at.is_not(None)
                )
            )
        )

    def first_tag(self, connection: sa.Connection, queue: str) -> Tag | None:
        """Return the tag of the task that has been due longest; None if none is due."""
        row = connection.execute(
            self._due(queue).with_only_columns(self._task.c.tag).limit(1)
        ).one_or_none()
        return None if row is None else Tag(row.tag)

    def lease(
        self,
        connection: sa.Connection,
        queue: str,
        limit: int,
        seconds: float,
        *,
        retry: RetryOptions | None,
        tag: Tag | None = None,
    ) -> tuple[list[Record], list[Death]]:
        """Lease up to ``limit`` due tasks of a queue, those due first first; return them.

        With ``tag``, only tasks with this tag. What another has locked is left to it. A task that
        was leased as often as ``retry`` allows is dead instead, and counts towards the limit; these
        are returned too, with their outcomes.
        """
        found = self._due(queue)
        if tag is not None:
            found = found.where(*_has_tag(self._task.c.tag, tag.name))
        rows = connection.execute(
            found.with_only_columns(self._task, self._now.label("now"))
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        records = [Record._make(row[:-1]) for row in rows]
        most = _most_leases(retry)
        spent = [record for record in records if record.attempts >= most]
        dead = [(record, self._give_up(connection, record)) for record in spent]
        left = [record for record in records if record not in spent]
        period = duration_micros(seconds)
        return self._take(connection, left, rows[0].now, period) if left else [], dead

    def modify(
        self, connection: sa.Connection, record: Record, lease: str, due_at: int, seconds: float
    ) -> int | None:
        """Have a lease run out ``seconds`` from now; return when that is, in microseconds.

        Returns None if it has run out, or is no longer the lease with this id and end.
        """
        task = self._task
        now: int = connection.execute(sa.select(self._now)).scalar_one()
        until = now + duration_micros(seconds)
        mine = (
            task.c.id == record.id,
            task.c.lease_id == lease,
            task.c.due_at == due_at,
            task.c.due_at >= now,
            is_state(task, State.SCHEDULED),
        )
        changed = connection.execute(sa.update(task).where(*mine).values(due_at=until)).rowcount
        return until if changed else None

    def complete(self, connection: sa.Connection, ids: Sequence[str]) -> set[str]:
        """End tasks as succeeded, whoever has leased them; return those that had not ended."""
        task = self._task
        rows = connection.execute(
            sa.select(task, self._now.label("now"))
            .where(task.c.id.in_(sorted(ids)), is_state(task, State.SCHEDULED))
            .order_by(task.c.id)
            .with_for_update()
        ).all()
        done = [
            Transition(
                Record._make(row[:-1]),
                State.SUCCEEDED,
                attempt="success" if row.attempts else None,
                duration=max(0, row.now - (row.started_at or row.now)) / SECOND,
            )
            for row in rows
        ]
        self._end(connection, done, last_reason="success")
        return {row.id for row in rows}

    def _due(self, queue: str) -> sa.Select[Any]:
        """Return the due tasks of a queue in order; all of them have the same priority."""
        task = self._task
        return (
            sa.select(task)
            .where(
                is_state(task, State.SCHEDULED),
                task.c.queue == queue,
                task.c.priority == 0,
                task.c.due_at <= self._now,
            )
            .order_by(task.c.due_at, task.c.id)
        )

    def _take(
        self, connection: sa.Connection, records: Sequence[Record], now: int, period: int
    ) -> list[Record]:
        task, lease = self._task, lease_id()
        # MySQL assigns in the order of the columns, and none of these reads another.
        changes: dict[str, Any] = {
            "lease_id": lease,
            "attempts": counted(task.c.attempts),
            "due_at": now + period,
            "started_at": now,
            "first_tried_at": sa.func.coalesce(task.c.first_tried_at, now),
        }
        ids = sorted(record.id for record in records)
        connection.execute(sa.update(task).where(task.c.id.in_(ids)).values(changes))
        return [
            record._replace(lease_id=lease, attempts=one_more(record.attempts), due_at=now + period)
            for record in records
        ]

    def _give_up(self, connection: sa.Connection, record: Record) -> Outcome:
        error = (
            f"leased {plural(record.attempts, 'time')}, as often as the task_retry_limit "
            "of its queue allows, and not deleted"
        )
        was_leased = bool(record.attempts)
        attempt = "timeout" if was_leased else None
        end = Transition(record, State.DEAD, attempt=attempt, failed=was_leased)
        self._end(connection, [end], last_reason="timeout", last_error=error)
        return Outcome(State.DEAD, "timeout", error=error)

    def _end(self, connection: sa.Connection, ends: Sequence[Transition], **more: Any) -> None:
        if ends:
            ids = [end.record.id for end in ends]
            connection.execute(
                sa.update(self._task)
                .where(self._task.c.id.in_(ids))
                .values(ended(ends[0].state, self._now, **more))
            )
            self._finish.follow(connection, ends, "")


def _has_tag(
    column: sa.ColumnElement[str | None], name: str | None
) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for a tag.

    To MariaDB, texts that differ by blanks at their ends only are equal.
    """
    if name is None:
        return (column.is_(None),)
    return column == name, column + "." == f"{name}."


def _most_leases(retry: RetryOptions | None) -> float:
    """Return how often a task of a queue with these retry options may be leased.

    As in App Engine, a limit of the age beside that of the retries allows any number.
    """
    if retry is None or retry.task_retry_limit is None or retry.task_age_limit is not None:
        return math.inf
    return retry.task_retry_limit
