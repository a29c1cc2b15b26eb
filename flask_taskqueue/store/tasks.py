"""Tasks: stored, found and changed by their users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..core.clock import to_micros
from ..core.errors import BadTaskStateError, InvalidTaskError, TaskAlreadyExistsError, TombstonedTaskError, UnknownTaskError
from ..core.new_task import NewTask
from ..core.record import Record
from ..core.states import FINISHED, LIVE, State
from .dialects import Dialect
from .dialects.states import is_state
from .tables import Tables

_CLOCKS = ("eta", "due_at", "created_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks to find; None leaves a field open. ``before`` is a task id."""

    state: State | None = None
    queue: str | None = None
    url: str | None = None
    name: str | None = None
    before: str | None = None


class Tasks:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._now = dialect.now
        delay = sa.bindparam("delay", type_=sa.BigInteger)
        clocks = {"eta": self._now + delay, "due_at": self._now + delay, "created_at": self._now}
        at = {"eta": sa.bindparam("at", type_=sa.BigInteger), "due_at": sa.bindparam("at", type_=sa.BigInteger), "created_at": self._now}
        self._insert = {
            (named, given): (dialect.insert_missing(self._task) if named else sa.insert(self._task)).values(at if given else clocks)
            for named in (False, True)
            for given in (False, True)
        }

    def add(self, connection: sa.Connection, new: NewTask) -> Record:
        """Store a task. The database's clock says when it was created and, without an eta, when it is due.

        Raises `TaskAlreadyExistsError` or `TombstonedTaskError` when the name is taken; the unique
        index decides, so of two that add the same name at once one succeeds.
        """
        values = _row(new)
        bound = values | ({"delay": new.delay} if new.eta is None else {"at": to_micros(new.eta)})
        statement = self._insert[new.name is not None, new.eta is not None]
        if connection.dialect.insert_returning:
            row = connection.execute(statement.returning(*(self._task.c[one] for one in _CLOCKS)), bound).one_or_none()
        else:
            inserted = connection.execute(statement, bound).rowcount
            row = self._clocks(connection, new.id) if inserted else None
        if row is None:
            raise self._name_taken(connection, new)
        return Record(**values, **row._mapping)

    def get(self, connection: sa.Connection, task_id: str) -> Record:
        """The row of a task. Raises `UnknownTaskError`."""
        row = connection.execute(sa.select(self._task).where(self._task.c.id == task_id)).one_or_none()
        if row is None:
            raise UnknownTaskError(f"there is no task {task_id!r}; it never was, or has been pruned")
        return Record._make(row)

    def find(self, connection: sa.Connection, wanted: Filter, limit: int) -> list[Record]:
        """The newest tasks that match, newest first."""
        task = self._task
        equal = {"state": wanted.state, "queue": wanted.queue, "url": wanted.url, "name": wanted.name}
        conditions = [task.c[column] == value for column, value in equal.items() if value is not None]
        if wanted.before is not None:
            conditions.append(task.c.id < wanted.before)
        statement = sa.select(task).where(*conditions).order_by(task.c.id.desc()).limit(limit)
        return [Record._make(row) for row in connection.execute(statement)]

    def requeue(self, connection: sa.Connection, task_id: str) -> None:
        """Schedule a dead task again, from its first attempt. Raises `BadTaskStateError` if it is not dead."""
        afresh: dict[str, Any] = {
            "state": State.SCHEDULED.value,
            "due_at": self._now,
            **dict.fromkeys(("attempts", "executions", "crashes", "pardons"), 0),
            **dict.fromkeys(("finished_at", "first_tried_at", "started_at", "lease_id", "held_by")),
        }
        self._change(connection, task_id, State.DEAD, afresh, "requeued")

    def run_now(self, connection: sa.Connection, task_id: str) -> None:
        """Make a scheduled task due. Raises `BadTaskStateError` if it is not scheduled."""
        self._change(connection, task_id, State.SCHEDULED, {"due_at": self._now}, "run now")

    def delete(self, connection: sa.Connection, task_id: str) -> bool:
        """Cancel a task that has not ended; whether there was anything to cancel. Raises `UnknownTaskError`."""
        task = self._task
        changes = {"state": State.CANCELLED.value, "due_at": None, "finished_at": self._now}
        live = sa.and_(task.c.id == task_id, task.c.state.in_([state.value for state in LIVE]))
        if connection.execute(sa.update(task).where(live).values(changes)).rowcount:
            return True
        self.get(connection, task_id)
        return False

    def _change(self, connection: sa.Connection, task_id: str, state: State, changes: dict[str, Any], verb: str) -> None:
        task = self._task
        matching = sa.and_(task.c.id == task_id, is_state(task, state))
        if not connection.execute(sa.update(task).where(matching).values(changes)).rowcount:
            found = self.get(connection, task_id)
            raise BadTaskStateError(f"task {task_id} is {found.state}; only a {state} task can be {verb}")

    def _clocks(self, connection: sa.Connection, task_id: str) -> sa.Row[Any]:
        columns = (self._task.c[one] for one in _CLOCKS)
        return connection.execute(sa.select(*columns).where(self._task.c.id == task_id)).one()

    def _name_taken(self, connection: sa.Connection, new: NewTask) -> InvalidTaskError:
        task = self._task
        holder = connection.execute(
            sa.select(task.c.id, task.c.state).where(task.c.queue == new.queue, task.c.name == new.name)
        ).one_or_none()
        if holder is not None and State(holder.state) in FINISHED:
            return TombstonedTaskError(
                f"queue {new.queue!r} had a task named {new.name!r} (it is {holder.state}); the name is free again when that is pruned"
            )
        return TaskAlreadyExistsError(f"queue {new.queue!r} has a task named {new.name!r} already")


def _row(new: NewTask) -> dict[str, Any]:
    """The columns of a new task, but for those the clock fills."""
    return {
        "id": new.id,
        "name": new.name,
        "queue": new.queue,
        "priority": new.priority,
        "state": State.SCHEDULED.value,
        "method": new.request.method,
        "url": new.request.url,
        "target": new.target,
        "headers": new.headers,
        "body": new.request.body,
        "deadline": new.deadline,
        "retry": new.retry,
        **dict.fromkeys(("attempts", "executions", "crashes", "pardons"), 0),
        **dict.fromkeys(("first_tried_at", "started_at", "finished_at", "lease_id", "held_by", "last_status", "last_reason", "last_error")),
    }
