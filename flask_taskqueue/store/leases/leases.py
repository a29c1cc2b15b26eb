"""Leases: the right to attempt a task, renewed and given back.

`Claims` takes it, `Recording` ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from ...core.states import Lease, Record, State
from ...core.times import SECOND, duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import counted, is_state
from ..database.prepared import Prepared
from ..database.tables import Tables
from ..database.task_tables import parked
from .attempts import AttemptLog
from .completions import Completions
from .finish import Finish
from .holds import Holds
from .renewals import Renewals

_NONE: Mapping[str, float] = MappingProxyType({})


class Leases:
    """A keeper that renews leases and gives them back, in its connection's transaction."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        finish: Finish,
        log: AttemptLog,
        completions: Completions,
        holds: Holds,
    ) -> None:
        self._task = tables.task
        self.renewals: Renewals = Renewals(tables, dialect)
        self._finish = finish
        self._now = dialect.now
        self._log = log
        self._completions = completions
        self._holds = holds
        task = tables.task
        current = (
            task.c.id == sa.bindparam("id"),
            task.c.attempts == sa.bindparam("attempt"),
            is_state(task, State.LEASED),
        )
        self._current = Prepared(sa.select(task).where(*current))

    def renew(self, connection: sa.Connection, held: Collection[Lease], lease: float) -> set[Lease]:
        """Prolong leases; return those that are still held.

        The places of the others are kept, because their handlers still run. A lease is prolonged
        beside its task (see `Renewals`) if somebody has locked the task's row, so that it does not
        keep the others waiting, or if the task has a unique key.
        """
        mine = self._are_held(held)
        free = [row.id for row in self._free(connection, mine) if row.unique_key is None]
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
        self.renewals.note(
            connection, [held_lease for held_lease in found if held_lease[0] not in free], lease
        )
        if others := set(held) - found:
            self._holds.renew(connection, others, lease)
        return found

    def held_by(self, connection: sa.Connection, dispatcher: str) -> list[tuple[Record, float]]:
        """Return the tasks that a dispatcher has leased, with the seconds since each began."""
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
        """Give leases back as if they had never been taken; return how many.

        Their tasks are due now, or after the seconds that ``away`` has for them, and the attempt is
        not counted. A handler may still run for those that have ``begun``: their place is kept, and
        if the handler has completed, the lease stays for `finish`.
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
            .values(parked(self._task, self._now + sa.bindparam("after", type_=sa.BigInteger)))
        )
        released = connection.execute(statement, pairs).rowcount
        self._finish.given_back(connection, [task_id for task_id, _ in leases])
        if released < len(pairs) and not begun:  # one was deleted before it could begin
            self._holds.end(connection, leases)
        return released

    def expire(self, connection: sa.Connection, held_by: str) -> int:
        """Let every lease of a dispatcher that is known to be dead run out now; return how many.

        Everything else that it held is freed. A lease whose row is locked runs out by itself.
        """
        self._holds.end_of(connection, held_by)
        self.renewals.drop(connection, held_by)
        mine = sa.and_(is_state(self._task, State.LEASED), self._task.c.held_by == held_by)
        free = [row.id for row in self._free(connection, mine)]
        if free:
            connection.execute(
                sa.update(self._task).where(self._task.c.id.in_(free)).values(due_at=self._now)
            )
        return len(free)

    def release_killed(self, connection: sa.Connection, held_by: str) -> int:
        """Schedule the tasks of a dispatcher that was killed from outside again; return how many.

        These crashes are not held against any task. A lease whose row is locked runs out by itself.
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
                "crashes": counted(task.c.crashes),
                "pardons": counted(task.c.pardons),
                "last_reason": "crash",
            }
            ids = [record.id for record in held]
            connection.execute(sa.update(task).where(task.c.id.in_(ids)).values(changes))
            self._finish.given_back(connection, ids)
        return len(held)

    def is_current(self, connection: sa.Connection, task_id: str, attempt: int) -> Record | None:
        """Return the task if this attempt of it is under way, else None."""
        row = self._current.execute(connection, {"id": task_id, "attempt": attempt}).one_or_none()
        return None if row is None else Record._make(row)

    def _are_held(self, held: Iterable[Lease]) -> sa.ColumnElement[bool]:
        """Return whether a task has one of these leases, which the index of ids finds."""
        pairs, task = sorted(held), self._task
        return sa.and_(
            task.c.id.in_([task_id for task_id, _ in pairs]),
            sa.tuple_(task.c.id, task.c.lease_id).in_(pairs),
            is_state(task, State.LEASED),
        )

    def _free(self, connection: sa.Connection, mine: sa.ColumnElement[bool]) -> Sequence[Any]:
        """Lock the rows of tasks that nobody else has locked; return their ids and unique keys."""
        rows = (
            sa.select(self._task.c.id, self._task.c.unique_key)
            .where(mine)
            .order_by(self._task.c.id)
            .with_for_update(skip_locked=True)
        )
        return connection.execute(rows).all()
