"""Leases: the right to attempt a task, renewed, given back and ended; `Claims` takes it, `Completions` ends it in a transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
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
from .prepared import Prepared, among_these
from .queues import Queues
from .results import Result, alike, leased
from .tables import Tables


class Leases:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect, queues: Queues, endings: Endings, log: AttemptLog) -> None:
        self._task = tables.task
        self._queues = queues
        self._endings = endings
        self._now = dialect.now
        task = tables.task
        self._end = Prepared(self._prepare_end(task.c.id == sa.bindparam("id")))
        self._end_alike = Prepared(self._prepare_end(among_these(task.c.id)))
        current = (task.c.id == sa.bindparam("id"), task.c.attempts == sa.bindparam("attempt"), is_state(task, State.LEASED))
        self._current = Prepared(sa.select(task).where(*current))
        self._log = log

    def record(self, connection: sa.Connection, results: Sequence[Result]) -> set[str]:
        """End the leases of finished attempts, with all that follows, and log them; the ids of the tasks whose lease was lost.

        A reply that comes after its lease was lost changes nothing but the log.
        """
        if not results:
            return set()
        ordered = self._told(connection, sorted(results, key=lambda result: result.record.id))
        pending = [result for result in ordered if not result.recorded]
        lost, repeated = self._end_leases(connection, pending)
        self._follow(connection, [result for result in ordered if result.record.lease_id not in repeated], lost)
        self._log.add(connection, ordered, lost)
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
        pairs = [{"task_id": task_id, "lease": lease} for task_id, lease in sorted(held)]
        if not pairs:
            return 0
        statement = (
            sa.update(self._task)
            .where(
                self._task.c.id == sa.bindparam("task_id"),
                self._task.c.lease_id == sa.bindparam("lease"),
                is_state(self._task, State.LEASED),
            )
            .values(untaken(self._task) | {"due_at": self._now})
        )
        return connection.execute(statement, pairs).rowcount

    def expire(self, connection: sa.Connection, held_by: str) -> int:
        """Let every lease of a dispatcher that is known to be dead run out now; how many."""
        mine = sa.and_(is_state(self._task, State.LEASED), self._task.c.held_by == held_by)
        return connection.execute(sa.update(self._task).where(mine).values(due_at=self._now)).rowcount

    def pardon(self, connection: sa.Connection, held_by: str) -> int:
        """Schedule anew what a dispatcher held that was killed from outside: crashes nobody is blamed for; how many."""
        task = self._task
        mine = sa.and_(is_state(task, State.LEASED), task.c.held_by == held_by)
        held = [Record._make(row) for row in connection.execute(sa.select(task).where(mine).order_by(task.c.id).with_for_update())]
        if held:
            self._log.crash(connection, held)
            changes = {
                "state": State.SCHEDULED.value,
                "due_at": self._now,
                "crashes": task.c.crashes + 1,
                "pardons": task.c.pardons + 1,
                "last_reason": "crash",
            }
            connection.execute(sa.update(task).where(task.c.id.in_([record.id for record in held])).values(changes))
        return len(held)

    def is_current(self, connection: sa.Connection, task_id: str, attempt: int) -> Record | None:
        """The task, if this attempt of it is under way."""
        row = self._current.execute(connection, {"id": task_id, "attempt": attempt}).one_or_none()
        return None if row is None else Record._make(row)

    def _told(self, connection: sa.Connection, results: list[Result]) -> list[Result]:
        """Results that know whether the handler's transaction ended the task, in whatever process it ran."""
        ids = [one.record.id for one in results if one.elsewhere]
        if not ids:
            return results
        task = self._task
        succeeded = sa.select(task.c.id, task.c.lease_id).where(task.c.id.in_(ids), is_state(task, State.SUCCEEDED))
        ended = {tuple(row) for row in connection.execute(succeeded)}
        return [replace(one, recorded=True) if (one.record.id, one.record.lease_id) in ended else one for one in results]

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

    def _prepare_end(self, mine: sa.ColumnElement[bool]) -> sa.Update:
        task = self._task
        return (
            sa.update(task)
            .where(mine, task.c.lease_id == sa.bindparam("lease"), is_state(task, State.LEASED))
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
        """End leases, those of results that are alike by one statement; how many were ended."""
        together, others = alike(results)
        changed = sum(self._end_alike.execute(connection, leased(some) | _ended(some[0].outcome)).rowcount for some in together)
        single = [{"id": one.record.id, "lease": one.record.lease_id, **_ended(one.outcome)} for one in others]
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
        states = {result.record.id: result.outcome.state for result in results}
        columns = (task.c.id, task.c.lease_id, task.c.state, task.c.last_reason)
        rows = connection.execute(sa.select(*columns).where(task.c.id.in_(sorted(leases)))).all()
        # As this statement leaves it, or one whose commit was in doubt; a crash ends or postpones a task under the lease that it lost.
        ended = {one.id for one in rows if (one.lease_id, one.state) == (leases[one.id], states[one.id]) and one.last_reason != "crash"}
        return set(leases) - ended, self._log.recorded(connection, leases)


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
