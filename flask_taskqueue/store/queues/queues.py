"""Queues: which ones exist, what they let through and which are paused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ...core.queues.rates import Gate, bucket_key
from ...core.settings.queue import LIMITS, QueueSettings
from ...core.states import State
from ...core.times import to_micros
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.lease_ends import is_held
from ..database.tables import Tables
from .key_rows import KeyRows
from .pull_queues import pulled_queues


class Queues:
    """A store of queues; each method joins the transaction of the connection it is given.

    The token bucket of a queue is a row among those of the keys, so that who starts its tasks does
    not change the queue's own row, and no transaction that pauses or configures it is refused.
    """

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._queue = tables.queue
        self._bucket = bucket = tables.lock
        self._buckets = KeyRows(tables, dialect)
        self._now = dialect.now
        self._one_writer = dialect.locks_by_writing
        self._insert = dialect.insert_missing(tables.queue)
        leased = _count(tables.queue, tables.task, is_state(tables.task, State.LEASED))
        in_flight = leased + _count(tables.queue, tables.hold, is_held(tables, dialect.now))
        its_bucket = bucket.c.lock_key == sa.literal(bucket_key("")) + tables.queue.c.name
        self._gates = sa.select(
            tables.queue,
            bucket.c.tokens.label("there"),
            bucket.c.filled_at.label("there_at"),
            in_flight.label("in_flight"),
            dialect.now.label("now"),
        ).select_from(tables.queue.outerjoin(bucket, its_bucket))

    def take_write_lock(self, connection: sa.Connection) -> None:
        """Become the only writer until the transaction ends, if the database has just one.

        Everything that the transaction reads from then on stays the same. This is for a transaction
        of the app's, which may have begun by reading and whose rows cannot be locked there.
        """
        if self._one_writer:
            connection.execute(
                sa.update(self._queue).where(sa.false()).values(paused_by=self._queue.c.paused_by)
            )

    def outdated(
        self, connection: sa.Connection, configured: Iterable[QueueSettings]
    ) -> list[QueueSettings]:
        """Return the queues that have no row yet, or whose limits are configured differently."""
        return self._unlike(
            connection, configured, lambda row, queue: row.configured != queue.configured
        )

    def unknown(
        self, connection: sa.Connection, configured: Iterable[QueueSettings]
    ) -> list[QueueSettings]:
        """Return the queues that have no row yet, that of an added one, or one of another mode."""
        return self._unlike(
            connection,
            configured,
            lambda row, queue: row.configured is None or row.mode != _mode(queue),
        )

    def ensure(self, connection: sa.Connection, queues: Iterable[QueueSettings]) -> None:
        """Give each queue a row with the limits that are configured here.

        Limits that were changed while dispatchers ran stay until the configuration changes. A queue
        that was added while the app ran, or deleted, is a configured one from then on.
        """
        queue = self._queue
        for settings in sorted(queues, key=lambda each: each.name):
            row = {
                "name": settings.name,
                "configured": settings.configured,
                "mode": _mode(settings),
                **settings.limits,
            }
            connection.execute(self._insert, row)
            changed = sa.and_(
                queue.c.name == settings.name,
                sa.func.coalesce(queue.c.configured, "") != settings.configured,
            )
            connection.execute(
                sa.update(queue)
                .where(changed)
                .values(
                    configured=settings.configured,
                    deleted_at=None,
                    mode=row["mode"],
                    **settings.limits,
                )
            )

    def gates(self, connection: sa.Connection, names: Collection[str]) -> dict[str, Gate]:
        """Return what these queues let through now."""
        return {
            row.name: _gate(row)
            for row in connection.execute(self._gates.where(self._queue.c.name.in_(sorted(names))))
        }

    def decide(self, connection: sa.Connection, name: str) -> Gate | None:
        """Return what a queue lets through; nobody else can decide until the transaction ends.

        Returns None if somebody else is already deciding.
        """
        bucket = self._bucket.c.lock_key == bucket_key(name)
        rows = sa.select(self._bucket.c.lock_key).join_from(
            self._bucket, self._queue, self._queue.c.name == name
        )
        decision = rows.where(bucket).with_for_update(skip_locked=True)
        if connection.scalar(decision) is None and not (
            self._buckets.begin(connection, [bucket_key(name)]) and connection.scalar(decision)
        ):
            return None
        return self.gates(connection, [name]).get(name)

    def charge(self, connection: sa.Connection, name: str, gate: Gate, started: int) -> None:
        """Take a token for each start, if the queue has a rate."""
        if gate.rate is None:
            return
        left = gate.after(started)
        changes = {"tokens": left.tokens, "filled_at": left.filled_at}
        mine = self._bucket.c.lock_key == bucket_key(name)
        connection.execute(sa.update(self._bucket).where(mine).values(changes))

    def configure(self, connection: sa.Connection, name: str, limits: Mapping[str, Any]) -> bool:
        """Change limits of a queue; return False if it has no row.

        The bucket keeps its tokens, up to its size.
        """
        if not limits:
            return True
        return (
            connection.execute(
                sa.update(self._queue).where(self._queue.c.name == name).values(**limits)
            ).rowcount
            == 1
        )

    def pause(self, connection: sa.Connection, name: str, by: str | None) -> bool:
        """Stop taking tasks from a queue; return whether it was not paused already."""
        open_queue = sa.and_(self._queue.c.name == name, self._queue.c.paused_at.is_(None))
        return (
            connection.execute(
                sa.update(self._queue).where(open_queue).values(paused_at=self._now, paused_by=by)
            ).rowcount
            == 1
        )

    def resume(self, connection: sa.Connection, name: str) -> bool:
        """Take tasks from a queue again; return whether it was paused."""
        paused = sa.and_(self._queue.c.name == name, self._queue.c.paused_at.is_not(None))
        return (
            connection.execute(
                sa.update(self._queue).where(paused).values(paused_at=None, paused_by=None)
            ).rowcount
            == 1
        )

    def note_purge(self, connection: sa.Connection, name: str, began: datetime) -> None:
        """Note when the last purge of a queue began."""
        mine = self._queue.c.name == name
        connection.execute(sa.update(self._queue).where(mine).values(purged_at=to_micros(began)))

    def closed(self, connection: sa.Connection) -> frozenset[str]:
        """Return the queues of which nothing may begin: they are paused, or their rate is 0."""
        shut = sa.or_(self._queue.c.paused_at.is_not(None), self._queue.c.rate == 0)
        return frozenset(connection.scalars(sa.select(self._queue.c.name).where(shut)))

    def pulled(self, connection: sa.Connection) -> frozenset[str]:
        """Return the pull queues."""
        return pulled_queues(connection, self._tables)

    def limits(self, connection: sa.Connection, name: str) -> dict[str, Any]:
        """Return the limits of a queue; none if it has no row yet."""
        columns = (self._queue.c[limit] for limit in LIMITS)
        row = connection.execute(
            sa.select(*columns).where(self._queue.c.name == name)
        ).one_or_none()
        return {} if row is None else dict(row._mapping)

    def _unlike(
        self,
        connection: sa.Connection,
        configured: Iterable[QueueSettings],
        differs: Callable[[sa.Row[Any], QueueSettings], bool],
    ) -> list[QueueSettings]:
        """Return the queues that have no row yet, or one that differs from them."""
        columns = [self._queue.c[name] for name in ("name", "configured", "mode")]
        rows = {row.name: row for row in connection.execute(sa.select(*columns))}
        return [
            queue
            for queue in configured
            if queue.name not in rows or differs(rows[queue.name], queue)
        ]

    def rows(self, connection: sa.Connection) -> list[sa.Row[Any]]:
        """Return the row of every queue that was not deleted."""
        there = sa.select(self._queue).where(self._queue.c.deleted_at.is_(None))
        return list(connection.execute(there.order_by(self._queue.c.name)))


def _mode(settings: QueueSettings) -> str | None:
    """Return who takes the tasks of a queue, as it is stored; None for dispatchers."""
    return settings.mode if settings.is_pulled else settings.engine


def _count(queue: sa.Table, table: sa.Table, which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """Count the rows of a queue."""
    rows = sa.select(sa.func.count()).select_from(table).where(which, table.c.queue == queue.c.name)
    return rows.correlate(queue).scalar_subquery()


def _gate(row: sa.Row[Any]) -> Gate:
    return Gate.stored(
        row.now,
        rate=row.rate,
        bucket_size=row.bucket_size,
        max_concurrent=row.max_concurrent,
        tokens=row.there,
        filled_at=row.there_at,
        in_flight=row.in_flight,
    )
