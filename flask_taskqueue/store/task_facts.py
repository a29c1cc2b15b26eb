"""Task facts: what surrounds a task, read to explain what it waits for."""

from __future__ import annotations

import sqlalchemy as sa

from ..core.diagnosis.facts import Facts, KeyLine
from ..core.queues.poison import MAX_CRASHES
from ..core.queues.rate_keys import is_rate_key
from ..core.queues.slowdowns import slowdown_target
from ..core.settings.queue import CLOUDTASKS
from ..core.states import LIVE, Record, State
from .database.dialects import Dialect
from .database.dialects.claims import held_against, is_state
from .database.lease_ends import is_held, is_lost, shown_columns
from .database.tables import Tables
from .leases.circuits import Circuits
from .leases.slowdowns import Slowdowns
from .queues.dispatchers import Dispatchers
from .queues.locks import Locks
from .queues.queues import Queues

_SOME = 20
_MOST_AHEAD = 10_000


class TaskFacts:
    """A reader of the facts about tasks."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        queues: Queues,
        dispatchers: Dispatchers,
        slowdowns: Slowdowns,
        circuits: Circuits,
        locks: Locks,
    ) -> None:
        self._task = tables.task
        self._queue = tables.queue
        self._hold = tables.hold
        self._now = dialect.now
        self._is_lost = is_lost(tables, dialect.now)
        self._is_held = is_held(tables, dialect.now)
        self._shown = shown_columns(tables)
        self._queues = queues
        self._dispatchers = dispatchers
        self._slowdowns = slowdowns
        self._circuits = circuits
        self._locks = locks

    def facts(self, connection: sa.Connection, record: Record) -> Facts:
        """Return what is known around a task; little is read, whatever the table holds."""
        now = connection.scalar(sa.select(self._now)) or 0
        queue = connection.execute(
            sa.select(self._queue).where(self._queue.c.name == record.queue)
        ).one_or_none()
        if queue is None or record.state not in LIVE:
            going_on = self._going_on(connection, record)
            return Facts(
                now=now,
                record=record,
                dispatchers=self._dispatchers.list(connection),
                going_on=going_on,
            )
        receiver = slowdown_target(record.queue, record.url, record.target)
        return Facts(
            now=now,
            record=record,
            paused_at=queue.paused_at,
            paused_by=queue.paused_by,
            deleted_at=queue.deleted_at,
            is_pulled=queue.mode not in (None, CLOUDTASKS),
            gate=self._queues.gates(connection, [record.queue])[record.queue],
            key_line=self._key_line(connection, record),
            slowdown=self._slowdowns.active(connection).get(receiver),
            circuit=self._circuits.open(connection).get(receiver),
            holders=self._holders(connection, record),
            in_flight=[]
            if queue.max_concurrent is None
            else self._in_flight(connection, record.queue),
            suspects=self._suspects(connection),
            dispatchers=self._dispatchers.list(connection),
            busy=self._busy(connection),
            ahead=self._ahead(connection, record),
            engine=queue.mode if queue.mode == CLOUDTASKS else None,
        )

    def _holders(self, connection: sa.Connection, record: Record) -> list[Record]:
        """Return the tasks that come before this one by its key.

        For a serial key they are the tasks before it in line; for any other key, the tasks that
        run.
        """
        task = self._task
        if record.lock_key is None or is_rate_key(record.lock_key):
            return []
        leased = is_state(task, State.LEASED)
        waiting = sa.and_(task.c.state == State.SCHEDULED.value, task.c.id < record.id)
        before = sa.or_(leased, waiting) if record.lock_limit is None else leased
        found = self._some(
            connection, task.c.lock_key == record.lock_key, task.c.id != record.id, before
        )
        return found + self._held(connection, self._hold.c.lock_key == record.lock_key)

    def _key_line(self, connection: sa.Connection, record: Record) -> KeyLine | None:
        """Return the bucket of a task's rate key, and how many tasks get its tokens before."""
        task, key = self._task, record.lock_key
        if key is None or not is_rate_key(key):
            return None
        gate = self._locks.rates.buckets(connection, [key])[key].gate
        if record.due_at is not None:
            return KeyLine(gate)
        waiting = (
            task.c.lock_key == key,
            task.c.state == State.SCHEDULED.value,
            task.c.id < record.id,
        )
        before = sa.select(task.c.id).where(*waiting).limit(_MOST_AHEAD).subquery()
        ahead = connection.scalar(sa.select(sa.func.count()).select_from(before))
        return KeyLine(gate, ahead or 0)

    def _in_flight(self, connection: sa.Connection, queue: str) -> list[Record]:
        found = self._some(
            connection, is_state(self._task, State.LEASED), self._task.c.queue == queue
        )
        return found + self._held(connection, self._hold.c.queue == queue)

    def _held(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Record]:
        """Return tasks that are not leased, but whose handlers still run and hold their places."""
        ids = connection.scalars(
            sa.select(self._hold.c.task_id).where(which, self._is_held).limit(_SOME)
        ).all()
        return (
            self._some(
                connection, self._task.c.id.in_(ids), self._task.c.state != State.LEASED.value
            )
            if ids
            else []
        )

    def _going_on(self, connection: sa.Connection, record: Record) -> str | None:
        hold = self._hold
        return connection.scalar(
            sa.select(hold.c.held_by).where(hold.c.task_id == record.id, self._is_held).limit(1)
        )

    def _suspects(self, connection: sa.Connection) -> list[Record]:
        """Return suspects: tasks of open queues whose lease ran out, and those being tried."""
        task = self._task
        paused = sa.select(self._queue.c.name).where(self._queue.c.paused_at.is_not(None))
        crashes = held_against(task)
        expired = sa.and_(self._is_lost, task.c.queue.not_in(paused), crashes == MAX_CRASHES - 2)
        tried = sa.and_(
            task.c.last_reason == "crash",
            ~self._is_lost,
            crashes >= MAX_CRASHES - 1,
        )
        return self._some(connection, is_state(task, State.LEASED), sa.or_(expired, tried))

    def _busy(self, connection: sa.Connection) -> dict[str, int]:
        """Count, by dispatcher, how many tasks it runs."""
        task = self._task
        running = sa.and_(is_state(task, State.LEASED), ~self._is_lost, task.c.held_by.is_not(None))
        statement = (
            sa.select(task.c.held_by, sa.func.count()).where(running).group_by(task.c.held_by)
        )
        return {holder: number for holder, number in connection.execute(statement)}

    def _ahead(self, connection: sa.Connection, record: Record) -> int:
        task = self._task
        if record.due_at is None:
            return 0
        same = sa.and_(
            is_state(task, State.SCHEDULED),
            task.c.queue == record.queue,
            task.c.priority == record.priority,
        )
        before = (
            sa.select(task.c.id)
            .where(same, task.c.due_at < record.due_at)
            .limit(_MOST_AHEAD)
            .subquery()
        )
        return connection.scalar(sa.select(sa.func.count()).select_from(before)) or 0

    def _some(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Record]:
        rows = sa.select(*self._shown).where(*conditions).order_by(self._task.c.id).limit(_SOME)
        return [Record._make(row) for row in connection.execute(rows)]
