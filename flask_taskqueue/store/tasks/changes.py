"""Reading and changing tasks on behalf of their users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ...core.errors import BadTaskStateError, TaskAlreadyExistsError
from ...core.names import id_range
from ...core.queues.rate_keys import is_rate_key
from ...core.states import Record, State
from ...core.tasks.request import PULL
from ..counters.counters import Counters, departures
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.lease_ends import is_lost
from ..database.tables import Tables
from ..database.task_tables import ended
from ..database.transaction import MovedError
from ..leases.attempts import AttemptLog, leases_of
from ..leases.finish import Finish, Transition
from ..leases.holds import Holds
from ..queues.deleted_queues import refuse_deleted
from ..queues.pull_queues import pulled_queues
from .filters import Filter
from .search import unknown_task_error
from .selection import Action, Selection, last_of_each_key


class Tasks:
    """A reader of tasks that also changes them; each method joins its connection's transaction.

    The transaction may be the app's, so rows are read as they are, without renewals of their leases
    (see `Search` for what is shown).
    """

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        finish: Finish,
        counters: Counters,
        log: AttemptLog,
        holds: Holds,
    ) -> None:
        self._tables = tables
        self._task = tables.task
        self._batch = tables.batch
        self.selection: Selection = Selection(tables, dialect)
        self._now = dialect.now
        self._is_lost = is_lost(tables, dialect.now)
        self._finish = finish
        self._counters = counters
        self._log = log
        self._holds = holds

    def get(self, connection: sa.Connection, task_id: str) -> Record:
        """Return the row of a task. Raises `UnknownTaskError`."""
        found = self.get_all(connection, [task_id])
        if not found:
            raise unknown_task_error(task_id)
        return found[0]

    def progress_of(self, connection: sa.Connection, task_id: str) -> sa.Row[Any] | None:
        """Return the state and the progress of a task, without what it holds; None without one."""
        columns: tuple[Any, ...] = (self._task.c.state, self._task.c.progress)
        return connection.execute(
            sa.select(*columns).where(self._task.c.id == task_id)
        ).one_or_none()

    def get_all(self, connection: sa.Connection, ids: Sequence[str]) -> list[Record]:
        """Return the rows of these tasks, as far as they exist."""
        these = Filter(ids=ids).conditions(self._task)
        rows = connection.execute(sa.select(self._task).where(*these))
        return [Record._make(row) for row in rows]

    def ids_of(self, connection: sa.Connection, queue: str, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of a queue's tasks by their names; a task without one has its id."""
        task = self._task
        found = connection.execute(
            sa.select(task.c.name, task.c.id).where(
                task.c.queue == queue,
                sa.or_(
                    task.c.name.in_(list(names)),
                    sa.and_(task.c.name.is_(None), task.c.id.in_(list(names))),
                ),
            )
        )
        return {row.name or row.id: row.id for row in found}

    def lost(self, connection: sa.Connection, ids: Sequence[str]) -> set[str]:
        """Return those of these tasks whose lease ran out: their process died or was cut off."""
        out = (self._task.c.id.in_(list(ids)), is_state(self._task, State.LEASED), self._is_lost)
        return set(connection.scalars(sa.select(self._task.c.id).where(*out)))

    def ids_like(self, connection: sa.Connection, prefix: str, limit: int) -> list[str]:
        """Return the ids that begin with ``prefix``, the oldest first."""
        first, last = id_range(prefix)
        between = self._task.c.id.between(first, last)
        return list(
            connection.scalars(
                sa.select(self._task.c.id).where(between).order_by(self._task.c.id).limit(limit)
            )
        )

    def count(self, connection: sa.Connection, filter: Filter, action: Action | None = None) -> int:
        """Count the tasks that match and, if an action is given, to which it applies."""
        conditions = (
            filter.conditions(self._task)
            if action is None
            else self.selection.conditions(action, filter)
        )
        return (
            connection.scalar(sa.select(sa.func.count()).select_from(self._task).where(*conditions))
            or 0
        )

    def change_some(self, connection: sa.Connection, filter: Filter, action: Action) -> int:
        """Apply an action to up to `BATCH` tasks that match; return how many."""
        changes = {
            Action.REQUEUE: self.requeue_some,
            Action.RUN_NOW: self.run_some_now,
            Action.DELETE: self.delete_some,
        }
        return changes[action](connection, filter)

    def requeue(self, connection: sa.Connection, task_id: str) -> None:
        """Schedule a dead task again, from its first attempt, with its unique_key.

        Raises `BadTaskStateError` if it is not dead, `UnknownQueueError` if its queue was deleted,
        `TaskAlreadyExistsError` if a task that has not ended has the key now.
        """
        if self.requeue_some(connection, Filter(ids=[task_id])):
            return
        found = self.get(connection, task_id)
        if found.state == State.DEAD:
            refuse_deleted(connection, self._tables, found.queue)
            raise TaskAlreadyExistsError(
                f"task {task_id} cannot be requeued: another task that has not ended has its "
                f"unique_key {found.given_key!r} now. "
                "Delete that one first, or let it do the work"
            )
        self._object(connection, task_id, State.DEAD, "requeued")

    def requeue_some(self, connection: sa.Connection, filter: Filter) -> int:
        """Schedule up to `BATCH` dead tasks that match again, with their keys; return how many.

        Tasks whose unique_key is taken, or whose queue was deleted, stay dead.
        """
        dead = last_of_each_key(self.selection.lock(connection, Action.REQUEUE, filter))
        afresh: dict[str, Any] = {
            "state": State.SCHEDULED.value,
            "due_at": self._now,
            "unique_key": self._task.c.given_key,
            **dict.fromkeys(("attempts", "executions", "answered", "crashes", "pardons"), 0),
            **dict.fromkeys(
                (
                    *("finished_at", "first_tried_at", "started_at", "expires_at"),
                    *("lease_id", "held_by", "forwarded_for"),
                )
            ),
        }
        try:
            self._update(connection, dead, afresh)
        except sa.exc.IntegrityError as error:
            raise MovedError from error  # somebody took a key since it was looked at
        self._counters.add(
            connection,
            departures(((record.queue, record.state) for record in dead), requeued=True),
        )
        for batch_id in sorted({record.batch_id for record in dead if record.batch_id is not None}):
            again = sum(record.batch_id == batch_id for record in dead)
            unfinished = sa.and_(self._batch.c.id == batch_id, self._batch.c.finished_at.is_(None))
            connection.execute(
                sa.update(self._batch).where(unfinished).values(dead=self._batch.c.dead - again)
            )
        return len(dead)

    def run_now(self, connection: sa.Connection, task_id: str, *, force: bool = False) -> None:
        """Make a scheduled task due, with ``force`` whatever its queue (see `Forced`).

        Raises `BadTaskStateError` if it is not scheduled, or is a pull queue's.
        """
        if not self.run_some_now(connection, Filter(ids=[task_id]), force=force):
            self._object(connection, task_id, State.SCHEDULED, "run now")

    def run_some_now(
        self, connection: sa.Connection, filter: Filter, *, force: bool = False
    ) -> int:
        """Make up to `BATCH` scheduled tasks that match due; return how many.

        Tasks that wait for a key keep waiting, and those of pull queues are left alone, because a
        worker may have leased them. Forwarded ones are handed over again, for now; what
        Cloud Tasks has of them already then finds them ended.
        """
        found = self.selection.lock(connection, Action.RUN_NOW, filter)
        mark = {"forced_at": self._now} if force else {}
        self._update(
            connection,
            [record for record in found if record.state == State.SCHEDULED],
            {"due_at": self._now, **mark},
        )
        self._update(
            connection,
            [record for record in found if record.state == State.FORWARDED],
            {
                "state": State.SCHEDULED.value,
                "due_at": self._now,
                **dict.fromkeys(("lease_id", "held_by", "forwarded_for")),
            },
        )
        return len(found)

    def delete(self, connection: sa.Connection, task_id: str) -> bool:
        """Cancel a task that has not ended; return whether there was anything to cancel.

        Raises `UnknownTaskError`.
        """
        if self.delete_some(connection, Filter(ids=[task_id])):
            return True
        self.get(connection, task_id)
        return False

    def delete_some(
        self, connection: sa.Connection, filter: Filter, reason: str | None = None
    ) -> int:
        """Cancel up to `BATCH` tasks that match and have not ended; return how many.

        ``reason`` is kept as what ended them. A running task is taken from its handler; its place
        is freed when the handler ends.
        """
        live = self._withdrawn(connection, self.selection.lock(connection, Action.DELETE, filter))
        held = self._holds.take(
            connection,
            leases_of(record for record in live if record.state == State.LEASED),
            ended=True,
        )
        why = {} if reason is None else {"last_reason": reason}
        self._update(connection, live, ended(State.CANCELLED, self._now, **why))
        self._finish.cancelled(
            connection,
            [
                Transition(record, State.CANCELLED, held=(record.id, record.lease_id) in held)
                for record in live
            ],
        )
        return len(live)

    def report(self, connection: sa.Connection, record: Record, progress: str) -> bool:
        """Store the progress of a task while its lease holds; return False if it was lost."""
        mine = sa.and_(
            self._task.c.id == record.id,
            self._task.c.lease_id == record.lease_id,
            is_state(self._task, State.LEASED),
        )
        return (
            connection.execute(sa.update(self._task).where(mine).values(progress=progress)).rowcount
            == 1
        )

    def _withdrawn(self, connection: sa.Connection, live: Sequence[Record]) -> list[Record]:
        """Return the tasks that no handler has completed, or can complete any more."""
        leases = leases_of(record for record in live if record.state == State.LEASED)
        completed = self._log.withdraw(connection, leases)
        return [record for record in live if (record.id, record.lease_id) not in completed]

    def _update(
        self, connection: sa.Connection, records: Sequence[Record], changed: dict[str, Any]
    ) -> None:
        if records:
            ids = [record.id for record in records]
            connection.execute(
                sa.update(self._task).where(self._task.c.id.in_(ids)).values(changed)
            )

    def _object(self, connection: sa.Connection, task_id: str, state: State, verb: str) -> None:
        found = self.get(connection, task_id)
        if found.state == State.SCHEDULED and (
            found.method == PULL or found.queue in pulled_queues(connection, self._tables)
        ):
            raise BadTaskStateError(
                f"task {task_id} is of the pull queue {found.queue}: a worker leases it when it is "
                f"due, and may hold its lease now, so it cannot be {verb}"
            )
        if found.state == State.SCHEDULED and found.due_at is None:
            if is_rate_key(found.lock_key):
                raise BadTaskStateError(
                    f"task {task_id} waits for the rate of its key; it cannot be {verb} before its "
                    f"turn: flask taskqueue why {task_id}"
                )
            raise BadTaskStateError(
                f"task {task_id} waits for its key; it cannot be {verb} before the tasks "
                "that hold it have ended"
            )
        raise BadTaskStateError(
            f"task {task_id} is {found.state}; only a {state} task can be {verb}"
        )
