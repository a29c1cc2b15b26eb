"""The rows of keys, and the tasks that are parked because of their key.

A task that may not run yet is parked: scheduled, without ``due_at``, so that no claim sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.states import Record
from ..database.dialects import Dialect
from ..database.dialects.claims import waits_for_key
from ..database.tables import Tables
from ..database.task_tables import parked


class KeyRows:
    """A store of keys; each method joins the transaction of the connection it is given."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._lock = tables.lock
        self._one_writer = dialect.locks_by_writing
        self._insert = dialect.insert_missing(tables.lock)

    def decide(self, connection: sa.Connection, keys: Collection[str], *, wait: bool) -> list[str]:
        """Reserve the decision on keys until the transaction ends; return those that were reserved.

        Keys on which another dispatcher decides are left out, or waited for.
        """
        rows = (
            sa.select(self._lock.c.lock_key)
            .where(self._lock.c.lock_key.in_(sorted(keys)))
            .order_by(self._lock.c.lock_key)
        )
        self.begin(connection, keys)
        if self._one_writer:
            return sorted(keys)
        return list(connection.scalars(rows.with_for_update(skip_locked=not wait)))

    def begin(self, connection: sa.Connection, keys: Collection[str]) -> bool:
        """Give each key a row; return whether any had none."""
        rows = sa.select(self._lock.c.lock_key).where(self._lock.c.lock_key.in_(sorted(keys)))
        missing = sorted(set(keys) - set(connection.scalars(rows)))
        if missing:
            connection.execute(self._insert, [{"lock_key": key} for key in missing])
        return bool(missing)

    def with_parked(self, connection: sa.Connection, keys: Collection[str]) -> list[str]:
        """Return the keys for which tasks wait."""
        task, lock = self._task, self._lock
        if not keys:
            return []
        waiting = sa.select(task.c.id).where(waits_for_key(task, lock)).exists()
        return list(
            connection.scalars(
                sa.select(lock.c.lock_key).where(lock.c.lock_key.in_(sorted(keys)), waiting)
            )
        )

    def next_parked(self, key: str, most: int) -> sa.Select[Any]:
        """Return the statement for the tasks that are the next of a key, in their order."""
        task = self._task
        return (
            sa.select(task.c.id)
            .where(task.c.lock_key == key, waits_for_key(task))
            .order_by(task.c.id)
            .limit(most)
        )

    def let_go(self, connection: sa.Connection, ids: Collection[str], due_at: Any) -> None:
        """Make parked tasks due at an instant."""
        waiting = sa.and_(self._task.c.id.in_(sorted(ids)), waits_for_key(self._task))
        connection.execute(sa.update(self._task).where(waiting).values(due_at=due_at))

    def put_back(self, connection: sa.Connection, records: Sequence[Record], due_at: Any) -> None:
        """Schedule claimed tasks as if they had not been claimed; park them if ``due_at`` is NULL.

        Their attempt is not counted.
        """
        if records:
            ids = sorted(record.id for record in records)
            connection.execute(
                sa.update(self._task)
                .where(self._task.c.id.in_(ids))
                .values(parked(self._task, due_at))
            )
