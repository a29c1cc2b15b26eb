"""Leases: the right to attempt a task, renewed, given back and ended; `Claims` takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from ...core.clock import SECOND, duration_micros
from ...core.delivery.outcome import Outcome, success
from ...core.metrics import attempt_measure
from ...core.record import Record
from ...core.states import State
from ..database.dialects import Dialect
from ..database.dialects.states import is_state
from ..database.prepared import Prepared
from ..database.refusals import MovedError
from ..database.tables import Tables
from ..queues.locks import untaken
from .attempts import AttemptLog, Lease, leases_of
from .completions import Completions
from .finish import Ending, Endings
from .holds import Holds
from .renewals import Renewals
from .results import Recorded, Result, alike, leased
from .slowdowns import Slowdowns

_NONE: Mapping[str, float] = MappingProxyType({})


class Leases:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        slowdowns: Slowdowns,
        endings: Endings,
        log: AttemptLog,
        completions: Completions,
        holds: Holds,
    ) -> None:
        self._task = tables.task
        self.renewals = Renewals(tables, dialect)
        self._slowdowns = slowdowns
        self._endings = endings
        self._bound = dialect.bound
        self._now = dialect.now
        self._log = log
        self._completions = completions
        self._holds = holds
        self._looks = False
        """Whether to look how leases stand before they are ended: something was not as
        expected. To look needlessly does no harm.
        """
        task, attempt = tables.task, tables.attempt
        self._end = Prepared(self._prepare_end(task.c.id == sa.bindparam("id")))
        self._end_all = Prepared(self._prepare_end(dialect.among(task.c.id)))
        current = (
            task.c.id == sa.bindparam("id"),
            task.c.attempts == sa.bindparam("attempt"),
            is_state(task, State.LEASED),
        )
        self._current = Prepared(sa.select(task).where(*current))
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
        self._standing = Prepared(
            sa.select(*columns).select_from(completed).where(dialect.among(task.c.id))
        )

    def record(self, connection: sa.Connection, results: Sequence[Result]) -> Recorded:
        """End the leases of finished attempts, with all that follows, and log them; what of it
        there was to be recorded.

        The database says what an attempt was: one that its handler's transaction completed is a
        success, whatever was replied; one whose lease somebody else ended changes nothing but the
        log. Mostly all is as it was left; if the number of rows that change says otherwise this
        raises `MovedError`, and looks when the transaction is run again.
        """
        if not results:
            return Recorded((), frozenset())
        ordered = sorted(results, key=lambda result: result.record.id)
        found = self._look(connection, ordered) if self._looks else _as_told(ordered)
        held = [result for result, standing in found if standing is Standing.HELD]
        late = [result for result, standing in found if standing is Standing.LOST]
        self._holds.take(connection, leases_of(result.record for result in held if result.goes_on))
        if not self._as_seen(connection, held):
            self._looks = True
            raise MovedError
        self._looks = False
        self._follow(connection, held, late)
        self._log_rest(connection, [result for result in held if result.completed], late)
        self._slowdowns.ask(connection, held)
        return Recorded([result for result, _ in found], {result.record.id for result in late})

    def renew(self, connection: sa.Connection, held: Iterable[Lease], lease: float) -> set[str]:
        """Prolong leases, the ids of the tasks that are still held. The places of the others are
        held on: their handlers still run.

        A lease whose row somebody has locked does not keep the others waiting; it is prolonged
        beside its task (see `Renewals`).
        """
        mine = self._are_held(held)
        free = self._free(connection, mine)
        if free:
            connection.execute(
                sa.update(self._task)
                .where(self._task.c.id.in_(free))
                .values(due_at=self._now + duration_micros(lease))
            )
        found = {
            (row.id, row.lease_id)
            for row in connection.execute(
                sa.select(self._task.c.id, self._task.c.lease_id).where(mine)
            )
        }
        self.renewals.note(connection, [one for one in found if one[0] not in free], lease)
        if others := set(held) - found:
            self._holds.renew(connection, others, lease)
        return {task_id for task_id, _ in found}

    def held_by(self, connection: sa.Connection, dispatcher: str) -> list[tuple[Record, float]]:
        """The tasks that a dispatcher holds the leases of, and for how many seconds."""
        aged = sa.select(self._task, (self._now - self._task.c.started_at).label("age"))
        rows = connection.execute(
            aged.where(is_state(self._task, State.LEASED), self._task.c.held_by == dispatcher)
        )
        return [(Record._make(row[:-1]), (row.age or 0) / SECOND) for row in rows]

    def release(
        self,
        connection: sa.Connection,
        held: Iterable[Lease],
        *,
        begun: bool = False,
        away: Mapping[str, float] = _NONE,
    ) -> int:
        """Give leases back as if they had never been taken: due now, or after the seconds that
        ``away`` has for a task; how many.

        The attempt is not counted. Of those that have ``begun`` a handler may still run: its place
        is held on, and if it has completed its lease stays for `finish`.
        """
        leases = set(held)
        if begun:
            leases -= self._log.withdraw(connection, leases)
            self._holds.take(connection, leases)
        pairs = [
            {"task_id": task_id, "lease": lease, "after": duration_micros(away.get(task_id, 0.0))}
            for task_id, lease in sorted(leases)
        ]
        if not pairs:
            return 0
        statement = (
            sa.update(self._task)
            .where(
                self._task.c.id == sa.bindparam("task_id"),
                self._task.c.lease_id == sa.bindparam("lease"),
                is_state(self._task, State.LEASED),
            )
            .values(
                untaken(self._task)
                | {"due_at": self._now + sa.bindparam("after", type_=sa.BigInteger)}
            )
        )
        released = connection.execute(statement, pairs).rowcount
        self._endings.given_back(connection, [task_id for task_id, _ in leases])
        if released < len(pairs) and not begun:  # one was deleted before it could begin
            self._holds.end(connection, leases)
        return released

    def expire(self, connection: sa.Connection, held_by: str) -> int:
        """Let every lease of a dispatcher that is known to be dead run out now; how many. What it
        held beside is free.

        One whose row is locked runs out by itself.
        """
        self._holds.end_of(connection, held_by)
        self.renewals.drop(connection, held_by)
        free = self._free(
            connection, sa.and_(is_state(self._task, State.LEASED), self._task.c.held_by == held_by)
        )
        if free:
            connection.execute(
                sa.update(self._task).where(self._task.c.id.in_(free)).values(due_at=self._now)
            )
        return len(free)

    def pardon(self, connection: sa.Connection, held_by: str) -> int:
        """Schedule anew what a dispatcher held that was killed from outside: crashes nobody is
        blamed for; how many.

        A lease whose row is locked runs out by itself.
        """
        task = self._task
        self.renewals.drop(connection, held_by)
        self._holds.end_of(connection, held_by)
        mine = sa.and_(is_state(task, State.LEASED), task.c.held_by == held_by)
        rows = connection.execute(
            sa.select(task).where(mine).order_by(task.c.id).with_for_update(skip_locked=True)
        )
        held = [
            record
            for record in map(Record._make, rows)
            if self._completions.finish(connection, record, held_by) is None
        ]
        if held:
            self._log.crash(
                connection, held, held_by, "the process was killed from outside while the task ran"
            )
            changes = {
                "state": State.SCHEDULED.value,
                "due_at": self._now,
                "crashes": task.c.crashes + 1,
                "pardons": task.c.pardons + 1,
                "last_reason": "crash",
            }
            ids = [record.id for record in held]
            connection.execute(sa.update(task).where(task.c.id.in_(ids)).values(changes))
            self._endings.given_back(connection, ids)
        return len(held)

    def is_current(self, connection: sa.Connection, task_id: str, attempt: int) -> Record | None:
        """The task, if this attempt of it is under way."""
        row = self._current.execute(connection, {"id": task_id, "attempt": attempt}).one_or_none()
        return None if row is None else Record._make(row)

    def _are_held(self, held: Iterable[Lease]) -> sa.ColumnElement[bool]:
        """Whether a task has one of these leases; found by the ids, which are an index."""
        pairs, task = sorted(held), self._task
        return sa.and_(
            task.c.id.in_([one for one, _ in pairs]),
            sa.tuple_(task.c.id, task.c.lease_id).in_(pairs),
            is_state(task, State.LEASED),
        )

    def _free(self, connection: sa.Connection, mine: sa.ColumnElement[bool]) -> list[str]:
        """The ids of tasks whose rows nobody else has locked; we have, until the transaction
        ends.
        """
        rows = (
            sa.select(self._task.c.id)
            .where(mine)
            .order_by(self._task.c.id)
            .with_for_update(skip_locked=True)
        )
        return list(connection.scalars(rows))

    def _look(
        self, connection: sa.Connection, results: Sequence[Result]
    ) -> list[tuple[Result, Standing]]:
        """How the leases of results stand; those results that turn out to be something else are
        replaced.
        """
        ids = self._bound([result.record.id for result in results])
        rows = {row.id: row for row in self._standing.execute(connection, {"among": ids})}
        return [_standing(result, rows.get(result.record.id)) for result in results]

    def _as_seen(self, connection: sa.Connection, held: Sequence[Result]) -> bool:
        """Log attempts and end their leases; whether all of them were still to be logged, and
        held.
        """
        pending = [result for result in held if not result.completed]
        logged = self._log.add(connection, pending) == len(pending)
        if not logged and self._looks:  # a row written by hand, say, is nobody's completion
            logged = not self._log.completed(
                connection, leases_of(result.record for result in pending)
            )
        return logged and self._end_each(connection, held) == len(held)

    def _log_rest(
        self, connection: sa.Connection, completed: Sequence[Result], late: Sequence[Result]
    ) -> None:
        """Keep the replies of attempts that their handlers have logged; log those that came too
        late.
        """
        for result in completed:
            if result.reply_headers is not None or result.reply_body is not None:
                self._log.add_reply(connection, result)
        if late:
            self._log.add_late(connection, late)

    def _follow(
        self, connection: sa.Connection, held: Sequence[Result], late: Sequence[Result]
    ) -> None:
        """See to what follows attempts. Of one that came too late the attempt is left to be
        counted, and its place to be freed.
        """
        endings = [
            Ending(
                result.record,
                result.outcome.state,
                attempt=attempt_measure(result.outcome, lost=False),
                failed=result.outcome.state is not State.SUCCEEDED,
                duration=result.duration,
            )
            for result in held
        ]
        endings += [
            Ending(result.record, State.LEASED, attempt="late", duration=result.duration)
            for result in late
        ]
        if endings:
            vacant = self._holds.remove(
                connection, leases_of(result.record for result in late if not result.goes_on)
            )
            self._endings.follow(connection, endings, endings[0].record.held_by or "", vacant)

    def _prepare_end(self, mine: sa.ColumnElement[bool]) -> sa.Update:
        task = self._task
        return (
            sa.update(task)
            .where(mine, task.c.lease_id == sa.bindparam("lease"), is_state(task, State.LEASED))
            .values(
                state=sa.bindparam("new_state"),
                due_at=self._now + sa.bindparam("delay", type_=sa.BigInteger),
                finished_at=self._now + sa.bindparam("ended", type_=sa.BigInteger),
                unique_key=sa.case(
                    (sa.bindparam("live", type_=sa.Integer) == 1, task.c.unique_key)
                ),
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
        changed = sum(
            self._end_all.execute(
                connection, leased(some, self._bound) | _ended(some[0].outcome)
            ).rowcount
            for some in together
        )
        single = [
            {"id": one.record.id, "lease": one.record.lease_id, **_ended(one.outcome)}
            for one in others
        ]
        return changed + (self._end.execute_many(connection, single) if single else 0)


class Standing(Enum):
    """How the lease of an attempt stands when it is recorded."""

    HELD = auto()
    RECORDED = auto()
    """The attempt has been recorded already, by a transaction whose commit was in doubt and is
    repeated.
    """
    LOST = auto()


def _as_told(results: Sequence[Result]) -> list[tuple[Result, Standing]]:
    """How leases stand unless something has happened to them."""
    return [(result, Standing.HELD) for result in results]


def _standing(result: Result, row: sa.Row[Any] | None) -> tuple[Result, Standing]:
    """How the lease of a result stands, by the row of its task; with the result that it is."""
    if row is None or row.lease_id != result.record.lease_id:
        return result, Standing.LOST
    if row.state == State.LEASED:
        return (
            result
            if row.reason is None
            else replace(_succeeded(result, row.status), completed=True)
        ), Standing.HELD
    if (
        row.state == State.SUCCEEDED
    ):  # whoever took the task over found its handler's completion, or this is repeated
        return _succeeded(result, row.last_status), Standing.RECORDED
    # A crash ends or postpones a task under the lease that it lost.
    if row.state == result.outcome.state and row.last_reason != "crash":
        return result, Standing.RECORDED
    return result, Standing.LOST


def _succeeded(result: Result, status: int | None) -> Result:
    return (
        result
        if result.outcome.state is State.SUCCEEDED
        else replace(result, outcome=success(status))
    )


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
