"""Circuits: the failures in a row of receivers, counted by every dispatcher together.

Only attempts that go to other hosts are counted, and only a failure, or an answer after one, is
written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ...core.queues.circuits import (
    FORGOTTEN,
    LONGEST_LOOK,
    Circuit,
    CircuitChange,
    Result,
    Waiting,
    first_failure,
)
from ...core.queues.rates import FASTEST
from ...core.queues.slowdowns import slowdown_target
from ...core.states import State
from ...core.times import SECOND, duration_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.lease_ends import is_lost
from ..database.tables import Tables
from .attempts import AttemptResult

_COLUMNS = tuple(name for name in Circuit.__slots__ if name != "probing")
_WELL = {
    "failures": 0,
    "failing_since": 0,
    "failed_at": 0,
    "failure": "",
    "opened_at": None,
    "probe_at": 0,
    "probes": 0,
    "probe_id": "",
    "probe_took": 0,
}
_SEARCHED = 10_000
"""The number of waiting tasks for other hosts that are searched for those of one receiver."""
_NOBODY_LOOKS = 10 * SECOND
"""The microseconds after which a due task that nobody has looked at is not chosen as a probe."""


class Circuits:
    """A store of circuits; each method joins its connection's transaction."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._attempt = tables.attempt
        self._circuit = circuit = tables.slowdown
        self._now = dialect.now
        self._insert = dialect.insert_missing(circuit)
        self._rows = sa.select(*(circuit.c[name] for name in _COLUMNS))
        under_way = sa.exists().where(
            tables.task.c.id == circuit.c.probe_id,
            is_state(tables.task, State.LEASED),
            ~is_lost(tables, dialect.now),
        )
        self._open = (
            self._rows.add_columns(under_way.label("probing"))
            .where(circuit.c.opened_at.is_not(None))
            .order_by(circuit.c.target)
        )

    def open(self, connection: sa.Connection) -> dict[str, Circuit]:
        """Return the open circuits, by receiver."""
        return {row.target: Circuit(*row) for row in connection.execute(self._open)}

    def note(
        self, connection: sa.Connection, results: Iterable[AttemptResult]
    ) -> Sequence[CircuitChange]:
        """Count what attempts for other hosts showed; return the circuits that it changed."""
        shown = _by_receiver(results)
        if not shown:
            return ()
        failing = set(self._failing(connection, shown))
        changes: list[CircuitChange] = []
        for target, found in sorted(shown.items()):
            if target in failing or any(result.works is False for result in found):
                changes += self._note(connection, target, found)
        return changes

    def take_probe(self, connection: sa.Connection, circuit: Circuit, task_id: str) -> bool:
        """Make a task the probe, and return whether it is; of several dispatchers one succeeds.

        The time of the probe changes too, because the task may have been chosen before.
        """
        row = self._circuit
        as_seen = sa.and_(
            row.c.target == circuit.target,
            row.c.opened_at.is_not(None),
            row.c.probe_at == circuit.probe_at,
            row.c.probes == circuit.probes,
            row.c.probe_id == circuit.probe_id,
        )
        taken = sa.update(row).where(as_seen).values(probe_id=task_id, probe_at=row.c.probe_at + 1)
        return bool(connection.execute(taken).rowcount)

    def stays_open(self, connection: sa.Connection, circuit: Circuit) -> bool:
        """Return whether a circuit is open still, and stays so until the transaction ends.

        So whoever closes it finds every task that was put off for it.
        """
        row = self._circuit
        same = sa.and_(row.c.target == circuit.target, row.c.opened_at == circuit.opened_at)
        found = sa.select(row.c.target).where(same).with_for_update(read=True)
        return connection.execute(found).one_or_none() is not None

    def close(self, connection: sa.Connection, target: str) -> Circuit | None:
        """Close the circuit of a receiver; return it, or None if it is not open.

        The tasks that wait for it are due now, in the order of their etas, unless they are more
        than the first ten thousand tasks for other hosts; those follow within five minutes.
        """
        row = self._circuit
        found = self._locked(connection, target)
        if found is None or found.opened_at is None:
            return None
        well = {**_WELL, "probe_at": self._now}
        connection.execute(sa.update(row).where(row.c.target == target).values(well))
        self._let_go(connection, target)
        return found

    def forgotten(self) -> sa.ColumnElement[bool]:
        """Return the condition for a row whose failures nothing has followed for a day."""
        long_ago = self._now - FORGOTTEN
        return sa.and_(self._circuit.c.failed_at <= long_ago, self._circuit.c.probe_at <= long_ago)

    def _failing(self, connection: sa.Connection, targets: Collection[str]) -> Sequence[str]:
        row = self._circuit
        statement = sa.select(row.c.target).where(
            row.c.target.in_(sorted(targets)), row.c.failures > 0
        )
        return connection.scalars(statement).all()

    def _locked(self, connection: sa.Connection, target: str) -> Circuit | None:
        mine = self._rows.where(self._circuit.c.target == target).with_for_update()
        row = connection.execute(mine).one_or_none()
        return None if row is None else Circuit(*row)

    def _note(
        self, connection: sa.Connection, target: str, results: Sequence[Result]
    ) -> list[CircuitChange]:
        before = self._locked(connection, target)
        now = connection.scalar(sa.select(self._now)) or 0
        if before is None:
            self._begin(connection, target, now)
            before = self._locked(connection, target)
        answered_at = 0 if before is None else before.probe_at
        if before is None or not before.failures:
            before = replace(first_failure(target, now), probe_at=answered_at)
        after = before.after(results, now)
        if after is not None and after.is_open and not after.probe_id:
            after = self._with_next_probe(connection, after, results, now)
        if after != before:
            row = self._circuit
            values = (
                {**_WELL, "probe_at": now}
                if after is None
                else {name: getattr(after, name) for name in _COLUMNS}
            )
            connection.execute(sa.update(row).where(row.c.target == target).values(values))
        if after is None:
            return [] if before.opened_at is None else [CircuitChange(before, False)]
        has_opened = before.opened_at is None and after.opened_at is not None
        return [CircuitChange(after, True)] if has_opened else []

    def _with_next_probe(
        self, connection: sa.Connection, circuit: Circuit, ended: Iterable[Result], now: int
    ) -> Circuit:
        """Choose the task that is the next probe, and have it due before the others."""
        task, attempt = self._task, self._attempt
        last = sa.and_(attempt.c.task_id == task.c.id, attempt.c.number == task.c.attempts)
        looked_at = task.c.due_at.between(now - _NOBODY_LOOKS, circuit.probe_at + LONGEST_LOOK)
        own_time = sa.or_(task.c.attempts == 0, task.c.due_at <= circuit.probe_at)
        columns = (task.c.id, task.c.queue, task.c.url, task.c.target, task.c.eta)
        tried = sa.func.coalesce(attempt.c.started_at, task.c.first_tried_at).label("tried")
        found = (
            sa.select(*columns, tried)
            .select_from(task.outerjoin(attempt, last))
            .where(is_state(task, State.SCHEDULED), looked_at, own_time, task.c.eta <= now)
        )
        waiting = [
            Waiting(row.id, (row.target or "") + row.url, row.eta, row.tried)
            for row in connection.execute(self._elsewhere(found))
            if slowdown_target(row.queue, row.url, row.target) == circuit.target
        ]
        chosen = circuit.chosen(waiting, ended)
        mine = sa.and_(task.c.id == chosen, is_state(task, State.SCHEDULED))
        free = sa.select(task.c.id).where(mine).with_for_update(skip_locked=True)
        if not chosen or connection.scalar(free) is None:
            return circuit
        connection.execute(sa.update(task).where(mine).values(due_at=circuit.probe_at))
        return replace(circuit, probe_id=chosen)

    def _elsewhere(self, found: sa.Select[Any]) -> sa.Select[Any]:
        """Select the tasks for other hosts, those with the earliest etas."""
        task = self._task
        elsewhere = sa.or_(task.c.target.is_not(None), ~task.c.url.startswith("/"))
        return found.where(elsewhere).order_by(task.c.eta, task.c.id).limit(_SEARCHED)

    def _begin(self, connection: sa.Connection, target: str, now: int) -> None:
        """Insert a row for a receiver that has none, as one that was slowed and has recovered."""
        recovered: dict[str, Any] = {
            "slowed_at": now,
            "asked_at": now,
            "status": 0,
            "retry_after": 0.0,
            "rate": FASTEST,
            "empty_at": now,
            "over_at": now,
        }
        connection.execute(self._insert, {"target": target, **recovered, **_WELL})

    def _let_go(self, connection: sa.Connection, target: str) -> None:
        """Make the tasks due that were put off for a receiver, in the order of their etas."""
        task = self._task
        waits = sa.and_(is_state(task, State.SCHEDULED), task.c.due_at > self._now)
        columns = task.c.id, task.c.queue, task.c.url, task.c.target
        found = sa.select(*columns).where(waits, task.c.eta <= self._now)
        rows = connection.execute(self._elsewhere(found)).all()
        due = [
            {"waiting": row.id, "order": place}
            for place, row in enumerate(rows, -len(rows))
            if slowdown_target(row.queue, row.url, row.target) == target
        ]
        if due:
            mine = sa.and_(task.c.id == sa.bindparam("waiting"), waits)
            connection.execute(
                sa.update(task)
                .where(mine)
                .values(due_at=self._now + sa.bindparam("order", type_=sa.BigInteger)),
                due,
            )


def _by_receiver(results: Iterable[AttemptResult]) -> dict[str, list[Result]]:
    """Return what attempts showed of other hosts, by host and port."""
    shown: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        record, outcome = result.record, result.outcome
        target = slowdown_target(record.queue, record.url, record.target)
        if target:
            failure = outcome.reason if outcome.status is None else str(outcome.status)
            took = duration_micros(result.duration)
            began = record.started_at or 0
            url = (record.target or "") + record.url
            works = outcome.receiver_works
            shown[target].append(Result(record.id, works, began, took, failure, url))
    return shown
