"""Leases: the right to attempt a task, renewed, given back and ended; `Claims` takes it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ..core.clock import duration_micros
from ..core.measures import attempt_measure
from ..core.outcome import Outcome
from ..core.record import Record
from ..core.states import State
from .attempt_log import AttemptLog
from .dialects import Dialect
from .dialects.states import is_state
from .endings import Ending, Endings
from .locks import untaken
from .prepared import Prepared
from .queues import Queues
from .tables import Tables

_TOGETHER = 64
_FEW = 4


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an attempt, ready to be recorded."""

    record: Record
    outcome: Outcome
    duration: float
    reply_headers: str | None = field(default=None, repr=False)
    reply_body: bytes | None = field(default=None, repr=False)
    recorded: bool = False
    """Whether the handler's own transaction ended the task already; only the attempt is logged then."""


class Leases:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect, queues: Queues, endings: Endings, log: AttemptLog) -> None:
        self._task = tables.task
        self._queues = queues
        self._endings = endings
        self._now = dialect.now
        self._sends_singly = dialect.sends_singly
        self._end = Prepared(self._prepare_end(tables.task.c.id == sa.bindparam("id_0"), tables.task.c.lease_id == sa.bindparam("lease_0")))
        self._end_some = Prepared(self._prepare_end(tables.task.c.id.in_(_binds("id")), tables.task.c.lease_id.in_(_binds("lease"))))
        self._log = log

    def record(self, connection: sa.Connection, results: Sequence[Result]) -> set[str]:
        """End the leases of finished attempts, with all that follows, and log them; the ids of the tasks whose lease was lost.

        A reply that comes after its lease was lost changes nothing but the log.
        """
        if not results:
            return set()
        ordered = sorted(results, key=lambda result: result.record.id)
        pending = [result for result in ordered if not result.recorded]
        lost, repeated = self._end_leases(connection, pending)
        self._follow(connection, [result for result in ordered if result.record.lease_id not in repeated], lost)
        self._log.add(connection, [_logged(result, result.record.id in lost) for result in ordered])
        slowed = {result.record.queue for result in ordered if result.outcome.slows}
        if slowed:
            self._queues.slow(connection, slowed)
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
            .values(untaken(self._task) | {"due_at": self._now})
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
            self._log.crash(connection, record)
            changes = {
                "state": State.SCHEDULED.value,
                "due_at": self._now,
                "crashes": record.crashes + 1,
                "pardons": record.pardons + 1,
                "last_reason": "crash",
            }
            change_leased(connection, self._task, record, changes)
        return len(held)

    def is_current(self, connection: sa.Connection, task_id: str, attempt: int) -> Record | None:
        """The task, if this attempt of it is under way."""
        row = connection.execute(
            sa.select(self._task).where(self._task.c.id == task_id, self._task.c.attempts == attempt, is_state(self._task, State.LEASED))
        ).one_or_none()
        return None if row is None else Record._make(row)

    def fence(self, connection: sa.Connection, record: Record) -> bool:
        """Whether the lease still holds, asked by writing: what follows in the transaction has the write lock."""
        return change_leased(connection, self._task, record, {"held_by": record.held_by})

    def complete(self, connection: sa.Connection, record: Record, status: int) -> bool:
        """End a lease with success inside a handler's transaction, with all that follows; False if it was lost."""
        changes = {
            "state": State.SUCCEEDED.value,
            "due_at": None,
            "finished_at": self._now,
            "unique_key": None,
            "executions": record.executions + 1,
            "answered": record.answered + 1,
            "last_status": status,
            "last_reason": "success",
            "last_error": None,
        }
        if not change_leased(connection, self._task, record, changes):
            return False
        # Handlers commit at the same time: each thread counts for itself.
        self._endings.follow(connection, [Ending(record, State.SUCCEEDED)], f"{record.held_by}:{threading.get_ident()}")
        return True

    def _follow(self, connection: sa.Connection, results: Sequence[Result], lost: Collection[str]) -> None:
        """See to what follows attempts. Of one that was recorded by its handler only the attempt is left to be counted."""
        if not results:
            return
        endings = []
        for result in results:
            held = result.record.id not in lost
            state = result.outcome.state if held and not result.recorded else State.LEASED
            failed = held and result.outcome.state is not State.SUCCEEDED
            attempt = attempt_measure(result.outcome, lost=not held)
            endings.append(Ending(result.record, state, attempt=attempt, failed=failed, duration=result.duration))
        self._endings.follow(connection, endings, results[0].record.held_by or "")

    def _prepare_end(self, *mine: sa.ColumnElement[bool]) -> sa.Update:
        task = self._task
        return (
            sa.update(task)
            .where(*mine, is_state(task, State.LEASED))
            .values(
                state=sa.bindparam("new_state"),
                due_at=self._now + sa.bindparam("delay", type_=sa.BigInteger),
                finished_at=self._now + sa.bindparam("ended", type_=sa.BigInteger),
                unique_key=sa.case((sa.bindparam("live", type_=sa.Integer) == 1, task.c.unique_key)),
                executions=task.c.executions + sa.bindparam("executed", type_=sa.Integer),
                answered=task.c.answered + sa.bindparam("answer", type_=sa.Integer),
                last_status=sa.bindparam("status"),
                last_reason=sa.bindparam("reason"),
                last_error=sa.bindparam("error"),
            )
        )

    def _end_each(self, connection: sa.Connection, results: Sequence[Result]) -> int:
        """End leases, where that is quicker many of the same outcome by one statement; how many were ended.

        No lease is of two claims, so a task's id among these ids and its lease among these leases
        is a lease of these: a task is not among them twice.
        """
        alike: dict[Outcome, list[Result]] = defaultdict(list)
        for result in results:
            alike[result.outcome].append(result)
        changed = 0
        single: list[dict[str, Any]] = []
        for outcome, group in alike.items():
            for start in range(0, len(group), _TOGETHER):
                some = group[start : start + _TOGETHER]
                if self._sends_singly and len(some) >= _FEW and len({result.record.id for result in some}) == len(some):
                    changed += self._end_some.execute(connection, _named(some) | _ended(outcome)).rowcount
                else:
                    single += [{"id_0": one.record.id, "lease_0": one.record.lease_id, **_ended(outcome)} for one in some]
        return changed + (self._end.execute_many(connection, single) if single else 0)

    def _end_leases(self, connection: sa.Connection, results: Sequence[Result]) -> tuple[set[str], set[str]]:
        """End leases; the ids of the tasks whose lease was lost, and the leases that had been ended so before.

        The latter are those of a transaction whose commit was in doubt and is repeated; what follows has followed.
        """
        changed = self._end_each(connection, results)
        if changed == len(results):
            return set(), set()
        task = self._task
        leases = {result.record.id: result.record.lease_id for result in results}
        rows = connection.execute(
            sa.select(task.c.id, task.c.lease_id, task.c.state).where(task.c.id.in_(sorted(leases)), ~is_state(task, State.LEASED))
        )
        # Ended under this very lease: by this statement now, by one whose commit was in doubt, or by the handler.
        ended = {row.id for row in rows if row.lease_id == leases[row.id] and row.state != State.CANCELLED}
        return set(leases) - ended, self._log.recorded(connection, leases)


def _binds(name: str) -> list[sa.BindParameter[str]]:
    return [sa.bindparam(f"{name}_{number}", type_=sa.String) for number in range(_TOGETHER)]


def _named(results: Sequence[Result]) -> dict[str, Any]:
    """The ids and leases of up to `_TOGETHER` results; the last is repeated to make it so many."""
    records = [result.record for result in results]
    records += records[-1:] * (_TOGETHER - len(records))
    ids = {f"id_{number}": record.id for number, record in enumerate(records)}
    return ids | {f"lease_{number}": record.lease_id for number, record in enumerate(records)}


def _ended(outcome: Outcome) -> dict[str, Any]:
    """What an outcome changes."""
    return {
        "new_state": outcome.state.value,
        "delay": None if outcome.delay is None else duration_micros(outcome.delay),
        "ended": 0 if outcome.state.is_finished else None,
        "live": 0 if outcome.state.is_finished else 1,
        "executed": 1 if outcome.executed else 0,
        "answer": 1 if outcome.status is not None and outcome.status < 500 else 0,
        "status": outcome.status,
        "reason": outcome.reason,
        "error": outcome.error,
    }


def change_leased(connection: sa.Connection, task: sa.Table, record: Record, changes: dict[str, Any]) -> bool:
    """Change a leased task if the lease is still the one of the record."""
    mine = sa.and_(task.c.id == record.id, task.c.lease_id == record.lease_id, is_state(task, State.LEASED))
    return connection.execute(sa.update(task).where(mine).values(changes)).rowcount == 1


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
