"""Takeovers: tasks whose leases ran out, because their process died or was cut off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from ...core.delivery.outcome import success
from ...core.queues.lanes import Lane
from ...core.queues.poison import MAX_CRASHES, POISON, is_poison, poison
from ...core.queues.rate_keys import is_rate_key
from ...core.states import Lease, Record, State, one_more
from ...core.times import duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import counted, held_against, is_state
from ..database.lease_ends import is_lost
from ..database.tables import Tables
from ..database.task_tables import ended
from ..queues.locks import Locks
from ..queues.queues import Queues
from .attempts import AttemptLog, AttemptResult
from .completions import Completions
from .finish import Finish, Transition


class Takeovers:
    """A taker of tasks whose leases ran out."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        queues: Queues,
        locks: Locks,
        finish: Finish,
        log: AttemptLog,
        completions: Completions,
    ) -> None:
        self._task = tables.task
        self._now = dialect.now
        self._is_lost = is_lost(tables, dialect.now)
        self._queues = queues
        self._locks = locks
        self._finish = finish
        self._log = log
        self._completions = completions
        self.ended: dict[str, AttemptResult] = {}
        """The tasks that were ended instead of being taken over, since a claimer cleared it."""

    def take_over(
        self,
        connection: sa.Connection,
        lane: Lane,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
        limited: bool = False,
        suspects: bool | None = None,
        kept: Collection[Lease] = (),
    ) -> Record | None:
        """Lease the task of a lane whose lease ran out longest ago, as a crash of its last holder.

        It can be limited to ``suspects``, or to others. Leases that are ``kept`` are left to their
        holder, which is alive. A task whose handler has completed it has
        succeeded and one that has crashed too often is dead; in both cases the next one is
        examined. With ``limited`` a takeover takes a token like any start; the task was in flight
        already. So does one of a task with a rate key, and without a token its turn comes later.
        """
        gate = self._queues.decide(connection, lane.queue) if limited else None
        if limited and (gate is None or gate.tokens_left == 0):
            return None
        taken = self._take_over(
            connection, lane, {"lease_id": lease_id, "held_by": held_by}, lease, suspects, kept
        )
        if gate is not None and taken is not None:
            self._queues.charge(connection, lane.queue, gate, 1)
        return taken

    def _take_over(
        self,
        connection: sa.Connection,
        lane: Lane,
        holder: Mapping[str, Any],
        lease: float,
        suspects: bool | None,
        kept: Collection[Lease],
    ) -> Record | None:
        while (found := self._first_expired(connection, lane, suspects, kept)) is not None:
            status = self._completions.finish(connection, found, holder["held_by"])
            if status is not None:
                self.ended[found.id] = AttemptResult(found, success(status), 0.0)
                continue
            started_at: Any = self._now
            if is_rate_key(found.lock_key) and not is_poison(found):
                started_at = self._locks.rates.start(connection, found)
                if started_at is None:
                    continue
            self._log.crash(connection, [found], holder["held_by"])
            if is_poison(found):
                self._end_poison(connection, found, holder["held_by"])
                continue
            changes = {
                **holder,
                "attempts": one_more(found.attempts),
                "crashes": one_more(found.crashes),
                "last_reason": "crash",
                "due_at": self._now + duration_micros(lease),
                "started_at": started_at,
            }
            if _change(connection, self._task, found, changes):
                return Record._make(
                    connection.execute(
                        sa.select(self._task).where(self._task.c.id == found.id)
                    ).one()
                )
        return None

    def has_suspect(
        self, connection: sa.Connection, lane: Lane, kept: Collection[Lease] = ()
    ) -> bool:
        """Return whether a lane has a lease that ran out whose task is to be tried alone."""
        first = self.expired_rows(lane, True, kept).with_only_columns(self._task.c.id)
        return connection.scalar(first) is not None

    def excuse_crash(self, connection: sa.Connection, leases: Collection[Lease]) -> None:
        """Excuse suspects for the crash that may end these attempts."""
        task = self._task
        mine = (
            sa.tuple_(task.c.id, task.c.lease_id).in_(sorted(leases)),
            is_state(task, State.LEASED),
        )
        condemned = held_against(task) + 1 >= MAX_CRASHES
        connection.execute(
            sa.update(task).where(*mine, condemned).values(pardons=counted(task.c.pardons))
        )

    def _first_expired(
        self,
        connection: sa.Connection,
        lane: Lane,
        suspects: bool | None,
        kept: Collection[Lease],
    ) -> Record | None:
        row = connection.execute(
            self.expired_rows(lane, suspects, kept).with_for_update(skip_locked=True)
        ).one_or_none()
        return None if row is None else Record._make(row)

    def expired_rows(
        self, lane: Lane, suspects: bool | None = None, kept: Collection[Lease] = ()
    ) -> sa.Select[Any]:
        """Return the statement for the task of a lane whose lease ran out longest ago."""
        task = self._task
        there = (
            is_state(task, State.LEASED),
            task.c.queue == lane.queue,
            task.c.priority == lane.priority,
            self._is_lost,
        )
        on_trial = held_against(task) + 2 == MAX_CRASHES
        which = sa.true() if suspects is None else on_trial if suspects else sa.not_(on_trial)
        return (
            sa.select(task)
            .where(*there, which, _is_none_of(task, kept))
            .order_by(task.c.due_at, task.c.id)
            .limit(1)
        )

    def _end_poison(self, connection: sa.Connection, record: Record, source: str) -> None:
        crashes = one_more(record.crashes)
        changes = ended(
            State.DEAD,
            self._now,
            crashes=crashes,
            last_reason="crash",
            last_error=POISON.format(crashes=crashes),
        )
        if _change(connection, self._task, record, changes):
            self._finish.follow(connection, [Transition(record, State.DEAD)], source)
            self.ended[record.id] = AttemptResult(record, poison(record), 0.0)


def _is_none_of(task: sa.Table, kept: Collection[Lease]) -> sa.ColumnElement[bool]:
    """Return whether a task has another lease than these; one lease id may be that of many."""
    ids = {lease_id for _, lease_id in kept}
    return task.c.lease_id.not_in(sorted(ids)) if ids else sa.true()


def _change(
    connection: sa.Connection, task: sa.Table, record: Record, changes: Mapping[str, Any]
) -> bool:
    """Change a leased task if its lease is still the one of the record."""
    mine = sa.and_(
        task.c.id == record.id, task.c.lease_id == record.lease_id, is_state(task, State.LEASED)
    )
    return connection.execute(sa.update(task).where(mine).values(dict(changes))).rowcount == 1
