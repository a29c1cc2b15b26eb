"""Recording: the results of attempts, written together with the end of their leases."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa

from ...core.delivery.outcome import Outcome, success
from ...core.states import State
from ...core.times import duration_micros
from ...core.urls import leads_out
from ..database.dialects import Dialect
from ..database.dialects.claims import counted, is_state
from ..database.prepared import Prepared
from ..database.tables import Tables
from ..database.transaction import MovedError
from .attempts import (
    COPIED,
    AttemptLog,
    AttemptResult,
    Recorded,
    alike,
    is_leased,
    leased,
    leases_of,
)
from .circuits import Circuits
from .finish import Finish, Transition, attempt_measure
from .holds import Holds
from .slowdowns import Slowdowns


class Recording:
    """A recorder that ends leases with the results of their attempts."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        slowdowns: Slowdowns,
        circuits: Circuits,
        finish: Finish,
        log: AttemptLog,
        holds: Holds,
    ) -> None:
        self._task = tables.task
        self._written = tables.task, tables.attempt
        self._slowdowns = slowdowns
        self._circuits = circuits
        self._finish = finish
        self._now = dialect.now
        self._dialect = dialect
        self._log = log
        self._holds = holds
        self._looks = False
        """Whether to look at the leases before they are ended, because something was unexpected.

        Looking needlessly does no harm.
        """
        task = tables.task
        by_id = sa.and_(task.c.id == sa.bindparam("id"), task.c.lease_id == sa.bindparam("lease"))
        self._end = Prepared(self._prepare_end(by_id))
        similar = is_leased(dialect, task)
        end = self._prepare_end(similar)
        self._end_alike = Prepared(end)
        told = {
            name: sa.bindparam(name, type_=tables.attempt.c[name].type)
            for name in ("reason", "status", "error")
        }
        ended = end.returning(*(task.c[name] for name in COPIED.values())).cte("ended")
        self._log_and_end = (
            [Prepared(log.insert_of(ended, told))]
            if dialect.inserts_what_it_updates
            else [Prepared(log.insert_of(task, told, similar)), self._end_alike]
        )
        """The statements that log similar attempts and end their leases."""
        self._standing = Prepared(_prepare_standing(tables, dialect))

    def record(self, connection: sa.Connection, results: Sequence[AttemptResult]) -> Recorded:
        """End the leases of finished attempts, with everything that follows, and log them.

        Returns the results that were recorded. The database decides what an attempt was: one that
        its handler's transaction completed is a success, whatever was replied; one whose lease
        somebody else ended changes nothing but the log. Usually nothing has changed in the
        meantime. If the number of changed rows says otherwise, this raises `MovedError`, and looks
        first when the transaction is run again.
        """
        if not results:
            return Recorded((), frozenset())
        ordered = sorted(results, key=lambda result: result.record.id)
        as_told = [(result, Standing.HELD) for result in ordered]  # unless something has happened
        found = self._look(connection, ordered) if self._looks else as_told
        held = [result for result, standing in found if standing is Standing.HELD]
        late = [result for result, standing in found if standing is Standing.LOST]
        if going_on := leases_of(result.record for result in held if result.goes_on):
            self._holds.take(connection, going_on)
        if not self._as_seen(connection, held):
            self._looks = True
            raise MovedError
        self._looks = False
        self._follow(connection, held, late)
        if late:
            self._log.add_late(connection, late)
        self._log.forget_first(connection, [result.record for result in ordered])
        elsewhere = [
            result for result in held if leads_out(result.record.url, result.record.target)
        ]
        changes = self._circuits.note(connection, elsewhere) if elsewhere else ()
        asking = [result for result in held if result.outcome.retry_after is not None]
        if asking:
            self._slowdowns.ask(connection, asking)
        return Recorded(
            [result for result, _ in found], {result.record.id for result in late}, changes
        )

    def keep_rules(self, connection: sa.Connection) -> None:
        """Keep the definitions of the tables unchanged until the transaction ends."""
        for table in self._written:
            connection.execute(sa.delete(table).where(sa.false()))

    def _look(
        self, connection: sa.Connection, results: Sequence[AttemptResult]
    ) -> list[tuple[AttemptResult, Standing]]:
        """Return how the leases of results stand, and what the results turn out to be."""
        ids = self._dialect.bound([result.record.id for result in results])
        rows = {row.id: row for row in self._standing.execute(connection, {"among": ids})}
        return [_standing(result, rows.get(result.record.id)) for result in results]

    def _as_seen(self, connection: sa.Connection, held: Sequence[AttemptResult]) -> bool:
        """Log attempts and end their leases; return whether all were unlogged and held."""
        pending = [result for result in held if not result.completed]
        similar, others = ([], pending) if self._looks else alike(pending)
        completed, replied = alike([result for result in held if result.completed])
        logged = self._log.add(connection, others) == len(others)
        if not logged and self._looks:  # a row written by hand, say, is nobody's completion
            logged = not self._log.completed(
                connection, leases_of(result.record for result in others)
            )
        return (
            logged
            and self._change_alike(connection, self._log_and_end, similar)
            and self._change_alike(connection, [self._end_alike], completed)
            and self._end_each(connection, [*others, *replied])
        )

    def _change_alike(
        self,
        connection: sa.Connection,
        statements: Sequence[Prepared],
        groups: Sequence[Sequence[AttemptResult]],
    ) -> bool:
        """Run statements once for each group of similar results; return whether all were found."""
        for group in groups:
            values = leased(group, self._dialect) | _ended(group[0].outcome)
            if any(
                statement.execute(connection, values).rowcount != len(group)
                for statement in statements
            ):
                return False
        return True

    def _end_each(self, connection: sa.Connection, results: Sequence[AttemptResult]) -> bool:
        """End leases one by one; return whether all were held."""
        rows = [
            {"id": result.record.id, "lease": result.record.lease_id, **_ended(result.outcome)}
            for result in results
        ]
        return not rows or self._end.execute_many(connection, rows) == len(rows)

    def _follow(
        self,
        connection: sa.Connection,
        held: Sequence[AttemptResult],
        late: Sequence[AttemptResult],
    ) -> None:
        """Do everything that follows from attempts.

        For an attempt that came too late, this only counts the attempt and frees its place.
        """
        transitions = [
            Transition(
                result.record,
                result.outcome.state,
                attempt=attempt_measure(result.outcome),
                failed=result.outcome.state is not State.SUCCEEDED,
                duration=result.duration,
            )
            for result in held
        ]
        transitions += [
            Transition(result.record, State.LEASED, attempt="late", duration=result.duration)
            for result in late
        ]
        if not transitions:
            return
        left = leases_of(result.record for result in late if not result.goes_on)
        vacant = self._holds.remove(connection, left) if left else ()
        self._finish.follow(connection, transitions, transitions[0].record.held_by or "", vacant)

    def _prepare_end(self, mine: sa.ColumnElement[bool]) -> sa.Update:
        task = self._task
        return (
            sa.update(task)
            .where(mine, is_state(task, State.LEASED))
            .values(
                state=sa.bindparam("new_state"),
                due_at=self._now + sa.bindparam("delay", type_=sa.BigInteger),
                finished_at=self._now + sa.bindparam("ended", type_=sa.BigInteger),
                unique_key=sa.case(
                    (sa.bindparam("live", type_=sa.Integer) == 1, task.c.unique_key)
                ),
                executions=counted(task.c.executions, sa.bindparam("executed", type_=sa.Integer)),
                answered=counted(task.c.answered, sa.bindparam("answer", type_=sa.Integer)),
                last_status=sa.bindparam("status"),
                last_reason=sa.bindparam("reason"),
                last_error=sa.bindparam("error"),
                forced_at=sa.null(),
            )
        )


class Standing(Enum):
    """The state of an attempt's lease when the attempt is recorded."""

    HELD = auto()
    RECORDED = auto()
    """The attempt is already recorded.

    The commit of that transaction was in doubt, so it is repeated.
    """
    LOST = auto()


def _prepare_standing(tables: Tables, dialect: Dialect) -> sa.Select[Any]:
    """Return the statement that reads how leases stand."""
    task, attempt = tables.task, tables.attempt
    same = (
        attempt.c.task_id == task.c.id,
        attempt.c.number == task.c.attempts,
        attempt.c.lease_id == task.c.lease_id,
    )
    completed = task.outerjoin(attempt, sa.and_(*same, attempt.c.reason == "success"))
    columns = (
        task.c.id,
        task.c.lease_id,
        task.c.state,
        task.c.last_reason,
        task.c.last_status,
        attempt.c.reason,
        attempt.c.status,
    )
    return sa.select(*columns).select_from(completed).where(dialect.among(task.c.id))


def _standing(result: AttemptResult, row: sa.Row[Any] | None) -> tuple[AttemptResult, Standing]:
    """Return the result according to the row of its task, and how its lease stands."""
    if row is None or row.lease_id != result.record.lease_id:
        return result, Standing.LOST
    if row.state == State.LEASED:
        return (
            result
            if row.reason is None
            else _succeeded(result, row.status)._replace(completed=True)
        ), Standing.HELD
    # Whoever took the task over found its handler's completion, or this is repeated.
    if row.state == State.SUCCEEDED:
        return _succeeded(result, row.last_status), Standing.RECORDED
    # A crash ends or postpones a task under the lease that it lost.
    if row.state == result.outcome.state and row.last_reason != "crash":
        return result, Standing.RECORDED
    return result, Standing.LOST


def _succeeded(result: AttemptResult, status: int | None) -> AttemptResult:
    return (
        result
        if result.outcome.state is State.SUCCEEDED
        else result._replace(outcome=success(status))
    )


def _ended(outcome: Outcome) -> dict[str, Any]:
    """Bind the changes of an outcome."""
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
