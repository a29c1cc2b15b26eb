"""Locks: keys whose tasks run only so many at a time, or one after the other.

A task that may not run yet is parked (see `KeyRows`). Everything that ends or puts off a task with
a key calls `free`, which lets the next ones go. The janitor does so for every key, in case
something was missed. Rate keys are decided by `KeyRates`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from ...core.queues.rate_keys import is_rate_key
from ...core.states import LIVE, Record, State
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state, waits_for_key
from ..database.lease_ends import is_held
from ..database.tables import Tables
from .key_rates import KeyRates, is_rate_row
from .key_rows import KeyRows

_SOON = 10_000
"""The microseconds after which to look again at a task whose key another dispatcher decides on."""


class Locks:
    """A judge of keys; each method joins the transaction of the connection it is given."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._lock = tables.lock
        self._hold = tables.hold
        self._now = dialect.now
        self._is_held = is_held(tables, dialect.now)
        self._rows = KeyRows(tables, dialect)
        self.rates: KeyRates = KeyRates(tables, dialect, self._rows)

    def admit(self, connection: sa.Connection, claimed: Sequence[Record]) -> list[Record]:
        """Return the claimed tasks that may run; park the others or put them back for a moment."""
        admitted: list[Record] = []
        by_key: dict[str, list[Record]] = defaultdict(list)
        for record in sorted(claimed, key=lambda record: record.id):
            (admitted if record.lock_key is None else by_key[record.lock_key]).append(record)
        if not by_key:
            return admitted
        decided = self._rows.decide(connection, by_key, wait=False)
        rated = {key: by_key.pop(key) for key in decided if is_rate_key(key)}
        admitted += self.rates.admit(connection, rated)
        if not by_key:
            return admitted
        limits = {key: by_key[key][0].lock_limit for key in decided if key not in rated}
        firsts, running = self._firsts(connection, limits), self._count_running(connection, limits)
        parked: list[Record] = []
        for key, limit in limits.items():
            ours = by_key.pop(key)
            room = max(0, (1 if limit is None else limit) - (running[key] - len(ours)))
            may_run = [record for record in ours if limit is not None or record.id == firsts[key]][
                :room
            ]
            admitted += may_run
            parked += [record for record in ours if record not in may_run]
        self._rows.put_back(connection, parked, sa.null())
        self._rows.put_back(
            connection,
            [record for waiting in by_key.values() for record in waiting],
            self._now + _SOON,
        )
        return admitted

    def free(self, connection: sa.Connection, keys: Mapping[str, int | None]) -> None:
        """Let tasks go that may run after a task with one of these keys ended or was put off.

        ``keys`` are given with their limits.
        """
        if not keys:
            return
        self._rows.decide(connection, keys, wait=True)
        self.rates.advance(connection, [key for key in keys if is_rate_key(key)])
        keys = {key: limit for key, limit in keys.items() if not is_rate_key(key)}
        if not keys:
            return
        running = self._count_running(connection, keys)
        chosen = [
            first
            for key, first in self._firsts(connection, keys).items()
            if first is not None and not running[key]
        ]
        for key in self._rows.with_parked(
            connection, [key for key, limit in keys.items() if limit is not None]
        ):
            room = max(0, (keys[key] or 0) - running[key])
            chosen += connection.scalars(self._rows.next_parked(key, room))
        if chosen:
            self._rows.let_go(connection, chosen, self._now)

    def keys_of(self, connection: sa.Connection, ids: Collection[str]) -> dict[str, int | None]:
        """Return the keys of tasks, with their limits."""
        task = self._task
        keyed = sa.select(task.c.lock_key, task.c.lock_limit).where(
            task.c.id.in_(sorted(ids)), task.c.lock_key.is_not(None)
        )
        return {row.lock_key: row.lock_limit for row in connection.execute(keyed)}

    def mend(self, connection: sa.Connection) -> None:
        """Forget keys that nothing waits for, and mend those with a rate."""
        task, lock = self._task, self._lock
        live = sa.select(task.c.id).where(
            task.c.lock_key == lock.c.lock_key, task.c.state.in_([state.value for state in LIVE])
        )
        forgotten = sa.and_(~live.exists(), self.rates.may_forget(connection))
        connection.execute(sa.delete(lock).where(forgotten))
        self.rates.mend(connection)

    def waited_for(self, connection: sa.Connection) -> dict[str, int | None]:
        """Return some keys that tasks wait for, with their limits; none with a rate."""
        task, lock = self._task, self._lock
        limit = (
            sa.select(sa.func.min(task.c.lock_limit))
            .where(waits_for_key(task, lock))
            .scalar_subquery()
        )
        waiting = sa.select(task.c.id).where(waits_for_key(task, lock)).exists()
        found = connection.execute(
            sa.select(lock.c.lock_key, limit.label("most"))
            .where(waiting, ~is_rate_row(lock))
            .limit(1000)
        )
        return {row.lock_key: row.most for row in found}

    def _firsts(
        self, connection: sa.Connection, limits: Mapping[str, int | None]
    ) -> dict[str, str | None]:
        """Return, by serial key, the id of its first task that has not ended.

        It is the only one that may run, unless another one is running. A later one may still be
        running if the first was dead before and has been requeued.
        """
        task, lock = self._task, self._lock
        serial = sorted(key for key, limit in limits.items() if limit is None)
        if not serial:
            return {}
        # Parked tasks count too; they have no due_at.
        firsts = [
            sa.select(sa.func.min(task.c.id))
            .where(task.c.lock_key == lock.c.lock_key, task.c.state == state.value)
            .scalar_subquery()
            for state in LIVE
        ]
        found = connection.execute(
            sa.select(lock.c.lock_key, *firsts).where(lock.c.lock_key.in_(serial))
        )
        return {
            key: min((first for first in ids if first is not None), default=None)
            for key, *ids in found
        }

    def _count_running(self, connection: sa.Connection, keys: Collection[str]) -> Counter[str]:
        """Count, by key, how many places are taken: by leased tasks, or by holds (see `Holds`).

        It takes one statement, so that a lease that becomes a hold meanwhile counts as one or the
        other.
        """
        task, hold, in_question = self._task, self._hold, sorted(keys)
        leased = sa.select(task.c.lock_key).where(
            task.c.lock_key.in_(in_question), is_state(task, State.LEASED)
        )
        held = sa.select(hold.c.lock_key).where(hold.c.lock_key.in_(in_question), self._is_held)
        taken = sa.union_all(leased, held).subquery("taken")
        counted = sa.select(taken.c.lock_key, sa.func.count()).group_by(taken.c.lock_key)
        return Counter({key: number for key, number in connection.execute(counted)})
