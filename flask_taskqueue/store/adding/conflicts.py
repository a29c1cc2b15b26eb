"""Conflicts: what happens if the name or the unique key of a new task is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ...core.errors import (
    InvalidTaskError,
    TaskAlreadyExistsError,
    TombstonedTaskError,
    TransientError,
)
from ...core.security.encryption import Encryption
from ...core.states import FINISHED, Record, State
from ...core.tasks.spec import Disposition, NewTask
from ..database.dialects import Dialect
from ..database.tables import Tables
from ..database.task_tables import ended
from .task_rows import clock_columns, clock_row, task_row

_REQUEST = frozenset(("method", "url", "target", "headers", "body", "for_worker", "surface"))
"""The columns that a debounced task takes from the new one."""
_STAYS = ("skip", "raise")
"""The values of ``on_conflict`` with which the existing task stays as it is."""


class Conflicts:
    """The decision, within the transaction of an insert, about the task that is in the way."""

    def __init__(self, tables: Tables, dialect: Dialect, encryption: Encryption) -> None:
        self._task = tables.task
        self._now = dialect.now
        self._encryption = encryption
        self.replaced: Callable[[sa.Connection, Record, bool], object] = (
            lambda _connection, _record, _expired: None
        )
        """A function called with each task whose place another takes, and whether it had expired.

        It adds the follow-up of a cancelled task.
        """
        self.put_off: Callable[[sa.Connection, Record], object] = lambda _connection, _record: None
        """A function called with each task that was debounced, so that others of its key may go."""

    def settle(self, connection: sa.Connection, new: NewTask) -> Record | Disposition | None:
        """Deal with the task in the way and return the task that stands for the new one.

        If none does, the insert can be tried again; the disposition then says what happened, if
        anything did.
        """
        if new.name is not None:
            self._settle_name(connection, new)
        if new.unique_key is None:
            return None
        holder = self._holder(connection, self._task.c.unique_key == new.unique_key, new.queue)
        if holder is None or self._ends_expired(connection, holder):
            return None
        if new.on_conflict in _STAYS:
            return stand_for(holder, new)
        return self._supersede(connection, holder, new)

    def find_holder(self, connection: sa.Connection, new: NewTask) -> Record | None:
        """Return the task that has the key of a new one and keeps it, or None if there is none."""
        if new.unique_key is None or new.on_conflict not in _STAYS:
            return None
        lasts = sa.or_(
            self._task.c.expires_at.is_(None),
            self._task.c.expires_at > self._now,
            self._task.c.state == State.LEASED.value,
        )
        mine = sa.and_(
            self._task.c.unique_key == new.unique_key, self._task.c.queue == new.queue, lasts
        )
        row = connection.execute(sa.select(self._task).where(mine)).one_or_none()
        return None if row is None else Record._make(row)

    def named(self, connection: sa.Connection, new: NewTask) -> Record:
        """Return the task that has the name that a new one asked for."""
        holder = self._holder(connection, self._task.c.name == new.name, new.queue)
        if holder is None:
            raise TransientError(f"the task named {new.name!r} went away meanwhile; try again")
        return holder

    def free_names(self, connection: sa.Connection, news: Sequence[NewTask]) -> None:
        for new in news:
            if new.name is not None and new.tombstone is not None:
                self._free_name(connection, new)

    def _ends_expired(self, connection: sa.Connection, holder: Record) -> bool:
        """Cancel the task that has a key if it has expired, and return whether it had.

        It may not begin any more, so it must not keep another from beginning.
        """
        task = self._task
        late = sa.and_(
            task.c.id == holder.id,
            task.c.state.in_((State.SCHEDULED.value, State.FORWARDED.value)),
            task.c.expires_at <= self._now,
        )
        changes = ended(State.CANCELLED, self._now, last_reason="expired")
        if not connection.execute(sa.update(task).where(late).values(changes)).rowcount:
            return False
        self.replaced(connection, holder, True)
        return True

    def _supersede(
        self, connection: sa.Connection, holder: Record, new: NewTask
    ) -> Record | Disposition | None:
        task = self._task
        mine = sa.and_(task.c.id == holder.id, task.c.unique_key == new.unique_key)
        if holder.state == State.LEASED:  # it runs on without the key: what it began with is old
            connection.execute(sa.update(task).where(mine).values(unique_key=None))
            return None
        if new.on_conflict == "debounce":
            return self._debounce(connection, holder, new)
        changes = ended(State.CANCELLED, self._now, last_reason="replaced")
        connection.execute(sa.update(task).where(mine).values(changes))
        self.replaced(connection, holder, False)
        return "replaced"

    def _debounce(self, connection: sa.Connection, holder: Record, new: NewTask) -> Record:
        """Give the existing task the request, the eta and the expiry of the new one.

        One that waits for its key is due at the eta too; if the key is still taken, it waits again.
        """
        row = task_row(new, self._encryption)
        fresh = {name: value for name, value in row.items() if name in _REQUEST}
        fresh |= clock_columns(self._now)
        change = sa.update(self._task).where(self._task.c.id == holder.id).values(fresh)
        connection.execute(change, clock_row(new))
        self.put_off(connection, holder)
        return Record._make(
            connection.execute(sa.select(self._task).where(self._task.c.id == holder.id)).one()
        )

    def _settle_name(self, connection: sa.Connection, new: NewTask) -> None:
        """Raise unless the name is free now."""
        holder = self._holder(connection, self._task.c.name == new.name, new.queue)
        if holder is None:
            return
        if State(holder.state) in FINISHED:
            if new.tombstone is not None and self._free_name(connection, new):
                return
            raise self._tombstoned(holder, new)
        raise TaskAlreadyExistsError(f"queue {new.queue!r} has a task named {new.name!r} already")

    def _tombstoned(self, holder: Record, new: NewTask) -> InvalidTaskError:
        until = (
            "when that is pruned"
            if new.tombstone_ttl is None
            else f"{new.tombstone_ttl:g} s after its end"
        )
        return TombstonedTaskError(
            f"queue {new.queue!r} had a task named {new.name!r} (it is {holder.state}); the "
            f"name is free again {until}"
        )

    def _free_name(self, connection: sa.Connection, new: NewTask) -> bool:
        """Free a name whose task ended longer ago than names are kept; return whether it did."""
        task = self._task
        past = sa.and_(
            task.c.queue == new.queue,
            task.c.name == new.name,
            task.c.finished_at < self._now - new.tombstone,
        )
        return connection.execute(sa.update(task).where(past).values(name=None)).rowcount == 1

    def _holder(
        self, connection: sa.Connection, condition: sa.ColumnElement[bool], queue: str
    ) -> Record | None:
        row = connection.execute(
            sa.select(self._task).where(condition, self._task.c.queue == queue).with_for_update()
        ).one_or_none()
        return None if row is None else Record._make(row)


def stand_for(holder: Record, new: NewTask) -> Record:
    if new.on_conflict == "raise":
        raise TaskAlreadyExistsError(
            f"queue {new.queue!r} has a task with unique_key {new.unique_key!r} already: "
            f"{holder.id}"
        )
    return holder
