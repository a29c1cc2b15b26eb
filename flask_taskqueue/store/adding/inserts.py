"""Inserts: how tasks are stored, even if a name or a key is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.errors import InvalidTaskError, TransientError
from ...core.security.encryption import Encryption
from ...core.states import Record
from ...core.tasks.spec import Disposition, NewTask
from ...process.logs import get_logger
from ..database.database import Work
from ..database.dialects import Dialect
from ..database.prepared import Prepared
from ..database.tables import Tables
from .conflicts import Conflicts, stand_for
from .task_rows import BEGINNING, clock_columns, clock_row, task_row

_logger = get_logger()

_CLOCKS = ("eta", "due_at", "created_at", "expires_at")
_TAKEN = "taskqueue_met_taken"
_ROUNDS = 50
"""The number of tries of one insert.

Each try fails because another transaction has changed who has the key, so one of those that compete
for it succeeds.
"""


def in_order(news: Sequence[NewTask]) -> list[NewTask]:
    """Return new tasks in the order in which to insert them.

    Two transactions that insert the same keys or names in this order never wait for each other.
    """
    return sorted(news, key=lambda new: (new.queue, new.unique_key or "", new.name or ""))


class Inserts:
    """A store of new tasks; each method joins the transaction of the connection it is given."""

    def __init__(
        self, tables: Tables, dialect: Dialect, encryption: Encryption, conflicts: Conflicts
    ) -> None:
        self._task = tables.task
        self._encryption = encryption
        self._now = dialect.now
        self.conflicts = conflicts
        values = _bound_values(tables.task, dialect.now)
        inserts = {
            False: sa.insert(tables.task).values(values),
            True: dialect.insert_missing(tables.task).values(values),
        }
        clocks = [tables.task.c[name] for name in _CLOCKS]
        self._insert = {
            missing: Prepared(insert, rows_in_one=dialect.sends_singly)
            for missing, insert in inserts.items()
        }
        self._insert_returning = {
            missing: Prepared(insert.returning(*clocks)) for missing, insert in inserts.items()
        }
        self._clocks = Prepared(sa.select(*clocks).where(tables.task.c.id == sa.bindparam("id")))

    def add(self, connection: sa.Connection, new: NewTask) -> tuple[Record, Disposition]:
        """Store a task; return the task that is stored now, and how it came about.

        The database's clock says when it was created and, without an eta, when it is due. Raises
        `TaskAlreadyExistsError` or `TombstonedTaskError` if the name is taken, or the key with
        ``on_conflict="raise"``. The unique index decides, so of two concurrent adds one succeeds.
        """
        disposition: Disposition = "added"
        for _ in range(_ROUNDS):
            stored = self._store(connection, new)
            if stored is not None:
                return stored, disposition
            settled = self.conflicts.settle(connection, new)
            if isinstance(settled, Record):
                return settled, "debounced" if new.on_conflict == "debounce" else "skipped"
            disposition = settled or disposition
        raise TransientError(
            f"others keep adding a task named {new.name!r} or keyed {new.unique_key!r}; try again"
        )

    def add_joined(
        self,
        connection: sa.Connection,
        read: Callable[[Work[Record | None]], Record | None],
        new: NewTask,
    ) -> tuple[Record, Disposition]:
        """Store a task as `add` does, in a transaction of the app's that may stay open.

        An insert that meets a taken key locks the row of the task that has it until the transaction
        ends, and whoever attempts that task would have to wait. So this first looks, without a
        lock, for a task that keeps the key. What is ``read`` is what is committed now, whatever
        the transaction's snapshot.
        """
        held = self.conflicts.find_holder(connection, new)
        if held is not None:
            committed = read(lambda reader: self.conflicts.find_holder(reader, new))
            if committed is not None and committed.id == held.id:
                return stand_for(committed, new), "skipped"
        return self.add(connection, new)

    def add_missing(self, connection: sa.Connection, news: Sequence[NewTask]) -> set[str]:
        """Store many tasks in one statement; return the ids of those whose name or key is taken."""
        if not news:
            return set()
        news = in_order(news)
        may_conflict = any(map(_may_conflict, news))
        self.conflicts.free_names(connection, news)
        self._insert[may_conflict].execute_many(
            connection, [task_row(new, self._encryption) | clock_row(new) for new in news]
        )
        if not may_conflict:
            return set()
        ids = {new.id for new in news}
        taken = ids - set(
            connection.scalars(sa.select(self._task.c.id).where(self._task.c.id.in_(sorted(ids))))
        )
        if taken:
            connection.info[_TAKEN] = True
        return taken

    def add_following(
        self, connection: sa.Connection, news: Sequence[NewTask], after: str
    ) -> list[str]:
        """Store follow-up tasks; return the ids of the tasks that stand for them now.

        Each is stored as by `add`. A task that must not be added, because its name or key is taken,
        is left out, and that is logged; ``after`` says in the log what it follows.
        """
        plain = [new for new in news if not _may_conflict(new)]
        self.add_missing(connection, plain)
        others = (
            self._add_following(connection, new, after)
            for new in in_order(news)
            if _may_conflict(new)
        )
        return [new.id for new in plain] + [task_id for task_id in others if task_id is not None]

    def _add_following(self, connection: sa.Connection, new: NewTask, after: str) -> str | None:
        try:
            stored, disposition = self.add(connection, new)
        except InvalidTaskError as error:
            _logger.warning("what follows %s was not added: %s", after, error)
            return None
        if disposition == "skipped":
            _logger.info(
                "what follows %s was not added: task %s already has its unique_key",
                after,
                stored.id,
            )
            return None
        return stored.id

    def _store(self, connection: sa.Connection, new: NewTask) -> Record | None:
        """Insert a task; None if its name or key is taken."""
        missing = _may_conflict(new)
        columns = task_row(new, self._encryption)
        row = columns | clock_row(new)
        if connection.dialect.insert_returning:
            clocks = self._insert_returning[missing].execute(connection, row).one_or_none()
        else:
            stored = self._insert[missing].execute(connection, row).rowcount == 1
            clocks = self._clocks.execute(connection, {"id": new.id}).one() if stored else None
        if clocks is None:
            connection.info[_TAKEN] = True
        return (
            None
            if clocks is None
            else Record(**columns, **BEGINNING, **dict(zip(_CLOCKS, clocks, strict=True)))
        )


def has_met_taken(connection: sa.Connection) -> bool:
    """Return whether inserts have met a taken name or key since a connection was last asked."""
    return connection.info.pop(_TAKEN, False) is True


def _may_conflict(new: NewTask) -> bool:
    return new.name is not None or new.unique_key is not None


def _bound_values(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the values that an insert binds for each column, and those that the clock fills."""
    values: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in task.c}
    values |= BEGINNING
    return values | clock_columns(now) | {"created_at": now}
