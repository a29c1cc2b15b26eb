"""Completions: the end of an attempt in the transaction of its handler.

There is one row for each attempt (task, attempt number, lease), and it records who ended the
attempt. A transactional handler inserts it in its own transaction, so the row is there exactly if
the handler's changes are. Anyone else who ends a lease that a handler may still hold (it ran out,
was given back, its task was deleted, its deadline passed) inserts the row too, and the database
lets only one of them commit. The task's own row is changed afterwards, by the dispatcher that
records the attempt or, if that has died, by the one that would take the task over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ...core.errors import ConfigurationError
from ...core.states import Record, State
from ...core.times import SECOND
from ..database.dialects import Dialect, Mark
from ..database.dialects.claims import counted, is_state
from ..database.prepared import Prepared
from ..database.tables import Tables
from ..database.task_tables import ended
from ..database.transaction import AUTOCOMMIT
from .attempts import NOT_KEPT, StoredReply
from .finish import Finish, Transition


class Completions:
    """The ends of attempts in the transactions of their handlers."""

    def __init__(self, tables: Tables, dialect: Dialect, finish: Finish) -> None:
        task, attempt = tables.task, tables.attempt
        self._attempt = attempt
        self._dialect = dialect
        self._finish = finish
        mine = (
            task.c.id == sa.bindparam("id"),
            task.c.lease_id == sa.bindparam("lease"),
            is_state(task, State.LEASED),
        )
        self._fence = Prepared(sa.update(task).where(*mine).values(held_by=task.c.held_by))
        self._success = Prepared(sa.update(task).where(*mine).values(_success(task, dialect.now)))
        self._insert = Prepared(self._completion(mine))

    def begin(self, connection: sa.Connection, record: Record) -> Mark | None:
        """Mark the handler's transaction, which has just begun; return None if its lease is lost.

        If one writer locks the whole database, the lease is checked by writing, so that the rest of
        the transaction has the write lock. Raises `ConfigurationError` if the connection commits
        each statement at once.
        """
        if self._dialect.locks_by_writing:
            fenced = self._fence.execute(connection, {"id": record.id, "lease": record.lease_id})
            if fenced.rowcount != 1:
                return None
        if self._dialect.commits_by_itself(connection):
            raise ConfigurationError(AUTOCOMMIT)
        return self._dialect.mark(connection)

    def complete(
        self,
        connection: sa.Connection,
        record: Record,
        status: int,
        mark: Mark,
        reply: StoredReply = NOT_KEPT,
    ) -> bool | None:
        """Store that the handler has returned; its changes are committed together with this.

        The ``reply`` is that of the handler, if it is kept. Returns False if somebody else ended
        the lease, and None if this is not the transaction of the ``mark``: then nothing of it may
        be committed.
        """
        asks_first = self._dialect.in_marked is None
        if asks_first and not mark.holds(connection):
            return None
        values = {
            "task_id": record.id,
            "number": record.attempts,
            "lease_id": record.lease_id,
            "started_at": record.started_at,
            "held_by": record.held_by,
            "status": status,
            "reply_headers": reply.headers,
            "reply_body": reply.body,
            "id": record.id,
            "lease": record.lease_id,
            **mark.values,
        }
        try:
            if self._insert.execute(connection, values).rowcount == 1:
                return True
        except sa.exc.IntegrityError:
            return False
        return False if asks_first or mark.holds(connection) else None

    def _completion(self, mine: Sequence[sa.ColumnElement[bool]]) -> sa.Insert:
        """Return the insert of the attempt, which applies only while its lease holds.

        It checks the lease only if that does not lock rows that others change, and the transaction
        only where a condition can.
        """
        attempt = self._attempt
        names = (
            *("task_id", "number", "lease_id", "started_at", "held_by"),
            *("status", "reply_headers", "reply_body"),
        )
        binds = {name: sa.bindparam(name, type_=attempt.c[name].type) for name in names}
        columns: dict[str, sa.ColumnElement[Any]] = {
            **binds,
            "reason": sa.literal("success"),
            "finished_at": self._dialect.now,
        }
        if self._dialect.locks_what_it_copies:
            return sa.insert(attempt).values(columns)
        rows = sa.select(*columns.values()).where(sa.exists().where(*mine))
        if self._dialect.in_marked is not None:
            rows = rows.where(self._dialect.in_marked)
        return sa.insert(attempt).from_select(list(columns), rows, include_defaults=False)

    def finish(self, connection: sa.Connection, record: Record, source: str) -> int | None:
        """End a leased task whose handler has completed, and all that follows; return the status.

        Returns None if the handler has not completed. Each concurrent writer has a ``source`` of
        its own.
        """
        attempt = self._attempt
        mine = (
            attempt.c.task_id == record.id,
            attempt.c.number == record.attempts,
            attempt.c.lease_id == record.lease_id,
        )
        columns = (attempt.c.status, attempt.c.finished_at)
        row = connection.execute(
            sa.select(*columns).where(*mine, attempt.c.reason == "success")
        ).one_or_none()
        if row is None:
            return None
        status: int = row.status
        if (
            self._success.execute(
                connection, {"id": record.id, "lease": record.lease_id, "status": status}
            ).rowcount
            == 1
        ):
            took = max(0, row.finished_at - (record.started_at or row.finished_at)) / SECOND
            self._finish.follow(
                connection,
                [Transition(record, State.SUCCEEDED, attempt="success", duration=took)],
                source,
            )
        return status


def _success(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the changes to a task that follow from the end of its handler's transaction."""
    return ended(
        State.SUCCEEDED,
        now,
        executions=counted(task.c.executions),
        answered=counted(task.c.answered),
        last_status=sa.bindparam("status"),
        last_reason="success",
        last_error=None,
    )
