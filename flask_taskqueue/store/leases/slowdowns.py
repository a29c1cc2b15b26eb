"""Slowdowns: receivers that asked for less, respected by every dispatcher.

If no receiver is slowed, only that is read, as a part of other statements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...core.queues.circuits import Circuit
from ...core.queues.lanes import Lane
from ...core.queues.rates import FASTEST
from ...core.queues.slowdowns import (
    Slowdown,
    SlowHost,
    UnknownHosts,
    slowdown_target,
    slowed,
)
from ...core.states import Record, State
from ...core.times import LAST_MICROS, LONGEST
from ..database.dialects import Dialect
from ..database.dialects.claims import candidates, is_state
from ..database.tables import Tables
from ..database.task_tables import parked
from .attempts import AttemptResult
from .circuits import Circuits

Seen = MutableMapping[str, Slowdown | SlowHost | UnknownHosts | Circuit]

_TOGETHER = 200
"""The number of tasks of a lane that are examined when one of them is put off."""


class Slowdowns:
    """A store that applies slowdowns; each method joins its connection's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect, circuits: Circuits) -> None:
        self._circuits = circuits
        self._task = tables.task
        self._slowdown = tables.slowdown
        self._now = dialect.now
        self._in_one = dialect.sends_singly
        self._insert = dialect.insert_missing(tables.slowdown)
        columns = [self._slowdown.c[name] for name in Slowdown.__slots__]
        goes_on = sa.and_(self._slowdown.c.over_at > dialect.now, _is_one(self._slowdown))
        self._rows = sa.select(*columns).where(goes_on)
        self._all = sa.select(*columns, goes_on.label("goes_on"))
        first = candidates(self._task, dialect.now, self._task.c.lock_key.is_(None))
        self._first = first.add_columns(
            self._task.c.queue, self._task.c.url, self._task.c.target, self._task.c.eta
        ).with_for_update(skip_locked=True)

    def active(self, connection: sa.Connection) -> dict[str, Slowdown]:
        """Return the receivers that are slowed now."""
        return {
            row.target: Slowdown(*row)
            for row in connection.execute(self._rows.order_by(self._slowdown.c.target))
        }

    def limits(self, connection: sa.Connection) -> dict[str, Slowdown | Circuit]:
        """Return the receivers that are slowed now, and those whose circuit is open."""
        return {**self.active(connection), **self._circuits.open(connection)}

    def ask(self, connection: sa.Connection, results: Iterable[AttemptResult]) -> None:
        """Slow the receivers that asked for less, by a ``retry_after`` in each of the results."""
        for target, (retry_after, status) in sorted(_longest(results).items()):
            mine = self._slowdown.c.target == target
            row = connection.execute(self._all.where(mine).with_for_update()).one_or_none()
            now = connection.scalar(sa.select(self._now)) or 0
            before = Slowdown(*row[:-1]) if row is not None and row.goes_on else None
            after = slowed(before, target, now, status, retry_after)
            values = {
                **{name: getattr(after, name) for name in Slowdown.__slots__},
                "over_at": after.over_at,
            }
            if row is None:
                connection.execute(self._insert, values)
            else:
                connection.execute(sa.update(self._slowdown).where(mine).values(values))

    def admit(
        self,
        connection: sa.Connection,
        lane: Lane,
        claimed: Sequence[Record],
        slowdowns: Seen,
        unknown: UnknownHosts | None = None,
    ) -> tuple[list[Record], list[Record]]:
        """Split claimed tasks into those that may be sent and those that were put off.

        The attempt of the latter is not counted. The next tasks of the lane that would be put off
        too are put off with them, so that they are not in the way of others. ``slowdowns`` are the
        slowdowns that were seen; they change as their tokens are used. ``unknown`` limits the hosts
        that it covers and that are not among them.
        """
        waiting: dict[str, list[Record]] = defaultdict(list)
        sent: list[Record] = []
        for record in claimed:
            target = slowdown_target(record.queue, record.url, record.target)
            if unknown is not None and target not in slowdowns and unknown.covers(target):
                slowdowns[target] = unknown
            (waiting[target] if target in slowdowns else sent).append(record)
        late: dict[str, list[Record]] = {}
        for target, records in sorted(waiting.items()):
            let = self._take(connection, slowdowns, target, records)
            sent += records[:let]
            if len(records) > let:
                late[target] = records[let:]
        if late:
            now = max(record.started_at or 0 for record in claimed)
            self._put_off(connection, lane, late, slowdowns, now)
        gone = {record.id for put_off in late.values() for record in put_off}
        return sent, [record for record in claimed if record.id in gone]

    def prune(self, connection: sa.Connection) -> int:
        """Forget slowdowns that are over, and failures of long ago; return how many."""
        return connection.execute(
            sa.delete(self._slowdown).where(
                self._slowdown.c.over_at <= self._now, self._circuits.forgotten()
            )
        ).rowcount

    def _take(
        self, connection: sa.Connection, slowdowns: Seen, target: str, records: list[Record]
    ) -> int:
        """Use up a receiver's tokens for some of these tasks; return for how many there were any.

        There are none if another dispatcher uses them at the same moment. Of a failing receiver the
        task that was chosen as the probe comes first, then those that have not been attempted.
        """
        seen, now = slowdowns[target], max(record.started_at or 0 for record in records)
        if isinstance(seen, Circuit):
            records.sort(key=lambda record: (record.id != seen.probe_id, record.attempts > 1))
            return self._probe(connection, slowdowns, seen, records, now)
        number = min(len(records), seen.tokens(now))
        if not number:
            return 0
        if isinstance(seen, SlowHost | UnknownHosts):  # which are this process's own
            slowdowns[target] = seen.taken(now, number)
            return number
        after = seen.taken(now, number)
        mine = sa.and_(
            self._slowdown.c.target == target, self._slowdown.c.empty_at == seen.empty_at
        )
        used = connection.execute(
            sa.update(self._slowdown).where(mine).values(empty_at=after.empty_at)
        ).rowcount
        slowdowns[target] = after if used else replace(seen, empty_at=max(now, seen.empty_at))
        return number if used else 0

    def _probe(
        self,
        connection: sa.Connection,
        slowdowns: Seen,
        seen: Circuit,
        records: Sequence[Record],
        now: int,
    ) -> int:
        """Send one of these tasks as a probe, if it is time; return how many are sent.

        All are sent if the circuit was closed since it was seen.
        """
        may_probe = bool(seen.tokens(now))
        if may_probe and self._circuits.take_probe(connection, seen, records[0].id):
            slowdowns[seen.target] = replace(seen, probing=True)
            return 1
        if self._circuits.stays_open(connection, seen):
            slowdowns[seen.target] = replace(seen, probing=seen.probing or may_probe)
            return 0
        del slowdowns[seen.target]
        return len(records)

    def _put_off(
        self,
        connection: sa.Connection,
        lane: Lane,
        late: dict[str, list[Record]],
        slowdowns: Seen,
        now: int,
    ) -> None:
        """Schedule tasks for when their turn may come."""
        task, positions = self._task, {target: len(found) for target, found in late.items()}
        back = {
            record.id: slowdowns[target].due_at(now, position, record.eta)
            for target in late
            for position, record in enumerate(late[target], 1)
        }
        self._delay(connection, State.LEASED, back, lambda due: parked(task, due))
        others: dict[str, int] = {}
        for row in connection.execute(
            self._first, {"in_queue": lane.queue, "in_priority": lane.priority, "most": _TOGETHER}
        ):
            target = slowdown_target(row.queue, row.url, row.target)
            if target in late:
                positions[target] += 1
                others[row.id] = slowdowns[target].due_at(now, positions[target], row.eta)
        if others:
            self._delay(connection, State.SCHEDULED, others, lambda due: {"due_at": due})

    def _delay(
        self,
        connection: sa.Connection,
        state: State,
        dues: Mapping[str, int],
        values: Callable[[Any], Mapping[str, Any]],
    ) -> None:
        """Change tasks by when each is due: in one statement if the driver would send them singly.

        It would wait for a reply to each then.
        """
        task = self._task
        if self._in_one:
            whens = {task_id: sa.literal(due, sa.BigInteger) for task_id, due in dues.items()}
            mine = sa.and_(task.c.id.in_(list(dues)), is_state(task, state))
            changes = values(sa.case(whens, value=task.c.id))
            connection.execute(sa.update(task).where(mine).values(changes))
            return
        mine = sa.and_(task.c.id == sa.bindparam("put_off"), is_state(task, state))
        connection.execute(
            sa.update(task).where(mine).values(values(sa.bindparam("due"))),
            [{"put_off": task_id, "due": due} for task_id, due in dues.items()],
        )


def _is_one(slowdown: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a row is a slowdown; what somebody has written by hand may be none.

    SQLite sorts a text after all numbers, PostgreSQL a NaN.
    """
    instants = (slowdown.c[name] <= LAST_MICROS for name in ("slowed_at", "asked_at", "empty_at"))
    asked = slowdown.c.retry_after <= LONGEST
    return sa.and_(slowdown.c.rate > 0, slowdown.c.rate <= FASTEST, asked, *instants)


def _longest(results: Iterable[AttemptResult]) -> dict[str, tuple[float, int]]:
    """Return, by receiver, the longest time that it asked for, with the status of that reply."""
    longest: dict[str, tuple[float, int]] = {}
    for result in results:
        target = slowdown_target(result.record.queue, result.record.url, result.record.target)
        asked = result.outcome.retry_after or 0.0, result.outcome.status or 0
        longest[target] = max(longest.get(target, (0.0, 0)), asked)
    return longest


def is_any_slowed(tables: Tables, now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return whether any receiver is slowed, or has an open circuit."""
    slowdown = tables.slowdown
    return sa.exists().where(sa.or_(slowdown.c.over_at > now, slowdown.c.opened_at.is_not(None)))
