"""Attempts: their results, ready to be recorded, and the log of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.delivery.outcome import Outcome
from ...core.delivery.verdict import Reply, kept_headers
from ...core.queues.circuits import CircuitChange
from ...core.security.encryption import Encryption
from ...core.states import Lease, Record, State
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.prepared import Prepared
from ..database.tables import Tables
from ..database.transaction import MovedError
from .finish import Finish, Transition

WITHDRAWN = "withdrawn"
"""The reason of an attempt whose lease was taken from its handler while it ran.

The task was deleted, or given back at a stop.
"""

COPIED = {
    "task_id": "id",
    "number": "attempts",
    "lease_id": "lease_id",
    "started_at": "started_at",
    "held_by": "held_by",
}
"""The columns of an attempt that are copied from its task, by the names that they have there."""

_RAN_OUT = "the lease ran out: the process died or was cut off while the task ran"


class StoredReply(NamedTuple):
    """A reply as it is stored, encrypted where there are keys."""

    headers: str | None = None
    body: bytes | None = None

    @classmethod
    def of(cls, reply: Reply, encryption: Encryption) -> StoredReply:
        """Return a reply as it is stored."""
        body = encryption.encrypt(reply.body) if reply.body else None
        return cls(encryption.encrypt_text(kept_headers(reply)), body)

    def __repr__(self) -> str:
        """Leave out what the reply holds, because a repr ends up in logs."""
        return "<StoredReply>"


NOT_KEPT = StoredReply()


class AttemptResult(NamedTuple):
    """The result of an attempt."""

    record: Record
    outcome: Outcome
    duration: float
    reply_headers: str | None = None
    reply_body: bytes | None = None
    traceback: str | None = None
    completed: bool = False
    """Whether the handler's own transaction has logged the attempt."""
    goes_on: bool = False
    """Whether its thread has not stopped at the deadline and may still run.

    Its places then stay taken.
    """
    reported: bool = False
    """Whether the caller of the handler has already reported its exception."""

    def __repr__(self) -> str:
        """Leave out what the task and its reply hold, because a repr ends up in logs."""
        return f"<AttemptResult {self.record!r} {self.outcome!r}>"


def without_values(result: AttemptResult, why: str) -> AttemptResult:
    """Return what is recorded in place of a result that is refused: nothing of what it holds.

    Its task is dead. If the handler's own transaction has completed the attempt, the task has
    succeeded, but nothing follows it.
    """
    result = result._replace(duration=0.0, reply_headers=None, reply_body=None, traceback=None)
    if result.completed:
        return result._replace(record=result.record._replace(follow_up=None))
    executed = result.outcome.executed
    return result._replace(outcome=Outcome(State.DEAD, "permanent", error=why, executed=executed))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recorded results, as they turned out, and the tasks whose lease was lost.

    ``lost`` are the ids of tasks whose lease somebody else had ended, ``circuits`` those that have
    opened or closed.
    """

    results: Sequence[AttemptResult]
    lost: Collection[str]
    circuits: Sequence[CircuitChange] = ()


def alike(
    results: Collection[AttemptResult],
) -> tuple[list[Sequence[AttemptResult]], list[AttemptResult]]:
    """Split results into groups that one statement serves, and the others.

    The results of a group have the same outcome, and no reply or traceback to keep.
    """
    same: dict[Outcome, list[AttemptResult]] = defaultdict(list)
    others: list[AttemptResult] = []
    for result in results:
        kept = (result.reply_headers, result.reply_body, result.traceback) != (None, None, None)
        (others if kept else same[result.outcome]).append(result)
    return list(same.values()), others


def is_leased(dialect: Dialect, task: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a task has the lease that `leased` binds for it.

    The index finds it by its id. A lease that is bound for another task does not count.
    """
    return sa.and_(dialect.among(task.c.id), dialect.among(task.c.id + task.c.lease_id, "leases"))


def leased(results: Sequence[AttemptResult], dialect: Dialect) -> dict[str, Any]:
    """Bind the tasks of results and their leases."""
    leases = [result.record.lease for result in results]
    return {
        "among": dialect.bound([task_id for task_id, _ in leases]),
        "leases": dialect.bound([task_id + lease_id for task_id, lease_id in leases]),
    }


def leases_of(records: Iterable[Record]) -> set[Lease]:
    """Return the leases that identify the attempts of tasks."""
    return {record.lease for record in records}


class AttemptLog:
    """A log that records each attempt once, whoever ends it.

    An insert that is repeated, because a commit was in doubt, changes nothing.
    """

    def __init__(self, tables: Tables, dialect: Dialect, finish: Finish, keep: float) -> None:
        self._keep = keep
        self._finish = finish
        self._attempt = tables.attempt
        columns: dict[str, Any] = {
            column.name: sa.bindparam(column.name) for column in tables.attempt.c
        }
        self._task = tables.task
        self._now = dialect.now
        self._insert_missing = dialect.insert_missing(tables.attempt)
        insert = self._insert_missing.values(columns | {"finished_at": dialect.now})
        self._forget = [_forget(table) for table in (tables.traceback, tables.attempt)]
        self._insert = Prepared(insert, rows_in_one=dialect.sends_singly)

    def add(self, connection: sa.Connection, results: Sequence[AttemptResult]) -> int:
        """Log attempts that have just ended with their leases held; return how many were new."""
        rows = [_row(result, result.outcome.reason) for result in results]
        return self._insert.execute_many(connection, rows) if rows else 0

    def insert_of(
        self, tasks: sa.FromClause, told: Mapping[str, Any], *only: sa.ColumnElement[bool]
    ) -> sa.Insert:
        """Return an insert of attempts that copies what the rows of their tasks hold."""
        copied = {name: tasks.c[held] for name, held in COPIED.items()}
        columns: dict[str, Any] = {**copied, **told, "finished_at": self._now}
        rows = sa.select(*columns.values()).where(*only).order_by(tasks.c.id)
        return self._insert_missing.from_select(list(columns), rows, include_defaults=False)

    def add_late(self, connection: sa.Connection, results: Sequence[AttemptResult]) -> None:
        """Log attempts whose lease somebody else had ended.

        This replaces the entry that was logged when the lease was taken from the running handler.
        """
        attempt = self._attempt
        pairs = [(result.record.id, result.record.lease_id) for result in results]
        withdrawn = sa.and_(
            sa.tuple_(attempt.c.task_id, attempt.c.lease_id).in_(pairs),
            attempt.c.reason == WITHDRAWN,
        )
        connection.execute(sa.delete(attempt).where(withdrawn))
        self._insert.execute_many(connection, [_row(result, "late") for result in results])

    def crash(
        self,
        connection: sa.Connection,
        records: Sequence[Record],
        source: str,
        error: str = _RAN_OUT,
    ) -> None:
        """Log that the attempts of tasks ended with the death of their process.

        Raises `MovedError` if a handler has completed one. Each concurrent writer has a ``source``
        of its own.
        """
        died = Outcome(State.LEASED, "crash", error=error)
        added = self._insert.execute_many(
            connection, [_row(AttemptResult(record, died, 0.0), "crash") for record in records]
        )
        if added != len(records) and self.completed(connection, leases_of(records)):
            raise MovedError
        self.forget_first(connection, records)
        self._finish.follow(
            connection,
            [Transition(record, State.LEASED, attempt="crash", failed=True) for record in records],
            source,
        )

    def withdraw(self, connection: sa.Connection, leases: Collection[Lease]) -> set[Lease]:
        """Log that leases are taken from handlers that may run; return those already completed.

        The others can no longer complete.
        """
        if not leases:
            return set()
        task = self._task
        held = sa.and_(
            sa.tuple_(task.c.id, task.c.lease_id).in_(sorted(leases)), is_state(task, State.LEASED)
        )
        connection.execute(self.insert_of(task, {"reason": sa.literal(WITHDRAWN)}, held))
        return self.completed(connection, leases)

    def completed(self, connection: sa.Connection, leases: Collection[Lease]) -> set[Lease]:
        """Return those leases whose handlers have committed their success."""
        attempt = self._attempt
        pairs = sa.tuple_(attempt.c.task_id, attempt.c.lease_id).in_(sorted(leases))
        rows = connection.execute(
            sa.select(attempt.c.task_id, attempt.c.lease_id).where(
                pairs, attempt.c.reason == "success"
            )
        )
        return {(row.task_id, row.lease_id) for row in rows}

    def forget_first(self, connection: sa.Connection, records: Iterable[Record]) -> None:
        """Forget all but a limited number of each task's latest attempts."""
        many = [
            {"of": record.id, "last": record.attempts - self._keep}
            for record in records
            if record.attempts > self._keep
        ]
        if many:
            for forget in self._forget:
                connection.execute(forget, many)


def _forget(table: sa.Table) -> sa.Delete:
    """Return the statement that forgets the first attempts of a task."""
    return sa.delete(table).where(
        table.c.task_id == sa.bindparam("of"), table.c.number <= sa.bindparam("last")
    )


def _row(result: AttemptResult, reason: str) -> dict[str, Any]:
    record, outcome = result.record, result.outcome
    return {
        "task_id": record.id,
        "number": record.attempts,
        "lease_id": record.lease_id or "",  # these two are missing only from rows written by hand
        "started_at": record.created_at if record.started_at is None else record.started_at,
        "held_by": record.held_by,
        "reason": reason,
        "status": outcome.status,
        "error": outcome.error,
        "reply_headers": result.reply_headers,
        "reply_body": result.reply_body,
        "traceback": result.traceback,
    }
