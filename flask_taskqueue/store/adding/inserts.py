"""Inserts: tasks stored, and what happens when a name or a key is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.clock import to_micros
from ...core.errors import (
    InvalidTaskError,
    TaskAlreadyExistsError,
    TombstonedTaskError,
    TransientError,
)
from ...core.record import Record
from ...core.security.encryption import Vault
from ...core.states import FINISHED, State
from ...core.tasks.new_task import Disposition, NewTask
from ..database.dialects import Dialect
from ..database.prepared import Prepared
from ..database.tables import Tables

logger = logging.getLogger("flask_taskqueue")

_CLOCKS = ("eta", "due_at", "created_at", "expires_at")
_NOTHING_YET = (
    *("first_tried_at", "started_at", "finished_at", "progress", "lease_id", "held_by"),
    *("last_status", "last_reason", "last_error"),
)
_COUNTED = ("attempts", "executions", "answered", "crashes", "pardons")
_BEGINNING: dict[str, Any] = {
    "state": State.SCHEDULED.value,
    **dict.fromkeys(_COUNTED, 0),
    **dict.fromkeys(_NOTHING_YET),
}
"""What is the same of all new tasks."""
_ROUNDS = 50
"""How often one is tried: each time another transaction has changed who has the key, so that
one of those at it goes on.
"""
_STAYS = ("skip", "raise")
"""The wishes about a taken key by which the task that has it stays as it is."""


def in_order(news: Sequence[NewTask]) -> list[NewTask]:
    """As they are to be inserted: two transactions that insert the same keys or names, each in
    this order, never wait for each other.
    """
    return sorted(news, key=lambda new: (new.queue, new.unique_key or "", new.name or ""))


class Inserts:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect, vault: Vault) -> None:
        self._task = tables.task
        self._vault = vault
        self._now = dialect.now
        self.replaced: Callable[[sa.Connection, Record, bool], object] = (
            lambda _connection, _record, _expired: None
        )
        """Is called with a task whose place another takes, and whether it had expired: what
        follows a task that is cancelled, follows.
        """
        values: dict[str, Any] = {
            column.name: sa.bindparam(column.name) for column in tables.task.c
        }
        values |= _BEGINNING
        delay, lifetime = (
            sa.bindparam(name, type_=sa.BigInteger) for name in ("delay", "lifetime")
        )
        at, until = (sa.bindparam(name, type_=sa.BigInteger) for name in ("at", "until"))
        due = sa.func.coalesce(at, self._now + delay)
        values |= {
            "eta": due,
            "due_at": due,
            "created_at": self._now,
            "expires_at": sa.func.coalesce(until, self._now + lifetime),
        }
        inserts = {
            False: sa.insert(tables.task).values(values),
            True: dialect.insert_missing(tables.task).values(values),
        }
        clocks = [tables.task.c[one] for one in _CLOCKS]
        self._insert = {
            missing: Prepared(insert, rows_in_one=dialect.sends_singly)
            for missing, insert in inserts.items()
        }
        self._insert_returning = {
            missing: Prepared(insert.returning(*clocks)) for missing, insert in inserts.items()
        }
        self._clocks = Prepared(sa.select(*clocks).where(tables.task.c.id == sa.bindparam("id")))

    def add(self, connection: sa.Connection, new: NewTask) -> tuple[Record, Disposition]:
        """Store a task; what there is now, and how it came about.

        The database's clock says when it was created and, without an eta, when it is due. Raises
        `TaskAlreadyExistsError` or `TombstonedTaskError` when the name is taken, or the key with
        ``on_conflict="raise"``; the unique index decides, so of two adds at once one succeeds.
        """
        disposition: Disposition = "added"
        for _ in range(_ROUNDS):
            stored = self._store(connection, new)
            if stored is not None:
                return stored, disposition
            settled = self._settle(connection, new)
            if isinstance(settled, Record):
                return settled, "debounced" if new.on_conflict == "debounce" else "skipped"
            disposition = settled or disposition
        raise TransientError(
            f"others keep adding a task named {new.name!r} or keyed {new.unique_key!r}; try again"
        )

    def add_joined(
        self, connection: sa.Connection, reader: sa.Connection, new: NewTask
    ) -> tuple[Record, Disposition]:
        """As `add`, in a transaction that may stay open: a key whose task stays is looked for
        first, without a lock.

        An insert that meets the key locks the row of the task that has it until the end of the
        transaction, and whoever attempts that task would wait. ``reader`` sees what is committed
        now, whatever the transaction's snapshot.
        """
        held = self._find_holder(connection, new)
        if held is not None:
            committed = self._find_holder(reader, new)
            if committed is not None and committed.id == held.id:
                return self._stand_for(committed, new), "skipped"
        return self.add(connection, new)

    def add_missing(self, connection: sa.Connection, news: Sequence[NewTask]) -> set[str]:
        """Store many, in one statement; the ids of those that were not because their name or
        key is taken.
        """
        if not news:
            return set()
        news = in_order(news)
        may_conflict = any(map(_may_conflict, news))
        self._free_names(connection, news)
        self._insert[may_conflict].execute_many(
            connection, [self._columns(one) | _when(one) for one in news]
        )
        if not may_conflict:
            return set()
        ids = {one.id for one in news}
        return ids - set(
            connection.scalars(sa.select(self._task.c.id).where(self._task.c.id.in_(sorted(ids))))
        )

    def add_following(
        self, connection: sa.Connection, news: Sequence[NewTask], after: str
    ) -> list[str]:
        """Store tasks that follow something, as `add` does each; the ids of those that stand for
        them now.

        One whose name or key is taken, and that must not have it, is not stored, which the log
        tells; ``after`` says what it follows.
        """
        plain = [new for new in news if not _may_conflict(new)]
        self.add_missing(connection, plain)
        others = (
            self._add_following(connection, new, after)
            for new in in_order(news)
            if _may_conflict(new)
        )
        return [new.id for new in plain] + [one for one in others if one is not None]

    def _add_following(self, connection: sa.Connection, new: NewTask, after: str) -> str | None:
        try:
            stored, disposition = self.add(connection, new)
        except InvalidTaskError as error:
            logger.warning("what follows %s was not added: %s", after, error)
            return None
        if disposition == "skipped":
            logger.info(
                "what follows %s was not added: task %s already has its unique_key",
                after,
                stored.id,
            )
            return None
        return stored.id

    def named(self, connection: sa.Connection, new: NewTask) -> Record:
        """The task that has the name a new one asked for."""
        holder = self._holder(connection, self._task.c.name == new.name, new.queue)
        if holder is None:
            raise TransientError(f"the task named {new.name!r} went away meanwhile; try again")
        return holder

    def _store(self, connection: sa.Connection, new: NewTask) -> Record | None:
        """Insert a task; None if its name or key is taken."""
        missing = _may_conflict(new)
        columns = self._columns(new)
        row = columns | _when(new)
        if connection.dialect.insert_returning:
            clocks = self._insert_returning[missing].execute(connection, row).one_or_none()
        else:
            stored = self._insert[missing].execute(connection, row).rowcount == 1
            clocks = self._clocks.execute(connection, {"id": new.id}).one() if stored else None
        return (
            None
            if clocks is None
            else Record(**columns, **_BEGINNING, **dict(zip(_CLOCKS, clocks, strict=True)))
        )

    def _settle(self, connection: sa.Connection, new: NewTask) -> Record | Disposition | None:
        """What to do about whoever is in the way: the task that stands for the new one, or a
        disposition and it can be tried again.
        """
        if new.name is not None:
            self._settle_name(connection, new)
        if new.unique_key is None:
            return None
        holder = self._holder(connection, self._task.c.unique_key == new.unique_key, new.queue)
        if holder is None or self._ends_expired(connection, holder):
            return None
        if new.on_conflict in _STAYS:
            return self._stand_for(holder, new)
        return self._supersede(connection, holder, new)

    def _ends_expired(self, connection: sa.Connection, holder: Record) -> bool:
        """Cancel the task that has a key if it may not begin any more, so that it keeps no
        other from beginning; whether it was.
        """
        task = self._task
        late = sa.and_(
            task.c.id == holder.id,
            task.c.state == State.SCHEDULED.value,
            task.c.expires_at <= self._now,
        )
        ended = {
            "state": State.CANCELLED.value,
            "unique_key": None,
            "due_at": None,
            "finished_at": self._now,
            "last_reason": "expired",
        }
        if not connection.execute(sa.update(task).where(late).values(ended)).rowcount:
            return False
        self.replaced(connection, holder, True)
        return True

    def _find_holder(self, connection: sa.Connection, new: NewTask) -> Record | None:
        """The task that has the key of a new one, and stays; None if there is none."""
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

    def _stand_for(self, holder: Record, new: NewTask) -> Record:
        if new.on_conflict == "raise":
            raise TaskAlreadyExistsError(
                f"queue {new.queue!r} has a task with unique_key {new.unique_key!r} already: "
                f"{holder.id}"
            )
        return holder

    def _supersede(
        self, connection: sa.Connection, holder: Record, new: NewTask
    ) -> Record | Disposition | None:
        task = self._task
        mine = sa.and_(task.c.id == holder.id, task.c.unique_key == new.unique_key)
        if (
            holder.state == State.LEASED
        ):  # it runs on, without the key: what it has begun with is past
            connection.execute(sa.update(task).where(mine).values(unique_key=None))
            return None
        if new.on_conflict == "debounce":
            return self._debounce(connection, holder, new)
        ended = {
            "state": State.CANCELLED.value,
            "unique_key": None,
            "due_at": None,
            "finished_at": self._now,
            "last_reason": "replaced",
        }
        connection.execute(sa.update(task).where(mine).values(ended))
        self.replaced(connection, holder, False)
        return "replaced"

    def _debounce(self, connection: sa.Connection, holder: Record, new: NewTask) -> Record:
        """The task there is takes the request and the eta of the new one."""
        due: Any = self._now + new.delay if new.eta is None else to_micros(new.eta)
        fresh = {
            name: value
            for name, value in self._columns(new).items()
            if name in {"method", "url", "target", "headers", "body"}
        }
        fresh |= {"eta": due, "due_at": None if holder.due_at is None else due}
        connection.execute(sa.update(self._task).where(self._task.c.id == holder.id).values(fresh))
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

    def _free_names(self, connection: sa.Connection, news: Sequence[NewTask]) -> None:
        for one in news:
            if one.name is not None and one.tombstone is not None:
                self._free_name(connection, one)

    def _free_name(self, connection: sa.Connection, new: NewTask) -> bool:
        """Take a name from a task that ended longer ago than names are kept; whether one was."""
        task = self._task
        past = sa.and_(
            task.c.queue == new.queue,
            task.c.name == new.name,
            task.c.finished_at < self._now - new.tombstone,
        )
        return connection.execute(sa.update(task).where(past).values(name=None)).rowcount == 1

    def _columns(self, new: NewTask) -> dict[str, Any]:
        """The columns in which a new task differs from others, but for those the clock fills;
        what it holds is sealed.
        """
        return {
            "id": new.id,
            "name": new.name,
            "queue": new.queue,
            "priority": new.priority,
            "method": new.request.method,
            "url": new.request.url,
            "target": new.target,
            "headers": self._vault.seal_text(new.headers),
            "body": self._vault.seal(new.request.body),
            "deadline": new.deadline,
            "retry": new.retry,
            "unique_key": new.unique_key,
            "given_key": new.unique_key,
            "lock_key": new.lock_key,
            "lock_limit": new.lock_limit,
            "follow_up": self._vault.seal_text(new.follow_up),
            "batch_id": new.batch_id,
            "callback_of": new.callback_of,
            "schedule": new.schedule,
            "keep_result": int(new.keep_result),
        }

    def _holder(
        self, connection: sa.Connection, condition: sa.ColumnElement[bool], queue: str
    ) -> Record | None:
        row = connection.execute(
            sa.select(self._task).where(condition, self._task.c.queue == queue).with_for_update()
        ).one_or_none()
        return None if row is None else Record._make(row)


def _may_conflict(new: NewTask) -> bool:
    return new.name is not None or new.unique_key is not None


def _when(new: NewTask) -> dict[str, Any]:
    """What the insert binds for the columns that the clock fills."""
    return {
        "delay": new.delay,
        "lifetime": new.expires_in,
        "at": None if new.eta is None else to_micros(new.eta),
        "until": None if new.expires_at is None else to_micros(new.expires_at),
    }
