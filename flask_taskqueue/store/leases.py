"""Leases: the right to attempt a task, taken, renewed, given back and ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.clock import duration_micros
from ..core.fairness import Lane, Lanes
from ..core.outcome import Outcome
from ..core.record import Record
from ..core.states import State
from ..core.suspicion import POISON, is_poison
from .dialects import Dialect
from .dialects.states import is_state
from .lanes import look, prepare_look
from .prepared import Prepared
from .tables import Tables


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an attempt, ready to be recorded."""

    record: Record
    outcome: Outcome
    duration: float
    reply_headers: str | None = None
    reply_body: bytes | None = None
    recorded: bool = False
    """Whether the handler's own transaction ended the task already; only the attempt is logged then."""


class Leases:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._now = dialect.now
        self._claim = dialect.prepare_claim(tables.task)
        self._lanes = prepare_look(tables, dialect.now)
        self._end = Prepared(self._prepare_end())
        # A transaction whose commit was in doubt is run again: its log is there already, or not.
        columns: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in tables.attempt.c}
        self._log = Prepared(dialect.insert_missing(tables.attempt).values(columns | {"finished_at": dialect.now}))

    def lanes(self, connection: sa.Connection, queues: Collection[str] | None = None) -> Lanes:
        """What waits in each lane of the queues that are not paused."""
        return look(connection, self._lanes, queues)

    def claim(self, connection: sa.Connection, lane: Lane, limit: int, *, lease_id: str, held_by: str, lease: float) -> list[Record]:
        """Lease up to ``limit`` due tasks of a lane for ``lease`` seconds; the attempt is counted with it."""
        which = {"in_queue": lane.queue, "in_priority": lane.priority, "most": limit}
        how = {"new_lease": lease_id, "holder": held_by, "period": duration_micros(lease)}
        return self._claim(connection, which, how)

    def take_over(self, connection: sa.Connection, lane: Lane, *, lease_id: str, held_by: str, lease: float) -> Record | None:
        """Lease the task of a lane whose lease ran out longest ago, as a crash of its last holder.

        A task that has crashed too often is dead instead, and the next one is looked at.
        """
        while (found := self._expired(connection, lane)) is not None:
            self._log_crash(connection, found)
            if is_poison(found):
                self._end_poison(connection, found)
                continue
            changes = {
                "lease_id": lease_id,
                "held_by": held_by,
                "attempts": found.attempts + 1,
                "crashes": found.crashes + 1,
                "last_reason": "crash",
                "due_at": self._now + duration_micros(lease),
                "started_at": self._now,
            }
            if self._change(connection, found, changes):
                return Record._make(connection.execute(sa.select(self._task).where(self._task.c.id == found.id)).one())
        return None

    def record(self, connection: sa.Connection, results: Sequence[Result]) -> set[str]:
        """End the leases of finished attempts and log them; the ids of the tasks whose lease was lost.

        A reply that comes after its lease was lost changes nothing but the log.
        """
        if not results:
            return set()
        ordered = sorted(results, key=lambda result: result.record.id)
        pending = [result for result in ordered if not result.recorded]
        lost = self._end_leases(connection, pending) if pending else set()
        self._log.execute_many(connection, [_logged(result, result.record.id in lost) for result in ordered])
        return lost

    def renew(self, connection: sa.Connection, held: Iterable[tuple[str, str]], lease: float) -> set[str]:
        """Prolong leases, given as (task id, lease id); the ids of the tasks that are still held."""
        pairs = sorted(held)
        if not pairs:
            return set()
        mine = sa.and_(sa.tuple_(self._task.c.id, self._task.c.lease_id).in_(pairs), is_state(self._task, State.LEASED))
        connection.execute(sa.update(self._task).where(mine).values(due_at=self._now + duration_micros(lease)))
        return set(connection.scalars(sa.select(self._task.c.id).where(mine)))

    def release(self, connection: sa.Connection, held: Iterable[tuple[str, str]]) -> int:
        """Give leases back as if they had never been taken: due now, the attempt not counted; how many."""
        statement = (
            sa.update(self._task)
            .where(
                self._task.c.id == sa.bindparam("task_id"),
                self._task.c.lease_id == sa.bindparam("lease"),
                is_state(self._task, State.LEASED),
            )
            .values(state=State.SCHEDULED.value, due_at=self._now, lease_id=None, held_by=None, attempts=self._task.c.attempts - 1)
        )
        pairs = [{"task_id": task_id, "lease": lease} for task_id, lease in sorted(held)]
        return connection.execute(statement, pairs).rowcount if pairs else 0

    def expire(self, connection: sa.Connection, held_by: str) -> int:
        """Let every lease of a dispatcher that is known to be dead run out now; how many."""
        mine = sa.and_(is_state(self._task, State.LEASED), self._task.c.held_by == held_by)
        return connection.execute(sa.update(self._task).where(mine).values(due_at=self._now)).rowcount

    def pardon(self, connection: sa.Connection, held_by: str) -> int:
        """Schedule anew what a dispatcher held that was killed from outside: crashes nobody is blamed for; how many."""
        task = self._task
        mine = sa.and_(is_state(task, State.LEASED), task.c.held_by == held_by)
        held = [Record._make(row) for row in connection.execute(sa.select(task).where(mine).with_for_update())]
        for record in held:
            self._log_crash(connection, record)
            changes = {
                "state": State.SCHEDULED.value,
                "due_at": self._now,
                "crashes": record.crashes + 1,
                "pardons": record.pardons + 1,
                "last_reason": "crash",
            }
            self._change(connection, record, changes)
        return len(held)

    def is_current(self, connection: sa.Connection, task_id: str, attempt: int) -> Record | None:
        """The task, if this attempt of it is under way."""
        row = connection.execute(
            sa.select(self._task).where(self._task.c.id == task_id, self._task.c.attempts == attempt, is_state(self._task, State.LEASED))
        ).one_or_none()
        return None if row is None else Record._make(row)

    def fence(self, connection: sa.Connection, record: Record) -> bool:
        """Whether the lease still holds, asked by writing: what follows in the transaction has the write lock."""
        return self._change(connection, record, {"held_by": record.held_by})

    def complete(self, connection: sa.Connection, record: Record, status: int) -> bool:
        """End a lease with success inside a handler's transaction; False if it was lost."""
        changes = {
            "state": State.SUCCEEDED.value,
            "due_at": None,
            "finished_at": self._now,
            "executions": record.executions + 1,
            "last_status": status,
            "last_reason": "success",
            "last_error": None,
        }
        return self._change(connection, record, changes)

    def _prepare_end(self) -> sa.Update:
        task = self._task
        return (
            sa.update(task)
            .where(task.c.id == sa.bindparam("task_id"), task.c.lease_id == sa.bindparam("lease"), is_state(task, State.LEASED))
            .values(
                state=sa.bindparam("new_state"),
                due_at=self._now + sa.bindparam("delay", type_=sa.BigInteger),
                finished_at=self._now + sa.bindparam("ended", type_=sa.BigInteger),
                executions=task.c.executions + sa.bindparam("executed", type_=sa.Integer),
                last_status=sa.bindparam("status"),
                last_reason=sa.bindparam("reason"),
                last_error=sa.bindparam("error"),
            )
        )

    def _end_leases(self, connection: sa.Connection, results: Sequence[Result]) -> set[str]:
        changed = self._end.execute_many(connection, [_ended(result) for result in results])
        if changed == len(results):
            return set()
        task = self._task
        leases = {result.record.id: result.record.lease_id for result in results}
        rows = connection.execute(
            sa.select(task.c.id, task.c.lease_id, task.c.state).where(task.c.id.in_(sorted(leases)), ~is_state(task, State.LEASED))
        )
        # Ended under this very lease: by this statement now, by one whose commit was in doubt, or by the handler.
        ended = {row.id for row in rows if row.lease_id == leases[row.id] and row.state != State.CANCELLED}
        return set(leases) - ended

    def _expired(self, connection: sa.Connection, lane: Lane) -> Record | None:
        task = self._task
        row = connection.execute(
            sa.select(task)
            .where(
                is_state(task, State.LEASED),
                task.c.queue == lane.queue,
                task.c.priority == lane.priority,
                task.c.due_at <= self._now,
            )
            .order_by(task.c.due_at, task.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        return None if row is None else Record._make(row)

    def _end_poison(self, connection: sa.Connection, record: Record) -> None:
        changes = {
            "state": State.DEAD.value,
            "crashes": record.crashes + 1,
            "due_at": None,
            "finished_at": self._now,
            "last_reason": "crash",
            "last_error": POISON.format(crashes=record.crashes + 1),
        }
        self._change(connection, record, changes)

    def _log_crash(self, connection: sa.Connection, record: Record) -> None:
        crash = {
            "task_id": record.id,
            "number": record.attempts,
            "lease_id": record.lease_id,
            "started_at": record.started_at,
            "held_by": record.held_by,
            "reason": "crash",
            "status": None,
            "error": "the lease ran out: the process died or was cut off while the task ran",
            "reply_headers": None,
            "reply_body": None,
        }
        self._log.execute_many(connection, [crash])

    def _change(self, connection: sa.Connection, record: Record, changes: dict[str, Any]) -> bool:
        """Change a leased task if the lease is still the one of the record."""
        task = self._task
        mine = sa.and_(task.c.id == record.id, task.c.lease_id == record.lease_id, is_state(task, State.LEASED))
        return connection.execute(sa.update(task).where(mine).values(changes)).rowcount == 1


def _ended(result: Result) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "task_id": result.record.id,
        "lease": result.record.lease_id,
        "new_state": outcome.state.value,
        "delay": None if outcome.delay is None else duration_micros(outcome.delay),
        "ended": 0 if outcome.state.is_finished else None,
        "executed": 1 if outcome.executed else 0,
        "status": outcome.status,
        "reason": outcome.reason,
        "error": outcome.error,
    }


def _logged(result: Result, lost: bool) -> dict[str, Any]:
    record, outcome = result.record, result.outcome
    return {
        "task_id": record.id,
        "number": record.attempts,
        "lease_id": record.lease_id,
        "started_at": record.started_at,
        "held_by": record.held_by,
        "reason": "late" if lost else outcome.reason,
        "status": outcome.status,
        "error": outcome.error,
        "reply_headers": result.reply_headers,
        "reply_body": result.reply_body,
    }
